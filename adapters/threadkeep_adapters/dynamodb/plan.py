"""What a commit does, decided on what was seen of its thread. It asks the service for nothing.

Where it cannot be decided yet, it says what is lacking; `commit` gets it, and has it decided again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final

from threadkeep.errors import Conflict, MessageConflict
from threadkeep.port import (
    MISSING,
    Changes,
    Doc,
    Put,
    Receipt,
    Resource,
    Scope,
    Stored,
    Thread,
    check_thread,
    next_versions,
)
from threadkeep_adapters.dynamodb import layout
from threadkeep_adapters.dynamodb.layout import INLINE, Cut, Head, Heads, Kept, Pack, Range, RecordPlace
from threadkeep_adapters.dynamodb.transaction import (
    DOC_ITEMS,
    DocChange,
    ThreadChange,
    Transaction,
    write_resource,
    write_thread,
)

PENDING: Final = 300
"""Ids in a head, at most, that have no item of their own yet: about 20 KB."""

RANGES: Final = 20
"""Ranges of dropped positions in a head, at most, before they are swept."""


class HeadsAre(Enum):
    """Where the heads are known from."""

    REMEMBERED = auto()
    """The store saw them at some time before. Nobody is refused because of them."""
    READ = auto()
    """They were these at a moment of this commit."""


class IdsAre(Enum):
    """What is known of the ids that are appended, beside those that are pending in the head."""

    TAKEN_FOR_NEW = auto()
    """Nobody looked them up; those that turned out to be there have a place. The transaction tests the others."""
    LOOKED_UP = auto()
    """Every one was, so that one without a place is new while the heads are these."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a commit is decided on."""

    heads: Heads
    heads_are: HeadsAre
    ids_are: IdsAre = IdsAre.TAKEN_FOR_NEW
    places: Mapping[str, RecordPlace] = field(default_factory=dict)
    """By id: what the items of ids say."""
    is_swept: bool = False
    """What truncations had left was swept, as far as others let it be."""
    cut: Cut | None = None
    """Where the truncation of this commit ends, where it drops something."""


class Lack(Enum):
    """What has to be done before a commit can be decided, in the order in which it is looked for."""

    ERASURE = auto()
    """An erasure of the resource has begun, and is to be finished."""
    REMOVAL = auto()
    """The thread was deleted, and what is left of it is to be removed."""
    HEADS = auto()
    """The commit would be refused, but for heads that are only remembered; they are to be read."""
    IDS = auto()
    """Whether the commit is refused, and how, depends on ids that are to be looked up."""
    SETTLING = auto()
    """The head would hold too many ids; some are to get items of their own."""
    SWEEP = auto()
    """The head names too many dropped ranges; they are to be swept."""
    END = auto()
    """Where the truncation ends is to be read."""
    ROOM = auto()
    """The transaction has no room to test that all ids are new; they are to be looked up."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a commit does, and what it answers when that is done."""

    transaction: Transaction
    receipt: Receipt


def plan_commit(scope: Scope, seen: Seen, changes: Changes) -> Plan | Lack:
    """What a commit does, or what is lacking. Raises as `Store.commit`."""
    heads = seen.heads
    if heads.resource.erasure:
        return Lack.ERASURE
    if heads.thread.is_gone:
        return Lack.REMOVAL
    known = _known(seen, changes)
    try:
        if isinstance(scope, Resource):
            next_versions(heads.resource.docs, changes.puts)
        else:
            check_thread(heads.thread.tail, {one: place.digest for one, place in known.items()}, changes)
            next_versions(heads.thread.docs, changes.puts)
            next_versions(heads.resource.docs, changes.resource_puts)
    except Conflict as refusal:
        if seen.heads_are is HeadsAre.REMEMBERED:
            return Lack.HEADS
        if _depends_on_ids(seen, changes, known, refusal):
            return Lack.IDS
        raise
    if isinstance(scope, Resource):
        return _plan_resource(scope, heads, changes.puts)
    if len(heads.thread.pending) + len(changes.append) > PENDING:
        return Lack.SETTLING
    if changes.drop_after is not None and changes.drop_after < heads.thread.position and seen.cut is None:
        if len(heads.thread.dead) > RANGES and not seen.is_swept:
            return Lack.SWEEP
        return Lack.END
    return _plan_thread(scope, seen, changes, known)


def _known(seen: Seen, changes: Changes) -> dict[str, RecordPlace]:
    """The places of the records that are in the thread already and stay there."""
    head = seen.heads.thread
    known: dict[str, RecordPlace] = {}
    if head.tail == MISSING:
        return known
    for record in changes.append:
        place = head.place_of(record.id, seen.places.get(record.id))
        if place is not None and (changes.drop_after is None or place.position <= changes.drop_after):
            known[record.id] = place
    return known


def _depends_on_ids(seen: Seen, changes: Changes, known: Mapping[str, RecordPlace], refusal: Conflict) -> bool:
    """Whether a refusal might be another, or none, if it were known which of the ids are there."""
    tail = seen.heads.thread.tail
    has_other_epoch = changes.if_epoch is not None and changes.if_epoch != tail.epoch
    if has_other_epoch or isinstance(refusal, MessageConflict):
        # These come before all that other ids could change.
        return False
    return seen.ids_are is IdsAre.TAKEN_FOR_NEW and tail != MISSING and len(known) < len(changes.append)


def _plan_resource(scope: Resource, heads: Heads, puts: Sequence[Put]) -> Plan:
    docs = _put(heads.resource.docs, puts, DOC_ITEMS)
    after = replace(heads.resource, mark=layout.new_mark(), docs=docs.docs)
    transaction = write_resource(scope, heads, Heads(heads.thread, after), docs)
    return Plan(transaction, Receipt(MISSING, versions=docs.versions))


def _plan_thread(scope: Thread, seen: Seen, changes: Changes, known: Mapping[str, RecordPlace]) -> Plan | Lack:
    head, resource = seen.heads.thread, seen.heads.resource
    is_new = not head.epoch
    docs = _put(head.docs, changes.puts, DOC_ITEMS)
    resource_docs = _put(resource.docs, changes.resource_puts, DOC_ITEMS - docs.items)
    if is_new:
        after = Head(layout.new_mark(), epoch=changes.epoch, created=changes.at, active=changes.at, docs=docs.docs)
    else:
        active = max(head.active, changes.at)
        after = replace(head, mark=layout.new_mark(), active=active, docs=docs.docs)

    packs = []
    cut_off: set[str] = set()
    if seen.cut is not None:
        shortened, cut_off = _drop(after, seen.cut)
        if shortened is not None:
            packs.append(shortened)
    new = []
    for record in changes.append:
        if record.id not in known:
            after.newest += 1
            new.append(Stored(after.newest, changes.at, *record))
    if new:
        packs.append(Pack(after.position, after.epoch, new))
        after.position = after.newest

    resource_after = resource
    if changes.resource_puts:
        resource_after = replace(resource_after, mark=layout.new_mark(), docs=resource_docs.docs)
    if is_new:
        # A resource that has no head yet gets a mark with its first thread.
        mark = resource_after.mark or layout.new_mark()
        resource_after = replace(resource_after, mark=mark, threads=resource.threads + 1)

    change = ThreadChange(
        seen.heads,
        Heads(after, resource_after),
        docs,
        resource_docs,
        packs,
        # Ids whose items say where a dropped record was come first: they must not be left as they are.
        [record for record in new if record.id in cut_off] + [record for record in new if record.id not in cut_off],
        cut_off.difference(record.id for record in changes.append),
    )
    transaction = write_thread(scope, change, are_ids_certain=is_new or seen.ids_are is IdsAre.LOOKED_UP)
    if transaction is None:
        return Lack.ROOM
    positions = {record_id: place.position for record_id, place in known.items()}
    positions.update((record.id, record.position) for record in new)
    appended = [positions[record.id] for record in changes.append]
    return Plan(transaction, Receipt(after.tail, appended, docs.versions, resource_docs.versions))


def _put(before: Mapping[str, Kept], puts: Sequence[Put], room: int) -> DocChange:
    """Put documents; at most `room` items are written or removed for it."""
    docs = dict(before)
    versions: list[int] = []
    written: dict[str, Doc] = {}
    removed: list[str] = []
    sizes = {put.slot: len((put.body or "").encode()) for put in puts}
    large = [slot for slot, size in sizes.items() if size > INLINE]
    large = sorted(large, key=lambda slot: sizes[slot], reverse=True)[:room]
    for put in puts:
        old = before.get(put.slot, Kept(0, None))
        version = old.version + 1
        versions.append(version)
        if put.slot in large:
            docs[put.slot] = Kept(version, None, is_elsewhere=True)
            written[put.slot] = Doc(version, put.body)
        else:
            docs[put.slot] = Kept(version, put.body)
            if old.is_elsewhere and len(written) + len(removed) + len(large) < room:
                removed.append(put.slot)
    return DocChange(docs, versions, written, removed)


def _drop(head: Head, cut: Cut) -> tuple[Pack | None, set[str]]:
    """Drop the records above a cut from a head.

    What is left of the pack in which it cuts, None where that is all of it, and the ids that are cut off this pack:
    the sweep that follows does not find these.
    """
    head.dead = _joined(head.dead, (cut.position + 1, head.newest))
    head.position = cut.position
    head.pending = {hashed: place for hashed, place in head.pending.items() if place.position <= cut.position}
    if cut.pack is None:
        return None, set()
    kept = [record for record in cut.pack.records if record.position <= cut.position]
    cut_off = {record.id for record in cut.pack.records if record.position > cut.position}
    if not cut_off:
        return None, set()
    return Pack(cut.pack.before, head.epoch, kept), cut_off


def _joined(ranges: Sequence[Range], added: Range) -> tuple[Range, ...]:
    """Ranges with one more, which reaches up to the highest position: those that it covers or continues are one."""
    first, last = added
    kept = []
    for low, high in ranges:
        if high + 1 >= first:
            first = min(first, low)
        else:
            kept.append((low, high))
    return (*kept, (first, last))
