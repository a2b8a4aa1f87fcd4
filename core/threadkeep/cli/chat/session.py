"""One conversation at the terminal: turns, and the commands that begin with a slash."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, nullcontext
from datetime import datetime
from textwrap import shorten
from typing import Final

import click

from threadkeep.agent import (
    Agent,
    Event,
    MemoryOptions,
    ReasoningDelta,
    TextDelta,
    TitleChanged,
    ToolAnswered,
    ToolCalled,
    Waiting,
    WorkingMemoryChanged,
)
from threadkeep.cli.chat.terminal import Screen, each_line, on_interrupt, open_lines
from threadkeep.cli.options import without_secrets
from threadkeep.cli.output import shown_time, visible_id, write_table
from threadkeep.errors import MessageNotFound, ThreadkeepError
from threadkeep.handles import Memory, ThreadHandle, ThreadInfo
from threadkeep.messages import Message
from threadkeep.models import Model
from threadkeep.port import DEFAULT_URL, new_id

COMMANDS: Final = {
    "/threads": "list the threads, the last touched first",
    "/switch": "go on in another thread: its number in that list, or its id",
    "/new": "begin a new thread, with a title if one follows",
    "/rename": "give this thread the title that follows",
    "/fork": "go on in a copy of this thread, with a title if one follows",
    "/memory": "show the working memory of this thread and of the resource",
    "/history": "show the newest messages, 10 or as many as follow",
    "/retry": "ask again for the answer to the last message",
    "/help": "show this",
    "/quit": "end, as Ctrl-D does",
}

_NAME: Final = 24
"""Characters of a title or id in the prompt."""

_TITLE: Final = 60
"""Characters of a title that nobody gave."""

_HISTORY: Final = 10
_MOST: Final = 1000
_LISTED: Final = 30


def current_time() -> str:
    """The date and the time of day, here."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def first_words(said: Sequence[Message]) -> str:
    """A thread's title: how it began."""
    text = " ".join(" ".join(message.text for message in said).split())
    return shorten(text, _TITLE, placeholder="…") or text[:_TITLE]


class Session:
    """A person at a terminal, talking as one resource."""

    def __init__(
        self,
        memory: Memory,
        resource_id: str,
        thread_id: str | None,
        model: Model,
        instructions: str | None,
        url: str,
    ) -> None:
        self._resource = memory.resource(resource_id)
        self._thread = self._resource.thread(new_id() if thread_id is None else thread_id)
        self._agent = Agent(
            model=model,
            memory=memory,
            instructions=instructions,
            tools=[current_time],
            options=MemoryOptions(working_memory="resource"),
            title=first_words,
        )
        self._url = url
        self._screen = Screen()
        self._title: str | None = None
        self._known: list[str] = []
        """Thread ids in the order in which they were last listed."""
        self._lines = open_lines(COMMANDS)
        self._stop: Callable[[], object] | None = None
        """What Ctrl-C does now; None where it does nothing."""
        self._asked: Message | None = None
        """What was asked last in this thread, in this session; perhaps it could not be stored."""

    async def run(self) -> None:
        """Talk until the input ends. Raises what opening the store and the thread raises."""
        # Where lines are edited, Ctrl-C is a key while one is read and a signal otherwise: one handler for the session.
        signals = on_interrupt(self._interrupt) if self._lines.edited else nullcontext()
        with signals:
            await self._talk()

    def _interrupt(self) -> None:
        if self._stop is not None:
            self._stop()

    async def _talk(self) -> None:
        self._screen.note(
            f"{self._url_shown()}, resource {visible_id(self._resource.resource_id)}; /help lists commands"
        )
        await self._enter(self._thread)
        async for line in each_line(self._lines, self._prompt):
            if line.strip() == "/quit":
                break
            try:
                if line.startswith("/"):
                    await self._command(line)
                else:
                    await self._answer(Message.user(line, id=new_id()))
            except ThreadkeepError as error:
                self._screen.note(str(error), "red")
        self._screen.close()
        if await self._thread.exists():
            self._screen.note(f"To come back: {self._come_back()}")

    def _prompt(self) -> str:
        name = self._title or self._thread.thread_id
        if len(name) > _NAME:
            # Made ids begin alike, titles do not.
            name = f"{name[: _NAME - 1]}…" if self._title else f"…{name[-8:]}"
        return f"{visible_id(name)}> "

    def _url_shown(self) -> str:
        return without_secrets(self._url)

    def _come_back(self) -> str:
        arguments = ["--resource", self._resource.resource_id, "--thread", self._thread.thread_id]
        if self._url != DEFAULT_URL:
            arguments += ["--store", self._url_shown()]
        return f"threadkeep chat {' '.join(shlex.quote(each) for each in arguments)}"

    async def _enter(self, thread: ThreadHandle) -> None:
        snapshot = await thread.load(last=_HISTORY, pair_safe=True)
        self._thread = thread
        self._asked = None
        self._title = snapshot.info.title if snapshot.info else None
        if snapshot.info is None:
            self._screen.note(f"a new thread, {visible_id(thread.thread_id)}")
            return
        self._screen.note(f"thread {visible_id(thread.thread_id)}, up to position {snapshot.tail.position}")
        for message in snapshot.messages:
            self._screen.message(message)

    async def _answer(self, message: Message) -> None:
        """One turn. Ctrl-C ends it, and leaves what was stored by then."""
        self._asked = message
        turn = asyncio.ensure_future(self._stream(message))
        stopped = False

        def stop() -> None:
            nonlocal stopped
            if not stopped:
                # Once: a second time would cancel the storing of what has been said.
                stopped = True
                turn.cancel()

        self._stop = stop
        # Where lines are edited, `run` has set the handler.
        signals = nullcontext() if self._lines.edited else on_interrupt(self._interrupt)
        with signals:
            try:
                await turn
            except asyncio.CancelledError:
                if not stopped:
                    raise
                self._screen.note(f"stopped; {await self._kept()}", "yellow")
            except ThreadkeepError as error:
                self._screen.note(f"{error}\n{await self._kept()}", "red")
            finally:
                self._stop = None
                self._screen.close()

    async def _kept(self) -> str:
        """What has become of the question whose answer did not come to an end."""
        assert self._asked is not None  # noqa: S101 - this is said of a turn
        try:
            await self._thread.messages(around=self._asked.id, last=0, first=0)
        except MessageNotFound:
            return "nothing was stored; /retry sends it again"
        except ThreadkeepError:
            return "whether your message was stored is not known; /retry sends it again"
        return "your message is kept; /retry asks again"

    async def _stream(self, message: Message) -> None:
        thread = self._thread
        events = self._agent.stream(message, resource_id=thread.resource_id, thread_id=thread.thread_id)
        async with aclosing(events):
            async for event in events:
                self._show(event)

    def _show(self, event: Event) -> None:
        match event:
            case Waiting():
                self._screen.note("waiting for another run in this thread; Ctrl-C stops", "yellow")
            case TextDelta(text):
                self._screen.text(text)
            case ReasoningDelta(text):
                self._screen.reasoning(text)
            case ToolCalled(call):
                self._screen.call(call)
            case ToolAnswered(result):
                self._screen.result(result)
            case WorkingMemoryChanged(of, memory):
                self._screen.note(f"working memory of the {of}, version {memory.version}; /memory shows it")
            case TitleChanged(title):
                self._title = title

    async def _command(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        commands: dict[str, Callable[[str], Awaitable[None]]] = {
            "/threads": self._list,
            "/switch": self._switch,
            "/new": self._new,
            "/rename": self._rename,
            "/fork": self._fork,
            "/memory": self._show_memory,
            "/history": self._show_history,
            "/retry": self._retry,
            "/help": self._help,
        }
        if word not in commands:
            self._screen.note(f"there is no command {visible_id(word)}; /help lists them", "red")
            return
        await commands[word](rest.strip())

    async def _list(self, _: str) -> None:
        page = await self._resource.threads_page(order="active", limit=_LISTED)
        self._known = [info.thread_id for info in page.items]
        rows = [self._row(number, info) for number, info in enumerate(page.items, 1)]
        if not rows:
            self._screen.note("no threads yet")
            return
        write_table(["", "thread", "title", "position", "last active"], rows)
        if page.cursor is not None:
            self._screen.note(f"the {_LISTED} last touched; threadkeep threads lists all")

    def _row(self, number: int, info: ThreadInfo) -> tuple[str, ...]:
        here = "*" if info.thread_id == self._thread.thread_id else " "
        title = "" if info.title is None else visible_id(info.title)
        return (
            f"{here}{number}",
            visible_id(info.thread_id),
            title,
            str(info.position),
            shown_time(info.updated_at),
        )

    async def _switch(self, which: str) -> None:
        if not which:
            self._screen.note("say which thread: its number in /threads, or its id", "red")
            return
        thread_id = which
        if which.isdecimal() and 1 <= int(which) <= len(self._known):
            thread_id = self._known[int(which) - 1]
        thread = self._resource.thread(thread_id)
        if not await thread.exists():
            self._screen.note(f"there is no thread {visible_id(thread_id)}; /threads lists them", "red")
            return
        await self._enter(thread)

    async def _new(self, title: str) -> None:
        thread = self._resource.thread(new_id())
        if title:
            await thread.create(title=title)
        await self._enter(thread)

    async def _rename(self, title: str) -> None:
        if not title:
            self._screen.note("say the title: /rename TITLE", "red")
            return
        self._title = (await self._thread.rename(title)).title
        self._screen.note(f"this thread is called {visible_id(title)} now")

    async def _fork(self, title: str) -> None:
        fork = await self._thread.fork(title=title or None)
        await self._enter(fork)

    async def _show_memory(self, _: str) -> None:
        snapshot = await self._thread.load(last=0)
        for name, held in (("thread", snapshot.working_memory), ("resource", snapshot.resource_memory)):
            if held.value is None:
                self._screen.note(f"{name}: nothing")
                continue
            value = held.value
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
            self._screen.note(f"{name}, version {held.version}:\n{text}")

    async def _show_history(self, count: str) -> None:
        if count and not (count.isdecimal() and len(count) < 5 and 0 < int(count) <= _MOST):
            self._screen.note(f"say how many messages, from 1 to {_MOST}: /history 20", "red")
            return
        for message in await self._thread.messages(last=int(count or _HISTORY)):
            self._screen.message(message)

    async def _retry(self, _: str) -> None:
        asked = self._asked
        if asked is None:
            newest = await self._thread.messages(last=_MOST)
            asked = next((message for message in reversed(newest) if message.role == "user"), None)
        if asked is None:
            self._screen.note("nothing was asked yet", "red")
            return
        await self._answer(asked)

    async def _help(self, _: str) -> None:
        width = max(len(word) for word in COMMANDS)
        for word, told in COMMANDS.items():
            click.echo(f"  {word:<{width}}  {told}")
        click.echo(f"  {'Ctrl-C':<{width}}  stop an answer")
