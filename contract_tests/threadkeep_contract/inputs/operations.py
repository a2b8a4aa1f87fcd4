"""The operations that programs are made of, and how programs are drawn.

What an operation says about the state ("the tail as seen last", "three positions below it") is resolved while it is
played, from what its own spot has observed and nothing else. So a program shrinks like plain data, and the part of it
that one scope sees can be played alone and gives the same calls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle
from random import Random
from typing import Final, Literal, NamedTuple, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from threadkeep.port import Order
from threadkeep_contract.inputs.confusable import PREFIX, Spot, pools

SLOTS: Final = ("info", "working_memory")

Condition: TypeAlias = Literal["", "now", "old", "missing", "other epoch", "other position"]


class SlotPut(NamedTuple):
    """A put: slot number, body, and its condition as an offset from the version seen last, None for none."""

    slot: int
    body: str | None
    off_by: int | None


@dataclass(frozen=True, slots=True)
class Operation:
    """One call on the thread or resource of a spot (its number in the pool), through a handle (its number)."""

    spot: int
    handle: int


@dataclass(frozen=True, slots=True)
class Commit(Operation):
    """A commit to the spot's thread."""

    append: tuple[tuple[int, int], ...] = ()
    """Number of the message id, and which body it has."""
    later: int = 0
    """Microseconds from the program's time; the clock of a writer may stand still or go back."""
    if_tail: Condition = ""
    if_epoch: Condition = ""
    drop: int | None = None
    """Drop what lies above the position seen last minus this."""
    puts: tuple[SlotPut, ...] = ()
    resource_puts: tuple[SlotPut, ...] = ()
    seen: Condition = ""


@dataclass(frozen=True, slots=True)
class PutResource(Operation):
    """A commit to the spot's resource."""

    puts: tuple[SlotPut, ...] = ()


@dataclass(frozen=True, slots=True)
class Load(Operation):
    """A load of the thread, anchored at a message (its number), the position seen last minus `back`, or the end."""

    message: int | None = None
    back: int | None = None
    before: int = 0
    after: int = 0


@dataclass(frozen=True, slots=True)
class LoadResource(Operation):
    """A load of the resource."""


@dataclass(frozen=True, slots=True)
class Delete(Operation):
    """Delete the thread."""


@dataclass(frozen=True, slots=True)
class Erase(Operation):
    """Delete the resource."""


@dataclass(frozen=True, slots=True)
class List(Operation):
    """A page of the resource's threads, from the beginning or after the page that it saw last."""

    order: Order = "created"
    limit: int = 100
    follow: bool = False
    slots: tuple[str, ...] = SLOTS


class Program(NamedTuple):
    """A pool of spots, and operations on them."""

    pool: tuple[Spot, ...]
    operations: tuple[Operation, ...]


_BODIES: Final = (f'{{"in":"{PREFIX}"}}', '{"a":2,"b":"x"}', "[]", '""')
_COUNTS: Final = (0, 1, 1, 2, 3, 100)
_LATER: Final = (0, 0, 1, 1_000_000, 5_000_000, -3_000_000)

Kind: TypeAlias = Literal["append", "conditions", "drop", "puts", "resource", "load", "delete", "erase", "list"]
Kinds: TypeAlias = tuple[Kind, ...]

EVERYTHING: Final[Kinds] = ("append", "conditions", "drop", "puts", "resource", "load", "delete", "erase", "list")


def _slot_puts(chance: Random, least: int) -> tuple[SlotPut, ...]:
    return tuple(
        SlotPut(chance.randrange(len(SLOTS)), chance.choice((*_BODIES, None)), chance.choice((None, None, 0, 0, -1, 1)))
        for _ in range(chance.randint(least, 2))
    )


def _commit(chance: Random, kinds: Kinds) -> Commit:
    conditions: list[Condition] = ["", "", "", "now", "now", "old", "missing", "other epoch", "other position"]
    commit = Commit(0, 0, later=chance.choice(_LATER), seen=chance.choice(conditions))
    if "append" in kinds:
        count = chance.choice((0, 1, 1, 1, 2, 2, 3, 4))
        append = tuple((chance.choice((0, 0, 1, 1, 2, 3)), chance.choice((0, 0, 1))) for _ in range(count))
        commit = replace(commit, append=append)
    if "conditions" in kinds:
        epochs: list[Condition] = ["", "", "", "", "", "now", "missing", "old"]
        commit = replace(commit, if_tail=chance.choice(conditions), if_epoch=chance.choice(epochs))
    if "drop" in kinds:
        commit = replace(commit, drop=chance.choice((None, None, None, 0, 1, 2, 9, -2)))
    if "puts" in kinds:
        commit = replace(commit, puts=_slot_puts(chance, 0))
        if "resource" in kinds:
            commit = replace(commit, resource_puts=_slot_puts(chance, 0))
    return commit


def _operation(chance: Random, kinds: Kinds) -> Operation:
    # Threads that are deleted all the time never live to see a conflict.
    choices = ["commit"] * 7 + ["load"]
    choices += [kind for kind in ("load", "load", "resource", "delete", "erase", "list") if kind in kinds]
    match chance.choice(choices):
        case "load" if "load" in kinds:
            before, after = chance.choice(_COUNTS), chance.choice(_COUNTS)
            message, back = chance.choice(((None, None), (chance.randrange(5), None), (None, chance.randint(-2, 5))))
            return Load(0, 0, message, back, before, after)
        case "load":
            return Load(0, 0, before=100)
        case "resource":
            return chance.choice((LoadResource(0, 0), PutResource(0, 0, _slot_puts(chance, 1))))
        case "delete":
            return Delete(0, 0)
        case "erase":
            return Erase(0, 0)
        case "list":
            order: Order = chance.choice(("created", "active"))
            slots = chance.choice(((), SLOTS, SLOTS[:1]))
            return List(0, 0, order, chance.choice((1, 2, 100)), chance.choice((True, False)), slots)
    return _commit(chance, kinds)


@cache
def catalogue(kinds: Kinds) -> tuple[Operation, ...]:
    """Operations of the given kinds on the first spot, those of each kind the simplest first, always the same.

    Programs are drawn as numbers into it: one draw for an operation instead of ten makes examples an order of
    magnitude cheaper, and a smaller number is a simpler operation, so they shrink well. Hypothesis draws small numbers
    far more often than large ones, so the kinds take turns, and every beginning of the catalogue has its share of each.
    """
    chance = Random(repr(kinds))
    drawn = [_operation(chance, kinds) for _ in range(4000)]
    decks = {
        kind: cycle(
            sorted({each for each in drawn if type(each) is kind}, key=lambda each: (len(repr(each)), repr(each)))
        )
        for kind in {type(each) for each in drawn}
    }
    return tuple(next(decks[type(each)]) for each in drawn)


@st.composite
def programs(
    draw: st.DrawFn,
    kinds: Kinds,
    steps: int,
    pool: SearchStrategy[tuple[Spot, ...]] | None = None,
) -> Program:
    """Programs of up to `steps` operations of the given kinds, over pools of confusable spots unless told otherwise."""
    spots = draw(pools() if pool is None else pool)
    every = catalogue(kinds)
    # Number 0 is no operation. A list of a fixed length is drawn as long as it may be, and shrinks to zeros.
    numbers = st.integers(0, len(every) * len(spots) * 2)
    operations = []
    for drawn in draw(st.lists(numbers, min_size=steps, max_size=steps)):
        if drawn:
            number, handle = divmod(drawn - 1, 2)
            number, spot = divmod(number, len(spots))
            operations.append(replace(every[number], spot=spot, handle=handle))
    return Program(spots, tuple(operations))
