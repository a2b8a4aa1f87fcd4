"""Programs played on a store and on the model, and what they gave compared."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from threadkeep.errors import TailMoved, ThreadkeepError
from threadkeep.port import (
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
from threadkeep_contract.harness import Harness, record
from threadkeep_contract.history import Recorded, source
from threadkeep_contract.inputs.confusable import PREFIX, Spot, just_before, lead
from threadkeep_contract.inputs.operations import (
    SLOTS,
    Commit,
    Condition,
    Delete,
    Erase,
    List,
    Load,
    LoadResource,
    Operation,
    Program,
    PutResource,
    SlotPut,
)
from threadkeep_contract.reference.model import Model

START: Final = 1_700_000_000_000_000
"""The time of a program's first commit, in microseconds since 1970 UTC."""


Verb: TypeAlias = Literal["load", "commit", "delete", "threads", "resources"]


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
    """Resolves operations in one clean room, from what each spot observed.

    Contents hold `mark`, which is the room's prefix unless told otherwise.
    """

    def __init__(self, pool: Sequence[Spot], prefix: str, mark: str = "") -> None:
        self.pool = pool
        self.prefix = prefix
        self.mark = mark or prefix
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
                return Step("commit", (resource, Changes(at=START, puts=_puts(operation.puts, versions, self.mark))))
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
            made = record(ids[message % len(ids)], f"text {variant} in {self.mark}")
            if made.id not in [other.id for other in records]:
                records.append(made)
        if_epoch = self._tail(seen, operation.if_epoch)
        versions = self._resource_versions.get(self.threads[operation.spot].resource_id, {})
        return Changes(
            at=START + operation.later,
            epoch=f"{self.prefix}epoch{number}",
            append=tuple(records),
            puts=_puts(operation.puts, seen.versions, self.mark),
            resource_puts=_puts(operation.resource_puts, versions, self.mark),
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


def _puts(puts: Sequence[SlotPut], versions: Mapping[str, int], mark: str) -> tuple[Put, ...]:
    made = {}
    for slot, body, off_by in puts:
        name = SLOTS[slot]
        placed = None if body is None else body.replace(PREFIX, mark)
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


async def compare(harness: Harness, program: Program) -> None:
    """Play a program on the store through two handles and on the model; LawBroken at the first difference.

    At the end, everything that the program could have touched is read and compared once more.
    """
    handles = await harness.reused(2)
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
            text = observed[number] = _anonymous(seen, player.prefix)
            if harness.token in text:
                raise harness.broken("a scope sees nothing of others", "nothing of another clean room", text)
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
