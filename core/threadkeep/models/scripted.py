"""A model that follows a script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeAlias

from threadkeep.messages.model import Message
from threadkeep.models.model import ModelRequest, TextDelta, TextOrMessage

Script: TypeAlias = Iterable[TextOrMessage | Exception] | Callable[[ModelRequest], TextOrMessage]


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
            answer: TextOrMessage | Exception = self._answer(request)
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
