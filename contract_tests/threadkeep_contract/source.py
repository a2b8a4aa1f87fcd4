"""Values as Python source, and source and comments laid out in lines that fit a terminal.

A program that is printed, copied and run must survive it: no comment is left to a terminal to wrap, and no character
stands in a comment that a Python file may not hold.
"""

from __future__ import annotations

import io
import re
import textwrap
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields, is_dataclass
from typing import Any, Final

from threadkeep.port import Changes

WIDTH: Final = 96
"""Columns of a printed program's lines, as far as they can be broken."""

_RUN: Final = re.compile(r"(.)\1{79,}", re.DOTALL)
_DIGEST: Final = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{56}\b")


class Writer:
    """Writes values as source: fields at their defaults left out, long runs of one character as a product."""

    def write(self, value: object) -> str:
        """The source of a value."""
        match value:
            case str():
                return self.text(value)
            case BaseException():
                return f"{type(value).__name__}({', '.join(self.write(arg) for arg in value.args)})"
            case tuple() if hasattr(value, "_fields"):
                defaults: Mapping[str, object] = type(value)._field_defaults  # type: ignore[attr-defined] # a NamedTuple
                return self._construction(value, value._fields, defaults)
            case tuple():
                return f"({', '.join(self.write(item) for item in value)}{',' if len(value) == 1 else ''})"
            case list():
                return f"[{', '.join(self.write(item) for item in value)}]"
            case dict():
                return "{" + ", ".join(f"{self.write(key)}: {self.write(item)}" for key, item in value.items()) + "}"
        if is_dataclass(value) and not isinstance(value, type):
            given = {
                field.name: field.default_factory() if field.default_factory is not NO_DEFAULT else field.default
                for field in fields(value)
                if field.default is not NO_DEFAULT or field.default_factory is not NO_DEFAULT
            }
            return self._construction(value, [field.name for field in fields(value)], given)
        return repr(value)

    def text(self, value: str) -> str:
        """The source of a text."""
        pieces: list[str] = []
        start = 0
        for run in _RUN.finditer(value):
            if run.start() > start:
                pieces.append(repr(value[start : run.start()]))
            pieces.append(f"{run.group(1)!r} * {run.end() - run.start()}")
            start = run.end()
        if not pieces:
            return repr(value)
        if start < len(value):
            pieces.append(repr(value[start:]))
        return f"({' + '.join(pieces)})"

    def _construction(self, value: Any, names: Sequence[str], defaults: Mapping[str, object]) -> str:
        parts = []
        for name in names:
            item = getattr(value, name)
            if name not in defaults:
                parts.append(f"{name}={self.write(item)}" if isinstance(value, Changes) else self.write(item))
            elif item != defaults[name]:
                parts.append(f"{name}={self.write(item)}")
        return f"{type(value).__name__}({', '.join(parts)})"


def source(value: object) -> str:
    """A value as Python source."""
    return Writer().write(value)


def visible(text: str) -> str:
    """The text with everything escaped that does not print, so that it stays on its line."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def without_digests(text: str) -> str:
    """The text with digests cut to their first 8 digits, which tell most of them apart."""
    return _DIGEST.sub(r"\1…", text)


def shortened(text: str, width: int) -> str:
    """The text on one line of at most `width` characters: digests cut to 8 digits, and its middle left out."""
    short = visible(without_digests(" ".join(text.split())))
    if len(short) <= width:
        return short
    end = width // 3
    return f"{short[: width - end - 1]}…{short[-end:]}"


def comments(text: str, width: int = WIDTH) -> list[str]:
    """A text as comment lines of at most `width` columns."""
    lines = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip(" ")))
        wrapped = textwrap.wrap(visible(line), width - 2, subsequent_indent=indent, break_on_hyphens=False)
        lines += [f"# {piece}" for piece in wrapped or [""]]
    return [line.rstrip() for line in lines]


def laid_out(code: str, width: int = WIDTH) -> list[str]:
    """An expression or simple statement on lines of at most `width` columns, as far as brackets and texts allow it."""
    if len(code) <= width:
        return [code]
    opening, commas, closing = _outermost(code)
    if closing > opening + 1:
        starts = [opening + 1, *(comma + 1 for comma in commas)]
        items = [code[start:end].strip() for start, end in zip(starts, [*commas, closing], strict=True)]
        # A pair of brackets around one item that is no argument may not get a comma: it would become a tuple.
        comma = "," if commas or _is_call(code[:opening]) else ""
        lines = [code[: opening + 1]]
        for item in items:
            if item:
                *first, last = laid_out(item, width - 5)
                lines += [f"    {line}" for line in [*first, last + comma]]
        return [*lines, code[closing:]]
    return _broken_text(code, width)


def _is_call(before: str) -> bool:
    return bool(re.search(r"[\w)\]]$", before)) and not re.search(r"\b(await|return|in|not)\s*$", before)


def _outermost(code: str) -> tuple[int, list[int], int]:
    """Where the first bracket that holds much opens, its own commas, and where it closes; 0 and 0 without one."""
    depth, opening, closing = 0, 0, 0
    commas: list[int] = []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type != tokenize.OP:
            continue
        column = token.start[1]
        if token.string in "([{":
            if depth == 0:
                opening, commas = column, []
            depth += 1
        elif token.string in ")]}":
            depth -= 1
            if depth == 0:
                closing = column
                if closing - opening > len(code) // 3:
                    return opening, commas, closing
        elif token.string == "," and depth == 1:
            commas.append(column)
    return (opening, commas, closing) if depth == 0 and closing else (0, [], 0)


def _broken_text(code: str, width: int) -> list[str]:
    """Code that ends in a long text, with the text in pieces, one a line."""
    found = [token for token in tokenize.generate_tokens(io.StringIO(code).readline) if token.type == tokenize.STRING]
    if not found or found[-1].end[1] != len(code) or len(found[-1].string) < width // 2:
        return [code]
    start = found[-1].start[1]
    value: str = eval(found[-1].string, {})  # a literal that repr() has made
    size = max(20, (width - 6) // 2)
    pieces, line = [], ""
    for letter in value:
        if len(repr(line + letter)) > width - 6 and len(line) >= size // 4:
            pieces.append(line)
            line = ""
        line += letter
    pieces.append(line)
    return [f"{code[:start]}(", *(f"    {piece!r}" for piece in pieces), ")"]
