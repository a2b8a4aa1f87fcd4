"""Mutants of SQL and Lua, token by token.

What changes are comparisons, bounds, arithmetic, constants, and/or, conditions and commands; what is dropped are
conditions, orders, limits, locks, conflict clauses and statements; what is swapped are columns and arguments that stand
side by side.

Neither language is parsed: a parser's tree does not tell how to print the text back as it was. A mutant that the server
refuses to load is no store at all, and counts as refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mutant import Mutant


@dataclass(frozen=True, slots=True)
class Language:
    """What may be changed. Patterns are matched without regard to case where the language has none."""

    comment: str
    tokens: Mapping[str, Sequence[str]]
    """Token -> what may stand in its place."""
    strings: Mapping[str, Sequence[str]]
    """A string's text -> what it may be instead. Others are left alone."""
    patterns: Sequence[tuple[str, str, str]]
    """What kind of change, a pattern of what is replaced, in which strings are blank, and what takes its place.
    `\\1` in it stands for the first group as the file has it."""
    flags: int = 0


_IN_SQL: Final = r"(?:[^();]|\((?:[^()]|\([^()]*\))*\))*?"
"""As little as possible of an SQL statement, with parentheses whole."""
_END: Final = r"(?=\s*(?:\bAND\b|\bOR\b|\bRETURNING\b|\bORDER\b|\bLIMIT\b|\bTHEN\b|\bGROUP\b|\bFOR\b|\)|;))"
"""Where a condition of SQL ends."""

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
        "IS DISTINCT FROM": ("IS NOT DISTINCT FROM", "<>"),
        "IS NOT DISTINCT FROM": ("IS DISTINCT FROM", "="),
        "NOT EXISTS": ("EXISTS",),
        "EXISTS": ("NOT EXISTS",),
        "ANY": ("ALL",),
        "ALL": ("ANY",),
        "GREATEST": ("LEAST",),
        "LEAST": ("GREATEST",),
        "MAX": ("MIN",),
        "MIN": ("MAX",),
        "DESC": ("ASC",),
        "ASC": ("DESC",),
        "TRUE": ("FALSE",),
        "FALSE": ("TRUE",),
        "FOR UPDATE": ("FOR SHARE",),
        "pg_advisory_xact_lock": ("pg_advisory_xact_lock_shared",),
        "pg_advisory_xact_lock_shared": ("pg_advisory_xact_lock",),
    },
    strings={},
    patterns=(
        ("condition dropped", rf"\b(?:AND|(?<!CREATE )OR) {_IN_SQL}{_END}", ""),
        ("condition dropped", rf"(?<=\bWHERE ){_IN_SQL}\s*\bAND\b", ""),
        ("all conditions dropped", rf"\bWHERE {_IN_SQL}(?=\s*(?:\bRETURNING\b|\bORDER\b|\bFOR\b|\)|;))", ""),
        ("condition always true", r"(?<=IF )[^;]*?(?= THEN)", "TRUE"),
        ("condition never true", r"(?<=IF )[^;]*?(?= THEN)", "FALSE"),
        ("order dropped", r"\bORDER BY [^();]*?(?=\s*(?:\bLIMIT\b|\bFOR\b|\)|;))", ""),
        ("limit dropped", r"\bLIMIT \w+", ""),
        ("lock dropped", r"\bFOR (?:NO KEY )?(?:UPDATE|SHARE)\b(?: OF \w+)?", ""),
        ("conflict not met", r"\bON CONFLICT \([^)]*\) DO (?:NOTHING|UPDATE SET [^;]*?)(?=;|\s+RETURNING)", ""),
        ("conflict does nothing", r"\bDO UPDATE SET [^;]*?(?=;|\s+RETURNING)", "DO NOTHING"),
        ("value kept at a conflict", r"(?<=\bSET )\w+ = excluded\.\w+, ", ""),
        ("value kept at a conflict", r", \w+ = excluded\.\w+(?=;)", ""),
        ("null not replaced", r"\bCOALESCE\(([^(),]+(?:\([^()]*\))?), [^()]*?\)", r"\1"),
        # A statement of a function's body: it follows `;`, BEGIN, THEN, ELSE or LOOP.
        (
            "statement dropped",
            r"(?<=;|N|E|P)\n\s*(?:PERFORM|DELETE|UPDATE|INSERT|SELECT|RETURN|EXIT|\w+ :=|\w+\[\w+\] :=)(?!\w)[^;$]*;",
            "\nNULL;",
        ),
    ),
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
    strings={
        # Whether a bound is part of a range, and its ends.
        "(": ("",),
        "-inf": ("+inf",),
        "+inf": ("-inf",),
        # What tells given from not given, and a registration from one that is being taken back.
        "=": ("",),
        "-": ("",),
        ":": ("",),
        "ZRANGE": ("ZREVRANGE",),
        "ZREVRANGE": ("ZRANGE",),
        "HSET": ("HSETNX",),
    },
    patterns=(
        ("condition dropped", r"(?<= )(?:and|or) [^()\n]*?(?=\s*(?:\band\b|\bor\b|\bthen\b|\)))", ""),
        ("condition always true", r"(?<=if )[^\n]*?(?= then)", "true"),
        ("condition never true", r"(?<=if )[^\n]*?(?= then)", "false"),
        ("limit dropped", r", 'LIMIT'[^)]*(?=\))", ""),
        (
            "statement dropped",
            r"(?<=\n)[ ]*(?! |local |for )"
            r"(?:redis\.call\([^\n]*\)|write\([^\n]*\)|[\w.\[\]#+ ]+ = [^\n{]+|return [^\n{]+)(?=\n)",
            "",
        ),
    ),
)

_OPERAND: Final = r"(?:#?\w+(?:\.\w+)*(?:\[\w+\])?|'[^']*')"
"""A column, a variable, a constant or a string."""
# The second is looked at and not taken, since it may be swapped with the third in its turn.
_SIDE_BY_SIDE: Final = (
    rf"(?:(?<=[(,{{])|(?<=, )|(?<=\n)|(?<=SELECT )|(?<=INTO )|(?<=RETURNING ))(?<!call\()({_OPERAND})"
    rf"(?=(, )({_OPERAND})(?:[,)}};]|\s+(?:FROM|INTO)\b))"
)


def mutants(source: str, language: Language) -> list[Mutant]:
    """All mutants of a text, in the order of their places. Comments and quoted strings are left alone."""
    return sorted(set(_changes(source, _blanked(source, language), language)))


def _blanked(source: str, language: Language) -> str:
    """The text with blanks for what is in comments and strings, so that places stay the same."""
    pattern = rf"{language.comment}|'[^'\n]*'"

    def blanks(found: re.Match[str]) -> str:
        text = found.group()
        # The word is part of a pattern.
        if text == "'LIMIT'":
            return text
        return f"'{'_' * (len(text) - 2)}'" if text[0] == "'" else " " * len(text)

    return re.sub(pattern, blanks, source)


def _changes(source: str, blank: str, language: Language) -> Iterator[Mutant]:
    # The longest first: `<=` is no `<`.
    for found in re.finditer(
        "|".join(map(_token, sorted(language.tokens, key=len, reverse=True))), blank, language.flags
    ):
        words = " ".join(found.group().split())
        for new in language.tokens.get(words.upper() if language.flags else words, language.tokens.get(words, ())):
            yield Mutant(*found.span(), new, "token")
    for found in re.finditer(r"(?<![\w.$'])\d+(?![\w.'])", blank):
        number = int(found.group())
        yield Mutant(*found.span(), str(number + 1), "constant")
        if number:
            yield Mutant(*found.span(), str(number - 1), "constant")
    for found in re.finditer("'_+'", blank):
        for new in language.strings.get(source[found.start() + 1 : found.end() - 1], ()):
            yield Mutant(*found.span(), f"'{new}'", "string")
    for kind, pattern, new in language.patterns:
        for found in re.finditer(pattern, blank, language.flags):
            text = new.replace(r"\1", source[slice(*found.span(1))]) if r"\1" in new else new
            yield Mutant(*found.span(), text, kind)
    for found in re.finditer(_SIDE_BY_SIDE, blank, language.flags):
        first, between, second = (source[slice(*found.span(number))] for number in (1, 2, 3))
        if first != second:
            yield Mutant(found.start(1), found.end(3), f"{second}{between}{first}", "swapped")


def _token(token: str) -> str:
    pattern = re.escape(token).replace(r"\ ", r"\s+")
    if token[0].isalpha():
        return rf"\b{pattern}\b"
    # An operator by itself: not part of `:=`, `=>`, `->`, `..` or of another one.
    return rf"(?<![-<>=~:!+.]){pattern}(?![-<>=+.])"
