"""What commands write: JSON lines and text to stdout, notices to stderr, and never a terminal's control codes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rich.progress import Progress

# C0 but for tab and newline, DEL, C1, and the marks that reorder what follows (Unicode annex 9).
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def notice(text: str) -> None:
    """One line for the person at the terminal, on stderr."""
    click.echo(text, err=True)


def write_json_line(value: Mapping[str, Any], file: IO[bytes] | None = None) -> None:
    """One line of JSON in UTF-8, whatever the terminal's encoding is; to stdout unless a file is given."""
    line = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    (file or sys.stdout.buffer).write(line.encode() + b"\n")


def visible_id(text: str) -> str:
    """An id or title as it is, or as a JSON string where blanks at its ends or invisible characters would mislead."""
    if text.isprintable() and text and text == text.strip() and text[0] != '"':
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in quoted)


def visible(text: str) -> str:
    """A text of several lines with its control characters written as escapes."""
    return _CONTROLS.sub(lambda found: ascii(found.group())[1:-1], text)


def shown_time(moment: datetime) -> str:
    """An instant in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def write_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout. Nothing is cut off: a terminal folds long cells, a file gets them in one line."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 100_000)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])
    console.print(table)


def progress_bar(unit: str) -> Progress:
    """A bar on stderr, "n of m" with the time taken, for a task to be added to; nothing where there is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(unit), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
