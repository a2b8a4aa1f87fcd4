"""One call of a model: its pieces as they come, and what of them is kept if it does not come to an end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Any

from threadkeep.errors import ModelFailed, ThreadkeepError
from threadkeep.messages.model import Message, ReasoningPart, TextPart
from threadkeep.models.model import Model, ModelError, ModelRequest, ReasoningDelta, TextDelta
from threadkeep.telemetry import RunSpan


class Answer:
    """One call of a model. `message` is its answer, None until it is there."""

    def __init__(self, agent: str, model: Model, span: RunSpan) -> None:
        self.message: Message | None = None
        self._agent = agent
        self._model = model
        self._span = span
        self._text: list[str] = []
        self._reasoning: list[str] = []

    async def events(self, request: ModelRequest) -> AsyncGenerator[TextDelta | ReasoningDelta, None]:
        """Ask the model, and give its pieces. Raises ModelFailed, with the model's error as the cause."""
        message: object = None
        try:
            stream = self._model.stream(request)
            with self._span.chat(request) as chat:
                async with _closing(stream), aclosing(chat.each(stream)) as items:
                    async for item in items:
                        if isinstance(item, TextDelta):
                            self._text.append(item.text)
                            yield item
                        elif isinstance(item, ReasoningDelta):
                            self._reasoning.append(item.text)
                            yield item
                        else:
                            message = item
                if isinstance(message, Message):
                    chat.answered(message)
        except ThreadkeepError:
            raise
        except ModelError as error:
            failed = ModelFailed(self._agent, error.reason)
            failed.action = error.action
            failed.retry_after = error.retry_after
            raise failed from error
        except Exception as error:
            raise ModelFailed(self._agent, f"{type(error).__name__}: {error}") from error
        if not isinstance(message, Message) or message.role != "assistant":
            raise ModelFailed(self._agent, f"it ended with {message!r} and not with a message of role 'assistant'")
        self.message = message
        if message.text and not self._text:
            yield TextDelta(message.text)

    def partial(self) -> Message | None:
        """What has been said by now, None where that is nothing."""
        parts: list[Any] = []
        if self._reasoning:
            parts.append(ReasoningPart(text="".join(self._reasoning)))
        if self._text:
            parts.append(TextPart(text="".join(self._text)))
        return Message(role="assistant", parts=parts) if parts else None


def _closing(stream: AsyncIterator[Any]) -> AbstractAsyncContextManager[Any]:
    """Ends a model's stream with the run, where it can be ended."""
    return aclosing(stream) if hasattr(stream, "aclose") else nullcontext()
