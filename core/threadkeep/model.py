"""What the agent loop asks of a model, and a model that follows a script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from threadkeep.messages import Message
from threadkeep.tools import Tool


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

        The message keeps its id. Whatever is raised reaches the agent's caller as the cause of ModelFailed.
        """
        ...


Reply: TypeAlias = str | Message
Script: TypeAlias = Iterable[Reply | Exception] | Callable[[ModelRequest], Reply]


class ScriptedModel:
    """A model whose answers are written down: for tests, for the demo, for replaying what was recorded.

    `script` is a list of answers given one after another, over all threads (an exception in it is raised), or a
    function from the request to the answer. An answer is text, or a whole message of role "assistant".
    """

    def __init__(self, script: Script) -> None:
        self._answer = script if callable(script) else None
        self._answers = iter(()) if callable(script) else iter(script)

    async def stream(self, request: ModelRequest) -> AsyncIterator[TextDelta | Message]:
        """See `Model.stream`. Text comes word by word. Raises LookupError when the script has ended."""
        if self._answer is not None:
            answer: Reply | Exception = self._answer(request)
        else:
            try:
                answer = next(self._answers)
            except StopIteration:
                raise LookupError("the script of this ScriptedModel has no answer left; add one") from None
        if isinstance(answer, Exception):
            raise answer
        message = Message.assistant(answer) if isinstance(answer, str) else answer
        for index, word in enumerate(message.text.split(" ")):
            if word or index:
                yield TextDelta(f" {word}" if index else word)
        yield message
