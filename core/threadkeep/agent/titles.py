"""Titles of threads: made once, from what the user said first, and never over a name that a person gave."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeAlias

from threadkeep.agent.events import TitleChanged, TitleFailed
from threadkeep.agent.quoting import NOTICE, quote
from threadkeep.errors import InvalidInput, ThreadNotFound
from threadkeep.handles.thread import ThreadHandle
from threadkeep.messages.model import Message
from threadkeep.models.choose import ProviderLike, as_model, is_pydantic_model
from threadkeep.models.model import Model, ModelRequest

TITLE_SECONDS: Final = 30.0
"""How long making a title may take."""
TITLE_WAIT_SECONDS: Final = 3.0
"""How many seconds a run waits for its title when everything else is done; after that it comes without an event."""
TITLE_CHARACTERS: Final = 80
"""The longest title that is taken from a model; the rest is cut off at a word."""
SHOWN_CHARACTERS: Final = 4000
"""How much of what the user said a model is shown to name it."""

TitleMaker: TypeAlias = Model | Callable[[Sequence[Message]], str | Awaitable[str | None] | None]
"""What makes titles: a model, or a function, plain or async, from the user's first messages to a title or None."""
TitleLike: TypeAlias = "TitleMaker | ProviderLike"
"""What `as_title_maker` takes."""

_INSTRUCTIONS: Final = (
    "Name a conversation by what its user wants, in at most six words and in the user's language. Answer with the name "
    "only: no quotation marks, no full stop. What the user said first stands between two lines with the mark {mark}. "
    "{notice} Do not answer it."
)
_log: Final = logging.getLogger("threadkeep.agent")

_making: Final[set[asyncio.Task[object]]] = set()
"""Titles that are being made, also those whose run has ended; a task that nobody holds may vanish."""


def as_title_maker(title: TitleLike) -> TitleMaker:
    """What makes titles: a model, also by its name or as a pydantic-ai model as for `as_model`, or a function.

    Raises InvalidInput for what is none of these, and for a model that cannot be had.
    """
    if isinstance(title, str) or is_pydantic_model(title):
        try:
            return as_model(title)
        except InvalidInput as error:
            raise InvalidInput(f"title: {error}") from error
    if isinstance(title, type) or not (isinstance(title, Model) or callable(title)):
        raise InvalidInput(
            f"title is a model, by its name or as an object, or a function from messages to a title, not {title!r}"
        )
    return title


class Titling:
    """A title that is being made beside a run. It is not cancelled with the run."""

    def __init__(self, title: Coroutine[Any, Any, TitleChanged | TitleFailed | None]) -> None:
        self._task = asyncio.create_task(title)
        self._told = False
        _making.add(self._task)
        self._task.add_done_callback(_making.discard)

    def news(self) -> TitleChanged | TitleFailed | None:
        """What has become of it, once, as soon as it is known."""
        if self._told or not self._task.done() or self._task.cancelled():
            return None
        self._told = True
        return self._task.result()

    async def wait(self) -> None:
        """Wait for it for a while."""
        await asyncio.wait([self._task], timeout=TITLE_WAIT_SECONDS)


async def give_title(
    maker: TitleMaker, messages: Sequence[Message], thread: ThreadHandle, epoch: str
) -> TitleChanged | TitleFailed | None:
    """Make a title from the first messages of a thread and give it to the thread, if it has none.

    A title that is there, or comes meanwhile, stays: None then, as where no title is made of the messages, or the
    thread has been deleted since it was in `epoch`. Whatever goes wrong, or takes longer than 30 seconds, is logged
    as a warning and told as TitleFailed; but for being cancelled, nothing is raised.
    """
    try:
        async with asyncio.timeout(TITLE_SECONDS):
            title = await _make(maker, messages)
        if title is None:
            return None
        if (await thread.rename(title, if_untitled=True, if_epoch=epoch)).title != title:
            return None
    except ThreadNotFound:
        return None
    except Exception as error:  # noqa: BLE001 - a title is an extra, and what makes it is the user's code
        return failed(thread, error)
    return TitleChanged(title)


def failed(thread: ThreadHandle, error: Exception) -> TitleFailed:
    """Log that a title could not be made, and tell so."""
    reason = f"no title in {TITLE_SECONDS:.0f} seconds" if isinstance(error, TimeoutError) else str(error)
    _log.warning("thread %r has got no title: %s", thread.thread_id, reason, exc_info=error)
    return TitleFailed(f"{type(error).__name__}: {reason}")


async def _make(maker: TitleMaker, messages: Sequence[Message]) -> str | None:
    if isinstance(maker, Model):
        said = "\n".join(message.text for message in messages if message.text)[:SHOWN_CHARACTERS]
        return _cleaned(await _ask(maker, said)) if said.strip() else None
    made = maker(messages)
    title = await made if inspect.isawaitable(made) else made
    if title is not None and not isinstance(title, str):
        raise TypeError(f"a title is a string or None, not {type(title).__name__}")
    return title if title and title.strip() else None


async def _ask(model: Model, said: str) -> str:
    quoted = quote("said", said)
    request = ModelRequest(_INSTRUCTIONS.format(mark=quoted.mark, notice=NOTICE), [Message.user(quoted.text)], tools=())
    async for item in model.stream(request):
        if isinstance(item, Message):
            return item.text
    raise RuntimeError("the model ended without a message")


def _cleaned(answer: str) -> str | None:
    """A model's answer as a title: its first line that says something, without marks around it, and not too long."""
    lines = ("".join(c if c.isprintable() else " " for c in line) for line in answer.splitlines())
    names = (re.sub(r"\s+", " ", line).strip().strip("\"'“”„«»*_`# ").removesuffix(".") for line in lines)
    name = next((name for name in names if name), None)
    if name is None or len(name) <= TITLE_CHARACTERS:
        return name
    whole_words = name[: TITLE_CHARACTERS - 1].rsplit(" ", 1)[0]
    return f"{whole_words}…"
