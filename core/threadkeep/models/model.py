"""What the agent loop asks of a model, what may be given as one, and a model that follows a script."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from threadkeep.errors import Action
from threadkeep.messages.model import Message
from threadkeep.models.tools import Tool


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the assistant's text, as it comes."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of what the model thinks, as it comes."""

    text: str


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a model: instructions that are not part of the thread, the messages so far, and the tools."""

    instructions: str | None
    messages: Sequence[Message]
    tools: Sequence[Tool]


@runtime_checkable
class Model(Protocol):
    """A language model, or what stands for one."""

    def stream(self, request: ModelRequest) -> AsyncIterator[TextDelta | ReasoningDelta | Message]:
        """Answer a request: any number of deltas, then, last, the whole message, of role "assistant".

        The message keeps its id. Whatever is raised reaches the agent's caller as the cause of ModelFailed; a
        ModelError says there what to do next.
        """
        ...


class ModelError(Exception):
    """What a model raises to say why it failed, and what to do: the text and action of the ModelFailed to come.

    `retry_after` is how many seconds its provider wants to be left alone, where it said.
    """

    def __init__(self, reason: str, action: Action = Action.REPEAT, retry_after: float | None = None) -> None:
        super().__init__(reason, action, retry_after)
        self.reason = reason
        self.action = action
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.reason


TextOrMessage: TypeAlias = str | Message
"""An answer: text, or a whole message of role "assistant"."""
ModelFunction: TypeAlias = Callable[[ModelRequest], TextOrMessage | Awaitable[TextOrMessage]]
"""What a `FunctionModel` calls."""


class FunctionModel:
    """A model that is a function from the request to the answer: text, or a whole message of role "assistant".

    The function is plain or async; a plain one runs in a thread, and may block.
    """

    def __init__(self, function: ModelFunction) -> None:
        self._function = function

    async def stream(self, request: ModelRequest) -> AsyncIterator[TextDelta | ReasoningDelta | Message]:
        """See `Model.stream`. The answer comes whole."""
        if inspect.iscoroutinefunction(self._function):
            answer = await self._function(request)
        else:
            answer = await asyncio.to_thread(self._function, request)
            if inspect.isawaitable(answer):
                answer = await answer
        yield Message.assistant(answer) if isinstance(answer, str) else answer
