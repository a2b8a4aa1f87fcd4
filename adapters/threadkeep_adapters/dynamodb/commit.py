"""A commit as one transaction: decided on the heads as they were seen, done on the condition that they still are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Final

from threadkeep.errors import StoreFull, TailMoved, VersionMoved
from threadkeep.port import MISSING, Changes, Doc, Put, Receipt, Thread, check_thread, next_versions
from threadkeep_adapters.dynamodb import layout
from threadkeep_adapters.dynamodb.layout import HEAD, INLINE, Head, Item, Kept, Pack, Place, Range, ResourceHead

ACTIONS: Final = 100
"""In one transaction, at most.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html
"""

DOC_ITEMS: Final = 24
"""Documents of one commit that get items of their own, at most; of more than these, the smaller go into the head."""

HEAD_BYTES: Final = 390_000
"""A head, at most; an item may have 400 KB with everything."""

PENDING: Final = 300
"""Ids in a head, at most, that have no item of their own yet: about 20 KB."""

Action = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Heads:
    """What a commit is decided on."""

    thread: Head
    resource: ResourceHead

    @property
    def has_docs_elsewhere(self) -> bool:
        """Whether documents are to be read beside the heads."""
        return any(kept.is_elsewhere for docs in (self.thread.docs, self.resource.docs) for kept in docs.values())


@dataclass(slots=True)
class Found:
    """What is known of the ids that a commit appends, beside those that are pending in the head."""

    places: dict[str, Place] = field(default_factory=dict)
    is_complete: bool = False
    """Every id was looked up, so that one without a place is new."""


class Known(Exception):
    """Ids that were taken for new are there already."""

    def __init__(self, places: dict[str, Place]) -> None:
        super().__init__(places)
        self.places = places


class Overflow(Exception):
    """There is no room in the transaction to test that all ids are new; they are to be looked up before."""


class IdsNeeded(Exception):
    """The answer depends on ids of which nobody has looked up yet whether they are there."""


def decide(heads: Heads, changes: Changes, found: Found) -> dict[str, Place]:
    """The places of the records that are known. Raises as `Store.commit` says, and IdsNeeded."""
    head, tail = heads.thread, heads.thread.tail
    known: dict[str, Place] = {}
    if tail != MISSING:
        for record in changes.append:
            # What is pending comes first: the id's item may be that of a record that was dropped.
            place = head.pending.get(layout.id_hash(record.id)) if head.pending else None
            place = place or found.places.get(record.id)
            if place is None or not head.is_live(place.position):
                continue
            if changes.drop_after is not None and place.position > changes.drop_after:
                continue
            known[record.id] = place
    is_certain = found.is_complete or not changes.append or tail == MISSING or len(known) == len(changes.append)
    try:
        check_thread(tail, {record_id: place.digest for record_id, place in known.items()}, changes)
        for docs, puts in ((head.docs, changes.puts), (heads.resource.docs, changes.resource_puts)):
            next_versions(docs, puts)
    except (TailMoved, VersionMoved):
        # An id that was not looked up may be there with another digest, which comes before all but the epoch.
        if is_certain or changes.if_epoch not in (None, tail.epoch):
            raise
        raise IdsNeeded from None
    return known


@dataclass(slots=True)
class Plan:
    """A transaction, what it makes of the heads, and what it answers."""

    actions: list[Action]
    heads: Heads
    receipt: Receipt
    ids: dict[int, str]
    """By number of the action: the record whose id must not be there."""
    is_cut: bool = False
    """Records are dropped, and are to be swept."""

    def is_done(self, found: Item | None) -> bool:
        """Whether what is there in the place of the first action's item, a head, was written by this plan."""
        return bool(found) and bytes((found or {})["m"]["B"]) in (self.heads.thread.mark, self.heads.resource.mark)


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a truncation ends: the position of the newest record that stays, and its pack."""

    position: int
    pack: Pack | None


def plan_resource(resource_id: str, heads: Heads, puts: Sequence[Put]) -> Plan:
    """The transaction of a commit to a resource."""
    docs, versions, items = _put(layout.resource_partition(resource_id), heads.resource.docs, puts, DOC_ITEMS)
    after = replace(heads.resource, mark=layout.new_mark(), docs=docs)
    actions = [*_write_resource(resource_id, heads.resource, after), *items]
    return Plan(actions, Heads(heads.thread, after), Receipt(MISSING, versions=versions), {})


def plan_thread(
    scope: Thread, heads: Heads, changes: Changes, known: Mapping[str, Place], cut: Cut | None, *, is_certain: bool
) -> Plan:
    """The transaction of a commit to a thread, whose conditions hold on these heads.

    `is_certain` says that the ids which are not known are new. Otherwise raises Overflow where that cannot be tested.
    """
    pk = layout.thread_partition(scope.resource_id, scope.thread_id)
    head, is_new = heads.thread, not heads.thread.epoch
    after = replace(head, mark=layout.new_mark(), active=max(head.active, changes.at))
    if is_new:
        after = Head(after.mark, epoch=changes.epoch, created=changes.at, active=changes.at)
    after.docs, versions, items = _put(pk, head.docs, changes.puts, DOC_ITEMS)

    resource = heads.resource
    resource_versions: list[int] = []
    if changes.resource_puts:
        resource_pk = layout.resource_partition(scope.resource_id)
        room = DOC_ITEMS - len(items)
        docs, resource_versions, more = _put(resource_pk, resource.docs, changes.resource_puts, room)
        items += more
        resource = replace(resource, mark=layout.new_mark(), docs=docs)
    if is_new:
        # A resource that has no head yet gets a mark with its first thread.
        resource = replace(resource, mark=resource.mark or layout.new_mark(), threads=resource.threads + 1)

    dropped: Set[str] = set()
    if cut is not None:
        dropped = {entry.id for entry in cut.pack.records if entry.position > cut.position} if cut.pack else set()
        items += _cut(pk, after, cut, dropped - {record.id for record in changes.append})
    fresh = []
    for record in changes.append:
        if record.id not in known:
            after.newest += 1
            fresh.append(layout.stored(record, after.newest, changes.at))
    if fresh:
        items += [_put_item(item) for item in layout.write_packs(pk, after.epoch, after.position, fresh)]
        after.position = after.newest

    actions = [*_list(scope, head, after), *_write_resource(scope.resource_id, heads.resource, resource), *items]
    # The head comes before these, when it is known what it has to hold.
    settled = list(after.pending)
    after.pending = dict(after.pending)
    ids = {}
    for entry in sorted(fresh, key=lambda entry: entry.id not in dropped):
        hashed, place = layout.id_hash(entry.id), Place(entry.position, entry.digest)
        if len(actions) < ACTIONS - 1:
            actions.append(_claim(pk, hashed, place, after.dead))
            ids[len(actions)] = entry.id
        elif is_certain or is_new:
            after.pending[hashed] = place
        else:
            raise Overflow
    for hashed in settled[: ACTIONS - 1 - len(actions)]:
        actions.append(_put_item(_id_item(pk, hashed, after.pending.pop(hashed))))

    positions = {record_id: place.position for record_id, place in known.items()}
    positions.update((entry.id, entry.position) for entry in fresh)
    receipt = Receipt(after.tail, [positions[record.id] for record in changes.append], versions, resource_versions)
    return Plan([_write_head(pk, head, after), *actions], Heads(after, resource), receipt, ids, cut is not None)


def plan_settling(scope: Thread, heads: Heads) -> Plan:
    """The transaction that changes nothing but that ids which are pending get items of their own."""
    pk = layout.thread_partition(scope.resource_id, scope.thread_id)
    after = replace(heads.thread, mark=layout.new_mark(), pending=dict(heads.thread.pending))
    actions = [
        _put_item(_id_item(pk, hashed, after.pending.pop(hashed))) for hashed in list(after.pending)[: ACTIONS - 1]
    ]
    return Plan([_write_head(pk, heads.thread, after), *actions], Heads(after, heads.resource), Receipt(after.tail), {})


def plan_dead(scope: Thread, heads: Heads, swept: Sequence[Range]) -> Plan | None:
    """The transaction that changes nothing but that a head forgets what was swept; None where it has nothing of it."""
    pk = layout.thread_partition(scope.resource_id, scope.thread_id)
    left = tuple(dropped for dropped in heads.thread.dead if dropped not in swept)
    if len(left) == len(heads.thread.dead):
        return None
    after = replace(heads.thread, mark=layout.new_mark(), dead=left)
    return Plan([_write_head(pk, heads.thread, after)], Heads(after, heads.resource), Receipt(after.tail), {})


def _put_item(item: Item, condition: str | None = None, **values: Any) -> Action:
    put: dict[str, Any] = {"Item": item}
    if condition is not None:
        put |= {"ConditionExpression": condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        if values:
            put["ExpressionAttributeValues"] = {f":{name}": value for name, value in values.items()}
    return {"Put": put}


def delete_item(key: Item, condition: str | None = None, **values: Any) -> Action:
    """An action that removes an item."""
    delete: dict[str, Any] = {"Key": key}
    if condition is not None:
        delete |= {"ConditionExpression": condition}
        if values:
            delete["ExpressionAttributeValues"] = {f":{name}": value for name, value in values.items()}
    return {"Delete": delete}


def _write_head(pk: bytes, before: Head, after: Head) -> Action:
    item = after.write(pk)
    if len(item["s"]["B"]) > HEAD_BYTES:
        raise StoreFull(
            f"the documents of the thread make its head larger than {HEAD_BYTES} bytes; DynamoDB has no room for more "
            f"than {DOC_ITEMS} large documents in a commit, nor for thousands in a thread"
        )
    if before.mark:
        return _put_item(item, "m = :m", m={"B": before.mark})
    return _put_item(item, "attribute_not_exists(pk)")


def _write_resource(resource_id: str, before: ResourceHead, after: ResourceHead) -> list[Action]:
    """What makes one head of another; its documents may be written only if they are still those of `before`."""
    if after == before:
        return []
    key = layout.key(layout.resource_partition(resource_id), HEAD)
    docs = after.write_docs()
    if len(docs) > HEAD_BYTES:
        raise StoreFull(
            f"the documents of the resource make its head larger than {HEAD_BYTES} bytes; DynamoDB has no room for "
            f"more than {DOC_ITEMS} large documents in a commit, nor for thousands in a resource"
        )
    if not before.mark:
        item = {**key, "m": {"B": after.mark}, "n": {"N": str(after.threads)}, "s": {"B": docs}}
        return [
            _put_item(item, "attribute_not_exists(pk)"),
            _put_item({**layout.registry_key(resource_id)}),
        ]
    threads = {":n": {"N": str(after.threads - before.threads)}}
    if after.mark == before.mark:
        update = {
            "UpdateExpression": "ADD n :n",
            "ConditionExpression": "attribute_exists(pk) AND attribute_not_exists(z)",
            "ExpressionAttributeValues": threads,
        }
    else:
        values = {":m": {"B": after.mark}, ":s": {"B": docs}, ":old": {"B": before.mark}}
        update = {
            "UpdateExpression": "SET m = :m, s = :s ADD n :n",
            "ConditionExpression": "m = :old",
            "ExpressionAttributeValues": {**values, **threads},
        }
    return [{"Update": {"Key": key, **update, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}}]


def _list(scope: Thread, before: Head, after: Head) -> list[Action]:
    """What keeps the lists of the resource's threads."""
    pk = layout.resource_partition(scope.resource_id)

    def entry(order: str, at: int) -> Item:
        return layout.key(pk, layout.list_sort(order, at, scope.thread_id))

    actions = []
    if not before.epoch:
        actions.append(_put_item(entry("created", after.created)))
    elif before.active != after.active:
        actions.append(delete_item(entry("active", before.active)))
    if before.active != after.active or not before.epoch:
        actions.append(_put_item(entry("active", after.active)))
    return actions


def _put(
    pk: bytes, before: Mapping[str, Kept], puts: Sequence[Put], room: int
) -> tuple[dict[str, Kept], list[int], list[Action]]:
    """The documents after some puts, the versions of these, and the actions, of which there are at most `room`."""
    docs, versions, actions = dict(before), [], list[Action]()
    sizes = {put.slot: len((put.body or "").encode()) for put in puts}
    large = sorted((slot for slot, size in sizes.items() if size > INLINE), key=lambda slot: -sizes[slot])[:room]
    for put in puts:
        old = before.get(put.slot, Kept(0, None))
        version = old.version + 1
        versions.append(version)
        if put.slot in large:
            docs[put.slot] = Kept(version, None, True)
            actions.append(_put_item(layout.write_doc(pk, put.slot, Doc(version, put.body))))
        else:
            docs[put.slot] = Kept(version, put.body)
            if old.is_elsewhere and len(actions) + len(large) < room:
                actions.append(delete_item(layout.key(pk, layout.doc_sort(put.slot))))
    return docs, versions, actions


def _cut(pk: bytes, head: Head, cut: Cut, dropped: Set[str]) -> list[Action]:
    """Drop the records above a position from a head; the actions shorten the pack in which that position is.

    `dropped` are the ids that go with this pack and are not appended again: the sweep that follows would not find them.
    """
    head.dead = _joined(head.dead, (cut.position + 1, head.newest))
    head.position = cut.position
    head.pending = {hashed: place for hashed, place in head.pending.items() if place.position <= cut.position}
    if cut.pack is None or cut.pack.records[-1].position <= cut.position:
        return []
    kept = [entry for entry in cut.pack.records if entry.position <= cut.position]
    return [
        *(_put_item(item) for item in layout.write_packs(pk, head.epoch, cut.pack.before, kept)),
        *(delete_item(layout.key(pk, layout.id_sort(layout.id_hash(one)))) for one in dropped),
    ]


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


def _id_item(pk: bytes, hashed: bytes, place: Place) -> Item:
    return {
        **layout.key(pk, layout.id_sort(hashed)),
        "p": {"N": str(place.position)},
        "d": {"S": place.digest},
    }


def _claim(pk: bytes, hashed: bytes, place: Place, dead: Sequence[Range]) -> Action:
    """Write where a record is, unless its id is there already, and not only because it was not yet swept."""
    condition, values = "attribute_not_exists(pk)", dict[str, Any]()
    for number, (first, last) in enumerate(dead):
        condition += f" OR p BETWEEN :a{number} AND :b{number}"
        values |= {f"a{number}": {"N": str(first)}, f"b{number}": {"N": str(last)}}
    return _put_item(_id_item(pk, hashed, place), condition, **values)
