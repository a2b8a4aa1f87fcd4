"""One transaction: the actions that DynamoDB is asked for, what they make of the heads, and what a refusal means.

Its first action writes a head, on the condition that this is still as it was seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from threadkeep.errors import StoreFull
from threadkeep.port import Doc, Resource, Scope, Stored, Thread
from threadkeep_adapters.dynamodb import layout
from threadkeep_adapters.dynamodb.errors import Cancelled
from threadkeep_adapters.dynamodb.layout import HEAD, Head, Heads, Item, Kept, Pack, Range, RecordPlace, ResourceHead

ACTIONS: Final = 100
"""In one transaction, at most.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html
"""

DOC_ITEMS: Final = 24
"""Documents of one commit that get items of their own, at most; of more than these, the smaller go into the head."""

HEAD_BYTES: Final = 390_000
"""A head, at most; an item may have 400 KB with everything."""

Action: TypeAlias = dict[str, Any]
"""As botocore takes it: {"Put": {...}}, and without the table's name."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """All of it is done, or nothing."""

    actions: Sequence[Action]
    heads: Heads
    """The heads afterwards."""
    ids: Mapping[int, str] = field(default_factory=dict)
    """By number of the action: the record whose id must not be there."""

    def is_done(self, found: Item | None) -> bool:
        """Whether what is there in the place of the first action's item, a head, was written by this transaction."""
        if not found:
            return False
        return bytes(found["m"]["B"]) in (self.heads.thread.mark, self.heads.resource.mark)

    def ids_there(self, cancelled: Cancelled) -> dict[str, RecordPlace] | None:
        """Where the records are whose ids alone stood against it; None where a head is another."""
        failed = [number for number, has_failed in enumerate(cancelled.failed) if has_failed]
        if not failed or any(number not in self.ids for number in failed):
            return None
        there = [(self.ids[number], cancelled.old[number]) for number in failed]
        return {record_id: layout.read_id(item) for record_id, item in there if item is not None}


@dataclass(frozen=True, slots=True)
class DocChange:
    """What a commit does to the documents of one head."""

    docs: dict[str, Kept]
    """All of them, afterwards."""
    versions: list[int]
    """Of those that were put, in their order."""
    put: Mapping[str, Doc]
    """By slot: those that get an item of their own."""
    removed: Collection[str]
    """Slots of those whose item is not needed any more."""

    @property
    def items(self) -> int:
        """How many items it writes or removes."""
        return len(self.put) + len(self.removed)


@dataclass(frozen=True, slots=True)
class ThreadChange:
    """What a commit does to a thread, before it is known for which ids there is room."""

    before: Heads
    after: Heads
    """With the ids in it that are pending now."""
    docs: DocChange
    resource_docs: DocChange
    packs: Sequence[Pack]
    """What is written to the log."""
    new: Sequence[Stored]
    """The new records, in the order in which their ids find room."""
    dropped_ids: Collection[str]
    """Whose items are removed."""


def write_resource(scope: Resource, before: Heads, after: Heads, docs: DocChange) -> Transaction:
    """The transaction of a commit to a resource."""
    _, pk = layout.partitions(scope)
    items = [layout.write_doc(pk, slot, doc) for slot, doc in docs.put.items()]
    gone = [layout.key(pk, layout.doc_sort(slot)) for slot in docs.removed]
    head = _resource_head(scope.resource_id, before.resource, after.resource)
    return Transaction([*head, *_puts(items), *_deletes(gone)], after)


def write_thread(scope: Thread, change: ThreadChange, *, are_ids_certain: bool) -> Transaction | None:
    """The transaction of a commit to a thread.

    What has no room for an item of its own is an id, which the head then keeps: but only if it is certain that all
    the new records are new. Otherwise None, where there is no room to test that.
    """
    pk, resource_pk = layout.partitions(scope)
    before, after = change.before.thread, change.after.thread
    items = [layout.write_doc(pk, slot, doc) for slot, doc in change.docs.put.items()]
    items += [layout.write_doc(resource_pk, slot, doc) for slot, doc in change.resource_docs.put.items()]
    items += [item for pack in change.packs for item in layout.write_packs(pk, pack)]
    gone = [layout.key(pk, layout.doc_sort(slot)) for slot in change.docs.removed]
    gone += [layout.key(resource_pk, layout.doc_sort(slot)) for slot in change.resource_docs.removed]
    gone += [layout.id_key(pk, record_id) for record_id in change.dropped_ids]
    if not before.epoch:
        items.append(layout.list_key(resource_pk, "created", after.created, scope.thread_id))
        items.append(layout.list_key(resource_pk, "active", after.active, scope.thread_id))
    elif before.active != after.active:
        items.append(layout.list_key(resource_pk, "active", after.active, scope.thread_id))
        gone.append(layout.list_key(resource_pk, "active", before.active, scope.thread_id))
    others = _resource_head(scope.resource_id, change.before.resource, change.after.resource)
    actions = [*others, *_puts(items), *_deletes(gone)]

    # The thread's head is the first action, and made last, when it is known which ids it has to hold.
    pending = dict(after.pending)
    ids: dict[int, str] = {}
    for record in change.new:
        hashed, place = layout.id_hash(record.id), RecordPlace(record.position, record.digest)
        if len(actions) < ACTIONS - 1:
            actions.append(_claim(pk, hashed, place, after.dead))
            ids[len(actions)] = record.id
        elif are_ids_certain:
            pending[hashed] = place
        else:
            return None
    room = ACTIONS - 1 - len(actions)
    settled = [layout.write_id(pk, hashed, pending.pop(hashed)) for hashed in list(after.pending)[:room]]
    actions += _puts(settled)
    head = replace(after, pending=pending)
    return Transaction([_thread_head(pk, before, head), *actions], Heads(head, change.after.resource), ids)


def write_settling(scope: Scope, heads: Heads) -> Transaction:
    """The transaction that changes nothing but that ids which are pending get items of their own."""
    pk, _ = layout.partitions(scope)
    pending = dict(heads.thread.pending)
    settled = [layout.write_id(pk, hashed, pending.pop(hashed)) for hashed in list(pending)[: ACTIONS - 1]]
    after = replace(heads.thread, mark=layout.new_mark(), pending=pending)
    return Transaction([_thread_head(pk, heads.thread, after), *_puts(settled)], Heads(after, heads.resource))


def write_swept(scope: Scope, heads: Heads, swept: Sequence[Range]) -> Transaction | None:
    """The transaction that changes nothing but that a head forgets what was swept; None where it has nothing of it."""
    pk, _ = layout.partitions(scope)
    left = tuple(dropped for dropped in heads.thread.dead if dropped not in swept)
    if len(left) == len(heads.thread.dead):
        return None
    after = replace(heads.thread, mark=layout.new_mark(), dead=left)
    return Transaction([_thread_head(pk, heads.thread, after)], Heads(after, heads.resource))


def put_item(item: Item, condition: str | None = None, **values: Any) -> Action:
    """An action that writes an item, under a condition that may name values."""
    return {"Put": {"Item": item, **_on_condition(condition, values, returns_old=True)}}


def delete_item(key: Item, condition: str | None = None, **values: Any) -> Action:
    """An action that removes an item, under a condition that may name values."""
    return {"Delete": {"Key": key, **_on_condition(condition, values, returns_old=False)}}


def _on_condition(condition: str | None, values: Mapping[str, Any], *, returns_old: bool) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if condition is not None:
        given["ConditionExpression"] = condition
        if returns_old:
            given["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        if values:
            given["ExpressionAttributeValues"] = {f":{name}": value for name, value in values.items()}
    return given


def _puts(items: Iterable[Item]) -> list[Action]:
    return [put_item(item) for item in items]


def _deletes(keys: Iterable[Item]) -> list[Action]:
    return [delete_item(key) for key in keys]


def _claim(pk: bytes, hashed: bytes, place: RecordPlace, dead: Sequence[Range]) -> Action:
    """Write where a record is, unless its id is there already, and not only because it was not yet swept."""
    condition, values = "attribute_not_exists(pk)", dict[str, Any]()
    for number, (first, last) in enumerate(dead):
        condition += f" OR p BETWEEN :a{number} AND :b{number}"
        values |= {f"a{number}": {"N": str(first)}, f"b{number}": {"N": str(last)}}
    return put_item(layout.write_id(pk, hashed, place), condition, **values)


def _thread_head(pk: bytes, before: Head, after: Head) -> Action:
    item = after.write(pk)
    if len(item["s"]["B"]) > HEAD_BYTES:
        raise StoreFull(
            f"the documents of the thread make its head larger than {HEAD_BYTES} bytes; DynamoDB has no room for more "
            f"than {DOC_ITEMS} large documents in a commit, nor for thousands in a thread"
        )
    if before.mark:
        return put_item(item, "m = :m", m={"B": before.mark})
    return put_item(item, "attribute_not_exists(pk)")


def _resource_head(resource_id: str, before: ResourceHead, after: ResourceHead) -> list[Action]:
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
        return [put_item(item, "attribute_not_exists(pk)"), put_item(layout.registry_key(resource_id))]
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
