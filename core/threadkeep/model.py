"""What the agent loop asks of a model, what may be given as one, and a model that follows a script."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeGuard, runtime_checkable

from threadkeep.errors import Action, InvalidInput
from threadkeep.messages import Message
from threadkeep.tools import Tool

if TYPE_CHECKING:
    from pydantic_ai.models import Model as PydanticModel


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


Reply: TypeAlias = str | Message
Function: TypeAlias = Callable[[ModelRequest], Reply | Awaitable[Reply]]


class FunctionModel:
    """A model that is a function from the request to the answer: text, or a whole message of role "assistant".

    The function is plain or async; a plain one runs in a thread, and may block.
    """

    def __init__(self, function: Function) -> None:
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


ProviderLike: TypeAlias = "str | PydanticModel"
"""A provider's model: by its name, or as an object of pydantic-ai."""
ModelLike: TypeAlias = "Model | ProviderLike | Function"
"""What `as_model` takes."""


def as_model(
    model: ModelLike,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Model:
    """The model that is meant: by its name, as a pydantic-ai model, as a function, or as a Model, which stays as it is.

    A name is one that pydantic-ai knows, such as "openai:gpt-4o" or "anthropic:claude-sonnet-5"; with `base_url`, it
    is the name of a model at that endpoint, which has to speak OpenAI's protocol (Chat Completions, or Responses for a
    name that begins with "openai-responses:"). `api_key` is for the endpoint; by name alone, the provider's own
    environment variable holds it. `settings` are pydantic-ai's model settings, such as {"temperature": 0}.

    Names and pydantic-ai models need the extra `models`, and each provider its own package. Raises InvalidInput for
    what is none of these, for an unknown name, and naming the package or key that is missing.
    """
    if base_url is None and api_key is not None:
        raise InvalidInput("api_key is for the endpoint of base_url; give that too, or set the provider's variable")
    if isinstance(model, str) or is_pydantic_model(model):
        from threadkeep.providers import ProviderModel

        return ProviderModel(model, base_url=base_url, api_key=api_key, settings=settings)
    if base_url is not None or settings is not None:
        raise InvalidInput(f"base_url and settings are for a model given by its name, not for {model!r}")
    if isinstance(model, Model) and not isinstance(model, type):
        return model
    if callable(model) and not isinstance(model, type):
        return FunctionModel(model)
    raise InvalidInput(
        "a model is a name such as 'openai:gpt-4o', a pydantic-ai model, a function of the request, or an object "
        f"with a method stream(request), not {model!r}"
    )


def is_pydantic_model(model: object) -> TypeGuard[PydanticModel]:
    """Whether it is a model of pydantic-ai, which need not be loaded to find out."""
    return any(
        kind.__module__.startswith("pydantic_ai.models") and kind.__name__ == "Model" for kind in type(model).__mro__
    )


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
