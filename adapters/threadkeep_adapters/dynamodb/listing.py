"""Lists: the threads of a resource, and the resources of the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from threadkeep.port import After, Order, Resource, Thread, ThreadRow
from threadkeep_adapters.dynamodb import layout
from threadkeep_adapters.dynamodb.connections import Client, Deadline
from threadkeep_adapters.dynamodb.layout import HEAD, Head, Item, partitions
from threadkeep_adapters.dynamodb.reading import Torn, read_docs

STRICT_LOOKS: Final = 3
"""How often a page is read in which every thread has to be where it was found. Later, it may have moved meanwhile."""


def threads(
    client: Client, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
) -> list[ThreadRow]:
    """See `Store.threads`."""
    deadline = client.deadline()
    looks = 0
    while True:
        looks += 1
        try:
            return _page(client, deadline, resource, after, limit, order, slots, is_strict=looks <= STRICT_LOOKS)
        except Torn:
            deadline.give_way("the threads change faster than they can be listed")


def _page(
    client: Client,
    deadline: Deadline,
    resource: Resource,
    after: After | None,
    limit: int,
    order: Order,
    slots: Sequence[str],
    *,
    is_strict: bool,
) -> list[ThreadRow]:
    """One look. Where it is not strict, a thread that moved is shown at the place where it was found. Raises Torn."""
    _, pk = partitions(resource)
    letter = b"C" if order == "created" else b"A"
    low, high = letter, letter + b"\xff" * 9
    if after is not None:
        at = min(max(after.at, layout.LEAST_MOMENT), layout.MOST_MOMENT)
        start = layout.list_sort(order, at, after.thread_id if at == after.at else "")
        if order == "created":
            low = start + b"\0"
        else:
            high = start
    rows: list[ThreadRow] = []
    shown: set[str] = set()
    for page in client.query(deadline, pk, low, high, forward=order == "created", limit=limit + 1, names="sk"):
        listed = [layout.read_list_sort(bytes(item["sk"]["B"])) for item in page]
        if after is not None and order == "active":
            listed = [one for one in listed if one != (after.at, after.thread_id)]
        heads = _heads(client, deadline, resource, [thread_id for _, thread_id in listed])
        if heads is None:
            return []
        found = [(at, thread_id, heads[thread_id]) for at, thread_id in listed if thread_id in heads]
        if is_strict and any(at != _time(head, order) for at, _, head in found):
            raise Torn
        wanted = [
            (
                partitions(Thread(resource.resource_id, thread_id))[0],
                {slot: head.docs[slot] for slot in slots if slot in head.docs},
            )
            for _, thread_id, head in found
        ]
        for (at, thread_id, head), docs in zip(found, read_docs(client, deadline, wanted), strict=True):
            if thread_id not in shown and len(rows) < limit:
                shown.add(thread_id)
                row = ThreadRow(thread_id, head.tail, head.created, head.active, docs)
                # By the time at which it was found; where the look is strict, it has no other.
                rows.append(row._replace(created=at) if order == "created" else row._replace(active=at))
        if len(rows) == limit:
            break
    return rows


def _time(head: Head, order: Order) -> int:
    """The time by which a list has a thread."""
    return head.created if order == "created" else head.active


def _heads(client: Client, deadline: Deadline, resource: Resource, ids: Sequence[str]) -> dict[str, Head] | None:
    """The heads of the threads that are there, by id, or None where the resource has been erased."""
    _, resource_pk = partitions(resource)
    by_partition = {partitions(Thread(resource.resource_id, one))[0]: one for one in ids}
    keys = [layout.key(pk, HEAD) for pk in (resource_pk, *by_partition)]
    found: dict[str, Head] = {}
    is_there = False
    for item in client.get_each(deadline, keys):
        pk = bytes(item["pk"]["B"])
        if pk == resource_pk:
            is_there = not layout.read_resource_head(item).is_gone
        elif (head := layout.read_head(item)).epoch:
            found[by_partition[pk]] = head
    return found if is_there else None


def resources(client: Client, after: str | None, limit: int) -> list[str]:
    """See `Store.resources`."""
    deadline = client.deadline()
    low = b"\0" if after is None else after.encode() + b"\0"
    rows: list[str] = []
    for page in client.query(deadline, layout.REGISTRY, low, b"\xff" * 8, limit=limit, names="sk"):
        listed = [bytes(item["sk"]["B"]).decode() for item in page]
        keys: dict[bytes, Item] = {
            layout.resource_partition(one): layout.key(layout.resource_partition(one), HEAD) for one in listed
        }
        there = {
            bytes(item["pk"]["B"]) for item in client.get_each(deadline, list(keys.values())) if _holds_something(item)
        }
        rows += [one for one in listed if layout.resource_partition(one) in there]
        if len(rows) >= limit:
            break
    return rows[:limit]


def _holds_something(item: Item) -> bool:
    head = layout.read_resource_head(item)
    return not head.is_gone and bool(head.threads or head.docs)
