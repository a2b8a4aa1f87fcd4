"""Removing: threads, resources, and what truncations have left behind.

First a head, which is the moment of the deletion, then the rest, in transactions on the condition that the head is
still the one that was left behind. So nobody who sweeps late can touch a thread that was created again. A thread that
is too large for one transaction leaves a note with its resource, by which whoever erases the resource finds it.

The heads of a resource's threads do not fit into one transaction. So an erasure first writes its token into the
resource's head, whereupon no thread is made any more, then into the head of each thread, whereupon none is committed
to, and all of it can still be read. Then the resource's head says that it is gone, and so is all of it in one moment.
Who finds a token when committing finishes the erasure first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from threadkeep.port import Resource, Scope, Thread
from threadkeep_adapters.dynamodb import layout
from threadkeep_adapters.dynamodb.connections import Client, Deadline
from threadkeep_adapters.dynamodb.errors import Cancelled
from threadkeep_adapters.dynamodb.layout import HEAD, Head, Heads, Item, ResourceHead, partitions
from threadkeep_adapters.dynamodb.reading import read_heads
from threadkeep_adapters.dynamodb.transaction import ACTIONS, Action, delete_item, write_swept

BYTES: Final = 3_500_000
"""Of items in one transaction, at most; DynamoDB allows 4 MB.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html
"""

_OVERHEAD: Final = 1500
"""Bytes of an item beside its body, at most."""

FREEZE: Final = 10
"""Threads that are frozen in one transaction: their heads may have 400 KB each, and DynamoDB allows 4 MB."""

HEAD_LOOKS: Final = 5
"""How often a head is looked at that others change, to have it forget what was swept; then it is left to the next."""


def remove_thread(client: Client, deadline: Deadline, scope: Thread, erasure: bytes | None = None) -> None:
    """Remove a thread with everything of it, or what an earlier removal left, or nothing.

    With `erasure`, only if that is what the thread was frozen for.
    """
    pk, resource_pk = partitions(scope)
    while True:
        heads, _ = read_heads(client, deadline, scope)
        head = heads.thread
        if head.is_gone:
            sweep_thread(client, deadline, scope, head.mark)
            return
        if not head.mark:
            return
        if erasure is not None and erasure != head.frozen:
            return
        around = [*_unlisted(scope, head), *_uncounted(scope, heads.resource)]
        keys = _first_keys(client, deadline, pk, ACTIONS - 1 - len(around))
        mark = layout.new_mark()
        if keys is not None:
            actions = [_delete_head(pk, head.mark), *around, *(delete_item(one) for one in keys)]
        else:
            put = {"Item": Head(mark, is_gone=True).write(pk), **_if_mark(head.mark)}
            note = {"Item": layout.key(resource_pk, layout.gone_sort(pk))}
            actions = [{"Put": put}, {"Put": note}, *around]
        try:
            client.transact(deadline, actions)
        except Cancelled:
            deadline.give_way("others are changing the thread")
            continue
        if keys is None:
            sweep_thread(client, deadline, scope, mark)
        return


def sweep_thread(client: Client, deadline: Deadline, scope: Scope, mark: bytes) -> None:
    """Remove what a thread left whose head says with this mark that it is gone."""
    pk, resource_pk = partitions(scope)
    sweep_partition(client, deadline, pk, mark, delete_item(layout.key(resource_pk, layout.gone_sort(pk))))


def remove_resource(client: Client, deadline: Deadline, resource: Resource) -> None:
    """Remove a resource with everything of it, or what earlier removals left, or nothing."""
    _, pk = partitions(resource)
    while True:
        found = read_heads(client, deadline, resource)[0].resource
        if not found.mark:
            break
        erasure = found.erasure or layout.new_mark()
        if not found.erasure:
            set_token = "SET m = :new, z = :new"
            if not _change_resource(client, deadline, pk, found.mark, set_token, {":new": {"B": erasure}}):
                deadline.give_way("others are changing the resource")
                continue
        finish_erasure(client, deadline, resource, erasure)
        break
    for page in client.query(deadline, pk, layout.GONE, layout.GONE + b"\xff", names="sk"):
        for item in page:
            note = {"pk": {"B": pk}, "sk": item["sk"]}
            left = bytes(item["sk"]["B"])[len(layout.GONE) :]
            for found_head in client.get_each(deadline, [layout.key(left, HEAD)]):
                head = layout.read_head(found_head)
                if head.is_gone:
                    sweep_partition(client, client.deadline(), left, head.mark, delete_item(note))


def finish_erasure(client: Client, deadline: Deadline, resource: Resource, erasure: bytes) -> None:
    """Go on with an erasure that has begun, to its end; nothing where another did."""
    _, pk = partitions(resource)
    while True:
        found = read_heads(client, deadline, resource)[0].resource
        if found.erasure != erasure:
            return
        mark = found.mark
        if not found.is_gone:
            if not _freeze(client, deadline, resource, erasure):
                continue
            mark = layout.new_mark()
            changed = _change_resource(
                client,
                deadline,
                pk,
                found.mark,
                "SET m = :new, g = :gone REMOVE s",
                {":new": {"B": mark}, ":gone": {"N": "1"}},
            )
            if not changed:
                continue
        for page in client.query(deadline, pk, b"C", b"D", names="sk"):
            for item in page:
                _, thread_id = layout.read_list_sort(bytes(item["sk"]["B"]))
                remove_thread(client, client.deadline(), Thread(resource.resource_id, thread_id), erasure)
        sweep_partition(client, client.deadline(), pk, mark, delete_item(layout.registry_key(resource.resource_id)))
        return


def _change_resource(
    client: Client, deadline: Deadline, pk: bytes, mark: bytes, update: str, values: dict[str, Any]
) -> bool:
    """Update a resource's head unless it has changed; whether it has not."""
    action = {
        "Key": layout.key(pk, HEAD),
        "UpdateExpression": update,
        "ConditionExpression": "m = :old",
        "ExpressionAttributeValues": {**values, ":old": {"B": mark}},
    }
    try:
        client.transact(deadline, [{"Update": action}])
    except Cancelled:
        return False
    return True


def _freeze(client: Client, deadline: Deadline, resource: Resource, erasure: bytes) -> bool:
    """Let no thread of a resource be committed to any more; False where the erasure is past that already."""
    _, pk = partitions(resource)
    check = {
        "Key": layout.key(pk, HEAD),
        "ConditionExpression": "z = :z AND attribute_not_exists(g)",
        "ExpressionAttributeValues": {":z": {"B": erasure}},
    }
    for page in client.query(deadline, pk, b"C", b"D", names="sk"):
        ids = [layout.read_list_sort(bytes(item["sk"]["B"]))[1] for item in page]
        updates: list[Action] = [
            {
                "Update": {
                    "Key": layout.key(layout.thread_partition(resource.resource_id, thread_id), HEAD),
                    "UpdateExpression": "SET m = :new, z = :z",
                    "ConditionExpression": "attribute_exists(e)",
                    "ExpressionAttributeValues": {":new": {"B": layout.new_mark()}, ":z": {"B": erasure}},
                }
            }
            for thread_id in ids
        ]
        for start in range(0, len(updates), FREEZE):
            if not _do_while(client, deadline, check, updates[start : start + FREEZE]):
                return False
    return True


def sweep_partition(client: Client, deadline: Deadline, pk: bytes, mark: bytes, *last: Action) -> None:
    """Remove all items of a partition, its head at last, and with it do `last`; nothing once the head has changed."""
    batch: list[Action] = []
    size = 0
    check = {"Key": layout.key(pk, HEAD), **_if_mark(mark)}
    try:
        for key, bytes_of in _keys(client, deadline, pk):
            if len(batch) == ACTIONS - 1 - len(last) or size + bytes_of > BYTES:
                client.transact(client.deadline(), [{"ConditionCheck": check}, *batch])
                batch, size = [], 0
            batch.append(delete_item(key))
            size += bytes_of
        client.transact(client.deadline(), [_delete_head(pk, mark), *batch, *last])
    except Cancelled:
        return  # somebody else has removed it meanwhile


def sweep_dropped(client: Client, deadline: Deadline, scope: Scope, heads: Heads) -> Heads:
    """Remove what truncations have left of a thread. The heads afterwards, as far as they are known."""
    pk, _ = partitions(scope)
    head = heads.thread
    check = {
        "Key": layout.key(pk, HEAD),
        "ConditionExpression": "e = :e",
        "ExpressionAttributeValues": {":e": {"S": head.epoch}},
    }
    for first, last in head.dead:
        low, high = layout.log_sort(first), layout.log_sort(last, 2**16 - 1)
        left: list[Item] = []
        for page in client.query(deadline, pk, low, high):
            packs = layout.read_packs([*left, *page])
            # Ids go before the records that tell of them, so that a sweep that was interrupted can be taken up.
            actions = [_delete_id(pk, record.id, record.position) for pack in packs.values() for record in pack.records]
            whole = [item for item in (*left, *page) if layout.read_log_sort(item) in packs]
            left = [item for item in (*left, *page) if layout.read_log_sort(item) not in packs]
            actions += [delete_item({"pk": item["pk"], "sk": item["sk"]}) for item in whole]
            # They are of one page of a query, of 1 MB, and the beginning of a record, so that size is no concern.
            if not _do_while(client, deadline, check, actions):
                return heads
    for _ in range(HEAD_LOOKS):
        forgetting = write_swept(scope, heads, head.dead)
        if forgetting is None:
            return heads
        try:
            client.transact(deadline, forgetting.actions)
            return forgetting.heads
        except Cancelled:
            heads = read_heads(client, deadline, scope)[0]
    return heads


def _do_while(client: Client, deadline: Deadline, check: dict[str, Any], actions: Sequence[Action]) -> bool:
    """Do actions as long as a condition holds, without those whose own conditions do not; whether it does."""
    step = ACTIONS - 1
    for start in range(0, len(actions), step):
        batch = list(actions[start : start + step])
        while batch:
            try:
                client.transact(deadline, [{"ConditionCheck": check}, *batch])
                break
            except Cancelled as cancelled:
                if cancelled.failed[0]:
                    return False
                batch = [action for action, failed in zip(batch, cancelled.failed[1:], strict=True) if not failed]
    return True


def _delete_id(pk: bytes, record_id: str, position: int) -> Action:
    return delete_item(layout.id_key(pk, record_id), "attribute_not_exists(pk) OR p = :p", p={"N": str(position)})


def _if_mark(mark: bytes) -> dict[str, Any]:
    return {"ConditionExpression": "m = :m", "ExpressionAttributeValues": {":m": {"B": mark}}}


def _delete_head(pk: bytes, mark: bytes) -> Action:
    return delete_item(layout.key(pk, HEAD), "m = :m", m={"B": mark})


def _unlisted(scope: Thread, head: Head) -> list[Action]:
    _, pk = partitions(scope)
    return [
        delete_item(layout.list_key(pk, "created", head.created, scope.thread_id)),
        delete_item(layout.list_key(pk, "active", head.active, scope.thread_id)),
    ]


def _uncounted(scope: Thread, resource: ResourceHead) -> list[Action]:
    """What takes a thread off its resource's count; with the last one goes a resource that has no documents."""
    key = layout.key(partitions(scope)[1], HEAD)
    if resource.threads == 1 and not resource.docs and not resource.is_gone:
        gone = delete_item(key, "m = :m AND n = :n", m={"B": resource.mark}, n={"N": "1"})
        return [gone, delete_item(layout.registry_key(scope.resource_id))]
    update = {
        "Key": key,
        "UpdateExpression": "ADD n :n",
        "ConditionExpression": "attribute_exists(pk)",
        "ExpressionAttributeValues": {":n": {"N": "-1"}},
    }
    return [{"Update": update}]


def _keys(client: Client, deadline: Deadline, pk: bytes) -> Iterator[tuple[Item, int]]:
    """The keys of a partition but for its head and notes of what is to be swept, with the size of each item."""
    for page in client.query(deadline, pk, b"\x00", b"\xff", names="pk, sk, z"):
        for item in page:
            if bytes(item["sk"]["B"]) != HEAD and not bytes(item["sk"]["B"]).startswith(layout.GONE):
                body = int(item["z"]["N"]) if "z" in item else 0
                yield {"pk": item["pk"], "sk": item["sk"]}, body + _OVERHEAD


def _first_keys(client: Client, deadline: Deadline, pk: bytes, most: int) -> list[Item] | None:
    """The keys of a partition but for its head, or None where they are too many, or too large, for a transaction."""
    keys = []
    size = 0
    for key, bytes_of in _keys(client, deadline, pk):
        keys.append(key)
        size += bytes_of
        if len(keys) > most or size > BYTES - layout.PIECE:
            return None
    return keys
