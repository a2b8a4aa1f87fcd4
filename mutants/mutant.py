"""A mutant: one small change of one file."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """Put `text` in the place of what stands from `start` to `end` of a file's text, counted in characters."""

    start: int
    end: int
    text: str
    kind: str
    """What was changed, in words."""

    def apply(self, source: str) -> str:
        """The file's text with the change."""
        return source[: self.start] + self.text + source[self.end :]

    def shown(self, source: str) -> str:
        """Line, what stood there and what stands there now, each in one line."""
        line = source.count("\n", 0, self.start) + 1
        old, new = (" ".join(text.split()) for text in (source[self.start : self.end], self.text))
        return f"{line}: {self.kind}: `{_short(old)}` -> `{_short(new)}`"


def _short(text: str) -> str:
    return text if len(text) <= 70 else f"{text[:67]}..."
