"""Mutants of SQL and Lua, token by token.

What changes are comparisons, arithmetic, constants, and/or; what is dropped are conditions, orders, limits, locks and
statements.

Neither language is parsed. A mutant that the server refuses to load is no store at all, and counts as refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mutant import Mutant


@dataclass(frozen=True, slots=True)
class Language:
    """What may be changed. Patterns are matched without regard to case where the language has none."""

    comment: str
    tokens: Mapping[str, tuple[str, ...]]
    """Token -> what may stand in its place."""
    dropped: Mapping[str, str]
    """Kind -> a pattern of what may be left out."""
    statement: str
    """A pattern of a whole statement that may be left out."""
    nothing: str
    """The statement that does nothing."""
    flags: int = 0


_END_OF_CONDITION: Final = (
    r"(?=\s*(?:\bAND\b|\bOR\b|\bRETURNING\b|\bORDER\b|\bLIMIT\b|\bTHEN\b|\bGROUP\b|\bFOR\b|\)|;))"
)

SQL: Final = Language(
    comment=r"--[^\n]*",
    tokens={
        "<": ("<=", ">"),
        "<=": ("<", ">="),
        ">": (">=", "<"),
        ">=": (">", "<="),
        "=": ("<>",),
        "<>": ("=",),
        "+": ("-",),
        "-": ("+",),
        "AND": ("OR",),
        "OR": ("AND",),
        "IS NULL": ("IS NOT NULL",),
        "IS NOT NULL": ("IS NULL",),
        "IS DISTINCT FROM": ("IS NOT DISTINCT FROM",),
        "IS NOT DISTINCT FROM": ("IS DISTINCT FROM",),
        "NOT EXISTS": ("EXISTS",),
        "EXISTS": ("NOT EXISTS",),
        "GREATEST": ("LEAST",),
        "LEAST": ("GREATEST",),
        "MAX": ("MIN",),
        "MIN": ("MAX",),
        "DESC": ("ASC",),
        "ASC": ("DESC",),
        "TRUE": ("FALSE",),
        "FALSE": ("TRUE",),
    },
    dropped={
        "condition": rf"\b(?:AND|OR) [^();]*?{_END_OF_CONDITION}",
        "order": r"\bORDER BY [^();]*?(?=\s*(?:\bLIMIT\b|\)|;))",
        "limit": r"\bLIMIT [\w]+",
        "lock": r"\bFOR (?:NO KEY )?(?:UPDATE|SHARE)\b(?: OF \w+)?",
    },
    # A statement of a function's body: it follows `;`, BEGIN, THEN, ELSE or LOOP.
    statement=r"(?<=;|N|E|P)\n\s*(?:PERFORM|DELETE|UPDATE|INSERT|SELECT|RETURN|\w+ :=)\b[^;$]*;",
    nothing="\nNULL;",
    flags=re.IGNORECASE,
)

LUA: Final = Language(
    comment=r"--[^\n]*",
    tokens={
        "<": ("<=", ">"),
        "<=": ("<", ">="),
        ">": (">=", "<"),
        ">=": (">", "<="),
        "==": ("~=",),
        "~=": ("==",),
        "+": ("-",),
        "-": ("+",),
        "and": ("or",),
        "or": ("and",),
        "not": ("",),
        "true": ("false",),
        "false": ("true",),
        "math.min": ("math.max",),
        "math.max": ("math.min",),
    },
    dropped={"condition": r"(?<= )(?:and|or) [^()\n]*?(?=\s*(?:\band\b|\bor\b|\bthen\b|\)))"},
    statement=(
        r"(?<=\n)[ ]*(?:redis\.call\([^\n]*\)|write\([^\n]*\)|(?!local)[\w.\[\]#+ ]+ = [^\n{(]+|return [^\n{]+)(?=\n)"
    ),
    nothing="",
)


def mutants(source: str, language: Language) -> list[Mutant]:
    """All mutants of a text, in the order of their places. Comments and quoted strings are left alone."""
    blank = _blanked(source, language)
    return sorted(set(_changes(blank, language)))


def _blanked(source: str, language: Language) -> str:
    """The text with blanks for what is in comments and strings, so that places stay the same."""
    pattern = rf"{language.comment}|'[^'\n]*'"

    def blanks(found: re.Match[str]) -> str:
        text = found.group()
        return f"'{'_' * (len(text) - 2)}'" if text[0] == "'" else " " * len(text)

    return re.sub(pattern, blanks, source)


def _changes(source: str, language: Language) -> Iterator[Mutant]:
    # The longest first: `<=` is no `<`.
    for found in re.finditer(
        "|".join(map(_token, sorted(language.tokens, key=len, reverse=True))), source, language.flags
    ):
        key = found.group() if not language.flags else " ".join(found.group().upper().split())
        for new in language.tokens.get(key, ()):
            yield Mutant(*found.span(), new, "token")
    for found in re.finditer(r"(?<![\w.$'])\d+(?![\w.'])", source):
        number = int(found.group())
        yield Mutant(*found.span(), str(number + 1), "constant")
        if number:
            yield Mutant(*found.span(), str(number - 1), "constant")
    for kind, pattern in language.dropped.items():
        for found in re.finditer(pattern, source, language.flags):
            yield Mutant(*found.span(), "", f"{kind} dropped")
    for found in re.finditer(language.statement, source, language.flags):
        yield Mutant(*found.span(), language.nothing, "statement dropped")


def _token(token: str) -> str:
    pattern = re.escape(token).replace(r"\ ", r"\s+")
    if token[0].isalpha():
        return rf"\b{pattern}\b"
    # An operator by itself: not part of `:=`, `=>`, `->`, `..` or of another one.
    return rf"(?<![-<>=~:!+.]){pattern}(?![-<>=+.])"
