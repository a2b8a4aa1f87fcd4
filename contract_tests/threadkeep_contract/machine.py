"""Random programs over a pool of spots: how they are drawn, played on a store, and compared with the model.

A program is a list of operations. What an operation says about the state ("the tail as seen last", "three positions
below it") is resolved while it is played, from what its own spot has observed and nothing else. So a program shrinks
like plain data, and the part of it that one scope sees can be played alone and gives the same calls.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from random import Random
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from threadkeep.errors import TailMoved, ThreadkeepError
from threadkeep.store import (
    MISSING,
    After,
    Changes,
    Order,
    Put,
    Receipt,
    Record,
    Resource,
    Snapshot,
    Tail,
    ThreadRow,
    Window,
)
from threadkeep_contract.confusable import PREFIX, Spot, just_before, lead, pools
from threadkeep_contract.harness import Harness, record
from threadkeep_contract.history import Recorded, source
from threadkeep_contract.model import Model

SLOTS: Final = ("info", "working_memory")
START: Final = 1_700_000_000_000_000
"""The time of a program's first commit, in microseconds since 1970 UTC."""

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


Verb: TypeAlias = Literal["load", "commit", "delete", "threads"]


class Step(NamedTuple):
    """An operation resolved: the verb and what it is given."""

    verb: Verb
    args: tuple[Any, ...]


class Outcome(NamedTuple):
    """What a step gave: a result in plain values, or an error's type, fields and text."""

    result: object
    error: str = ""


@dataclass(slots=True)
class _Seen:
    """What a spot has observed so far."""

    tail: Tail = MISSING
    old: Tail = MISSING
    versions: dict[str, int] = field(default_factory=dict)


class Player:
    """Resolves operations in one clean room, from what each spot observed."""

    def __init__(self, pool: Sequence[Spot], prefix: str) -> None:
        self.pool = pool
        self.prefix = prefix
        self.threads = [spot.thread(prefix) for spot in pool]
        self._seen = [_Seen() for _ in pool]
        self._resource_versions: dict[str, dict[str, int]] = {}
        self._after: dict[tuple[str, Order], After] = {}

    def step(self, number: int, operation: Operation) -> Step:
        """The call that an operation is now. `number` is its place in the whole program; it makes epochs unique."""
        scope = self.threads[operation.spot]
        resource = Resource(scope.resource_id)
        seen = self._seen[operation.spot]
        match operation:
            case Commit():
                return Step("commit", (scope, self._changes(number, operation)))
            case PutResource():
                versions = self._resource_versions.get(scope.resource_id, {})
                return Step("commit", (resource, Changes(at=START, puts=_puts(operation.puts, versions, self.prefix))))
            case Load():
                anchor: int | str | None = None
                if operation.message is not None:
                    ids = self.pool[operation.spot].message_ids
                    anchor = ids[operation.message % len(ids)]
                elif operation.back is not None:
                    anchor = max(0, seen.tail.position - operation.back)
                return Step("load", (scope, Window(anchor, operation.before, operation.after)))
            case LoadResource():
                return Step("load", (resource, Window()))
            case Delete():
                return Step("delete", (scope,))
            case Erase():
                return Step("delete", (resource,))
            case List():
                after = self._after.get((scope.resource_id, operation.order)) if operation.follow else None
                return Step("threads", (resource, after, operation.limit, operation.order, operation.slots))
        raise TypeError(f"no such operation: {operation!r}")

    def observe(self, operation: Operation, step: Step, result: object, error: BaseException | None) -> None:
        """Take in what a step gave."""
        seen = self._seen[operation.spot]
        resource_id = self.threads[operation.spot].resource_id
        match operation, error, result:
            case Commit(), TailMoved() as moved, _:
                self._move(seen, Tail(moved.epoch, moved.position))
            case Commit(), None, Receipt() as receipt:
                self._move(seen, receipt.tail)
                changes: Changes = step.args[1]
                seen.versions.update(_by_slot(changes.puts, receipt.versions))
                versions = self._resource_versions.setdefault(resource_id, {})
                versions.update(_by_slot(changes.resource_puts, receipt.resource_versions))
            case PutResource(), None, Receipt() as receipt:
                versions = self._resource_versions.setdefault(resource_id, {})
                versions.update(_by_slot(step.args[1].puts, receipt.versions))
            case Load(), None, Snapshot() as snapshot:
                self._move(seen, snapshot.tail)
                seen.versions = {slot: doc.version for slot, doc in snapshot.docs.items()}
            case LoadResource(), None, Snapshot() as snapshot:
                self._resource_versions[resource_id] = {
                    slot: doc.version for slot, doc in snapshot.resource_docs.items()
                }
            case Delete(), None, _:
                self._move(seen, MISSING)
                seen.versions = {}
            case Erase(), None, _:
                for thread, other in zip(self.threads, self._seen, strict=True):
                    if thread.resource_id == resource_id:
                        self._move(other, MISSING)
                        other.versions = {}
                self._resource_versions.pop(resource_id, None)
            case List(), None, rows if rows:
                last: ThreadRow = rows[-1]  # type: ignore[index] # the rows of a page
                at = last.created if operation.order == "created" else last.active
                self._after[(resource_id, operation.order)] = After(at, last.thread_id)

    def _move(self, seen: _Seen, tail: Tail) -> None:
        if tail != seen.tail:
            seen.old, seen.tail = seen.tail, tail

    def _changes(self, number: int, operation: Commit) -> Changes:
        seen = self._seen[operation.spot]
        ids = self.pool[operation.spot].message_ids
        records: list[Record] = []
        for message, variant in operation.append:
            made = record(ids[message % len(ids)], f"text {variant} in {self.prefix}")
            if made.id not in [other.id for other in records]:
                records.append(made)
        if_epoch = self._tail(seen, operation.if_epoch)
        versions = self._resource_versions.get(self.threads[operation.spot].resource_id, {})
        return Changes(
            at=START + operation.later,
            epoch=f"{self.prefix}epoch{number}",
            append=tuple(records),
            puts=_puts(operation.puts, seen.versions, self.prefix),
            resource_puts=_puts(operation.resource_puts, versions, self.prefix),
            drop_after=None if operation.drop is None else max(0, seen.tail.position - operation.drop),
            if_tail=self._tail(seen, operation.if_tail),
            if_epoch=None if if_epoch is None else if_epoch.epoch,
            seen=self._tail(seen, operation.seen),
        )

    def _tail(self, seen: _Seen, condition: Condition) -> Tail | None:
        match condition:
            case "":
                return None
            case "now":
                return seen.tail
            case "old":
                return seen.old
            case "missing":
                return MISSING
            case "other epoch":
                return Tail(f"{self.prefix}another", seen.tail.position)
            case "other position":
                return Tail(seen.tail.epoch or f"{self.prefix}another", seen.tail.position + 1)


def _puts(puts: Sequence[SlotPut], versions: Mapping[str, int], prefix: str) -> tuple[Put, ...]:
    made = {}
    for slot, body, off_by in puts:
        name = SLOTS[slot]
        placed = None if body is None else body.replace(PREFIX, prefix)
        made[name] = Put(name, placed, None if off_by is None else max(0, versions.get(name, 0) + off_by))
    return tuple(made.values())


def _by_slot(puts: Sequence[Put], versions: Sequence[int]) -> dict[str, int]:
    return {put.slot: version for put, version in zip(puts, versions, strict=False)}


def plain(result: object) -> object:
    """A result in values that compare: sequences as tuples, mappings as dicts."""
    match result:
        case Snapshot():
            records = tuple(tuple(entry) for entry in result.records)
            docs = {slot: tuple(doc) for slot, doc in result.docs.items()}
            resource_docs = {slot: tuple(doc) for slot, doc in result.resource_docs.items()}
            return ("Snapshot", tuple(result.tail), result.created, result.active, records, docs, resource_docs)
        case Receipt():
            positions, versions = tuple(result.positions), tuple(result.versions)
            return ("Receipt", tuple(result.tail), positions, versions, tuple(result.resource_versions))
        case ThreadRow():
            docs = {slot: tuple(doc) for slot, doc in result.docs.items()}
            return ("ThreadRow", result.thread_id, tuple(result.tail), result.created, result.active, docs)
        case list() | tuple():
            return tuple(plain(item) for item in result)
    return result


def outcome(result: object, error: ThreadkeepError | None) -> Outcome:
    """What a step gave, comparable."""
    return Outcome(plain(result), "" if error is None else f"{source(error)}: {error}")


async def play(
    harness: Harness,
    handles: Sequence[Recorded],
    player: Player,
    number: int,
    operation: Operation,
    model: Model | None,
) -> tuple[Step, Outcome]:
    """Play one operation on the store, and on the model where there is one; LawBroken where the two differ."""
    step = player.step(number, operation)
    result, error = None, None
    try:
        result = await getattr(handles[operation.handle % len(handles)], step.verb)(*step.args)
    except ThreadkeepError as raised:
        error = raised
    seen = outcome(result, error)
    if model is not None:
        should, refused = _by_model(model, step)
        if outcome(should, refused) != seen:
            raise harness.broken(
                f"{step.verb} answers as the port says",
                source(should if refused is None else refused),
                source(result if error is None else error),
            ) from error
    player.observe(operation, step, result, error)
    return step, seen


class Program(NamedTuple):
    """A pool of spots, and operations on them."""

    pool: tuple[Spot, ...]
    operations: tuple[Operation, ...]


async def compare(harness: Harness, program: Program) -> None:
    """Play a program on the store through two handles and on the model; LawBroken at the first difference.

    At the end, everything that the program could have touched is read and compared once more.
    """
    handles = [await harness.open(), await harness.open()] if not harness.handles else harness.handles[:2]
    player, model = Player(program.pool, harness.fresh()), Model()
    for number, operation in enumerate(program.operations):
        await play(harness, handles, player, number, operation, model)
    number = len(program.operations)
    for spot in range(len(program.pool)):
        for operation in (Load(spot, 1, before=1000), List(spot, 0), List(spot, 1, order="active")):
            await play(harness, handles, player, number, operation, model)
    await compare_resources(harness, handles[0], player, model)


async def compare_resources(harness: Harness, handle: Recorded, player: Player, model: Model) -> None:
    """Compare the resources of the clean room that the store lists with the model's."""
    starts = sorted({lead(spot.resource_id) for spot in player.pool if PREFIX not in spot.resource_id} | {""})
    for start in starts:
        low = start + player.prefix
        seen: list[str] = []
        while True:
            page = await handle.resources(seen[-1] if seen else just_before(low), 2)
            seen += [resource_id for resource_id in page if resource_id.startswith(low)]
            if len(page) < 2 or not page[-1].startswith(low):
                break
        expected = [resource_id for resource_id in model.resources(limit=10**6) if resource_id.startswith(low)]
        harness.expect(
            "resources() lists every resource that has a thread or a document, by code point", expected, seen
        )


# How programs are drawn

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
        append = tuple((chance.randrange(4), chance.choice((0, 0, 0, 1))) for _ in range(count))
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
    choices = ["commit", "commit", "commit", "load"]
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
    """Operations of the given kinds on the first spot, the simplest first, always the same.

    Programs are drawn as numbers into it: one draw for an operation instead of ten makes examples an order of
    magnitude cheaper, and a smaller number is a simpler operation, so they shrink well.
    """
    chance = Random(repr(kinds))
    # A plain operation stands there many times, and so is drawn as often as an elaborate one.
    found = [_operation(chance, kinds) for _ in range(4000)]
    return tuple(sorted(found, key=lambda operation: (len(repr(operation)), repr(operation))))


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


async def observe(
    harness: Harness, handles: Sequence[Recorded], program: Program, numbers: Collection[int]
) -> dict[int, str]:
    """Play the operations with these numbers in a clean room of their own.

    Returns, by the operation's number in the whole program, what it gave, as text without the room's prefix and
    without digests. Contents name their room, so that what leaks from one room into another is seen.
    """
    player = Player(program.pool, harness.fresh())
    observed = {}
    for number, operation in enumerate(program.operations):
        if number in numbers:
            _, seen = await play(harness, handles, player, number, operation, None)
            observed[number] = _anonymous(seen, player.prefix)
    return observed


def imagine(program: Program, numbers: Collection[int]) -> dict[int, str]:
    """As `observe`, by the model."""
    player, model = Player(program.pool, _IMAGINED), Model()
    observed = {}
    for number, operation in enumerate(program.operations):
        if number in numbers:
            step = player.step(number, operation)
            result, error = _by_model(model, step)
            player.observe(operation, step, result, error)
            observed[number] = _anonymous(outcome(result, error), _IMAGINED)
    return observed


_IMAGINED: Final = "000000000000000"
_DIGEST: Final = re.compile("[0-9a-f]{64}")


def _anonymous(seen: Outcome, prefix: str) -> str:
    return _DIGEST.sub("", seen.error or repr(seen.result)).replace(prefix, "")


def _by_model(model: Model, step: Step) -> tuple[object, ThreadkeepError | None]:
    try:
        return getattr(model, step.verb)(*step.args), None
    except ThreadkeepError as error:
        return None, error
