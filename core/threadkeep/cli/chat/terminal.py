"""Reading lines and showing what happens, in a terminal or without one."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

import click

from threadkeep.cli.output import visible
from threadkeep.messages import INTERRUPTED, Message, ToolCallPart, ToolResultPart

_SHOWN: Final = 300
"""Characters of a tool's arguments or result that are shown."""


class Lines(Protocol):
    """Where lines come from."""

    edited: bool
    """Whether Ctrl-C reaches `read` as a key, and not as a signal."""

    async def read(self, prompt: str) -> str | None:
        """The next line, None at the end. Raises KeyboardInterrupt for Ctrl-C."""
        ...


class PipedLines:
    """The lines of an input that is no terminal."""

    edited = False

    async def read(self, prompt: str) -> str | None:
        """See `Lines.read`; nobody sees a prompt here."""
        line = await asyncio.to_thread(sys.stdin.readline)
        return line.rstrip("\n") if line else None


class EditedLines:
    """Lines edited in a terminal, with a history of this session and the commands completed."""

    edited = True

    def __init__(self, commands: Mapping[str, str]) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.history import InMemoryHistory

        # Only a word that begins a line is a command.
        words = WordCompleter(list(commands), meta_dict=dict(commands), sentence=True)
        self._session: PromptSession[str] = PromptSession(
            history=InMemoryHistory(), completer=words, complete_while_typing=False
        )

    async def read(self, prompt: str) -> str | None:
        """See `Lines.read`."""
        from prompt_toolkit.formatted_text import FormattedText

        try:
            # With a handler of its own, a signal that comes as the prompt begins or ends shows a traceback.
            return await self._session.prompt_async(FormattedText([("bold", prompt)]), handle_sigint=False)
        except EOFError:
            return None


def open_lines(commands: Mapping[str, str]) -> Lines:
    """Edited lines in a terminal, plain ones without."""
    return EditedLines(commands) if sys.stdin.isatty() and sys.stdout.isatty() else PipedLines()


@contextmanager
def on_interrupt(stop: Callable[[], object]) -> Iterator[None]:
    """What Ctrl-C does meanwhile. Where an event loop cannot have it so (Windows), it ends the program as ever."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGINT, stop)
    except (NotImplementedError, RuntimeError):
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


class Screen:
    """What is shown. Models and stores may hold a terminal's control codes: they are shown as escapes."""

    def __init__(self) -> None:
        self._open = ""
        """The kind of text whose line is still open: "text" or "reasoning"."""

    def text(self, piece: str) -> None:
        """A piece of an answer."""
        self._begin("text")
        click.echo(visible(piece), nl=False)
        sys.stdout.flush()

    def reasoning(self, piece: str) -> None:
        """A piece of what the model thinks."""
        self._begin("reasoning")
        click.echo(click.style(visible(piece), dim=True, italic=True), nl=False)
        sys.stdout.flush()

    def call(self, call: ToolCallPart) -> None:
        """A tool is about to run."""
        self.note(f"-> {call.name}({_short(call.arguments)})", "cyan")

    def result(self, result: ToolResultPart) -> None:
        """A tool has run."""
        name = result.name or result.tool_call_id
        self.note(f"<- {name}: {_short(result.result)}", "red" if result.is_error else "cyan")

    def note(self, text: str, color: str = "green") -> None:
        """A line about what happens."""
        self.close()
        click.echo(click.style(visible(text), fg=color))

    def close(self) -> None:
        """End the line of an answer."""
        if self._open:
            click.echo()
        self._open = ""

    def message(self, message: Message) -> None:
        """A stored message."""
        if message.role == "user":
            self.note(f"> {message.text}", "white")
            return
        for call in message.tool_calls:
            self.call(call)
        for result in message.tool_results:
            self.result(result)
        if message.text:
            self.text(message.text)
            self.close()
        if INTERRUPTED in message.metadata:
            self.note(f"({message.metadata[INTERRUPTED]}, not to the end)", "yellow")

    def _begin(self, kind: str) -> None:
        if self._open != kind:
            self.close()
        self._open = kind


async def each_line(lines: Lines, prompt: Callable[[], str]) -> AsyncIterator[str]:
    """The lines that say something. Ctrl-C empties the line that is being written."""
    while True:
        try:
            line = await lines.read(prompt())
        except KeyboardInterrupt:
            continue
        if line is None:
            return
        if line.strip():
            yield line


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
