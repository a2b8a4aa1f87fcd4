"""Loading: a consistent view from requests that are each alone."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from threadkeep.errors import StoreUnavailable
from threadkeep.store import Doc, Resource, Scope, Snapshot, Thread, Window
from threadkeep_adapters.mongo.layout import (
    Docs,
    Document,
    ResourceState,
    ThreadState,
    commit_id,
    newest_resource,
    newest_thread,
    record_key,
    resource_key,
    stored,
    thread_key,
)
from threadkeep_adapters.mongo.requests import Requests, happened, look, records_of

TRIES: Final = 60
"""How often a load begins again because of commits that came between its requests."""


async def load(requests: Requests, scope: Scope, window: Window) -> tuple[Snapshot, int]:
    """The snapshot, and how many records and documents were read for it.

    First the newest states of the resource and the thread are read, in one request that may see a commit in one of
    them and not in the other. Then the records, and again which state of the thread is the newest: if it is still
    the same, it was so too when the resource's state was read.
    """
    rows = 0
    for number in range(TRIES):
        if number:
            await asyncio.sleep(random.random() * 0.002 * min(number, 10))
        snapshot, moved = await _try(requests, scope, window)
        rows += moved
        if snapshot is not None:
            return snapshot, rows
    raise StoreUnavailable(f"a load was overtaken by commits {TRIES} times; load again")


async def _try(requests: Requests, scope: Scope, window: Window) -> tuple[Snapshot | None, int]:
    key = resource_key(scope.resource_id)
    if isinstance(scope, Resource):
        resource = newest_resource(key, await requests.find(look(key)))
        docs = await read_docs(requests, resource.docs)
        return (None if docs is None else Snapshot(resource_docs=docs)), len(resource.docs)
    thread_id = thread_key(key, scope.thread_id)
    anchor = window.anchor
    keys = [record_key(thread_id, anchor)] if isinstance(anchor, str) else []
    position = anchor if isinstance(anchor, int) else None
    found = await requests.find(look(key, thread_id, keys, position), {"body": 0}, largest=0)
    resource = newest_resource(key, found)
    thread = newest_thread(thread_id, found, resource)
    if thread.number > resource.number:
        return None, 0
    rows = len(resource.docs) + len(thread.docs)
    candidates = records_of(found, thread)
    again: list[Document] = [{"s": thread_id}]
    if thread.exists:
        if isinstance(anchor, int) and not candidates:
            candidates = await _near(requests, key, thread, anchor)
        if candidates and anchor is not None:
            again.append({"_id": {"$in": [commit_id(key, int(each["w"])) for each in candidates]}})
        anchors: list[Document | None] = [*candidates] or [None]
        for low, high in (_bounds(thread, window, _cut_at(thread, anchor, each)) for each in anchors):
            if low < high:
                again.append({"r": key, "t": thread_id, "o": {"$gte": low, "$lt": high}})
    found = await requests.find({"$or": again} if len(again) > 1 else again[0], largest=thread.largest)
    rows += sum("p" in each for each in found)
    newest = newest_thread(thread_id, found, resource)
    if newest.number != thread.number and thread.number != resource.number:
        return None, rows
    if not thread.exists:
        if newest.exists:
            return None, rows
        docs = await read_docs(requests, resource.docs)
        return (None if docs is None else Snapshot(resource_docs=docs)), rows
    cut = _cut_at(thread, anchor, next(iter(happened(candidates, key, found)), None))
    records = await _window(requests, key, thread, _bounds(thread, window, cut), found)
    docs, common = await read_docs(requests, thread.docs), await read_docs(requests, resource.docs)
    if records is None or docs is None or common is None:
        return None, rows
    return Snapshot(
        thread.tail, thread.created, thread.active, [stored(record) for record in records], docs, common
    ), rows


def _cut_at(thread: ThreadState, anchor: int | str | None, record: Document | None) -> int | None:
    """How many records are below an anchor, given the record there or next below; None: nowhere."""
    if anchor is None:
        return thread.count
    if isinstance(anchor, str):
        return None if record is None else int(record["o"])
    if anchor > thread.position:
        return thread.count
    if anchor <= 1 or record is None:
        return 0
    return int(record["o"]) + (int(record["p"]) < anchor)


def _bounds(thread: ThreadState, window: Window, cut: int | None) -> tuple[int, int]:
    """The ordinals in a window, from the first to before the second."""
    if cut is None:
        return 0, 0
    return max(0, cut - window.before), min(thread.count, cut + window.after)


async def _near(requests: Requests, resource: str, thread: ThreadState, position: int) -> list[Document]:
    """The thread's newest record below a position at which it has none: a list of one, or of none."""
    if position <= 1 or position > thread.position:
        return []
    return await newest_until(requests, resource, thread, position - 1)


async def newest_until(requests: Requests, resource: str, thread: ThreadState, position: int) -> list[Document]:
    """The thread's newest record up to a position, without its body: a list of one, or of none."""
    while position > 0:
        query = {"t": thread.key, "p": {"$gt": 0, "$lte": position}}
        found = await requests.page(query, "p", 8, falling=True, projection={"body": 0})
        own = await requests.valid(records_of(found, thread), resource)
        if own:
            return [max(own, key=lambda record: int(record["p"]))]
        if len(found) < 8:
            return []
        # Never the same page again, where all eight have one position.
        position = min(int(found[-1]["p"]), position - 1)
    return []


async def _window(
    requests: Requests, resource: str, thread: ThreadState, bounds: tuple[int, int], found: list[Document]
) -> list[Document] | None:
    """The records with ordinals within bounds; None where one is not there any more."""
    low, high = bounds
    own = [each for each in records_of(found, thread) if low <= int(each["o"]) < high]
    if len(own) > high - low:
        # What a writer left behind that lost a race, or died in it, lies beside the record in its place.
        own = await requests.valid(own, resource)
    by_ordinal = {int(record["o"]): record for record in own}
    if len(by_ordinal) < high - low or len(own) > high - low:
        return None
    return [by_ordinal[ordinal] for ordinal in range(low, high)]


async def read_docs(requests: Requests, docs: Docs) -> dict[str, Doc] | None:
    """Documents with their texts, fetched where they are kept apart; None where one is not there any more."""
    places = [doc.place for doc in docs.values() if doc.place is not None]
    bodies: dict[str, str] = {}
    if places:
        bodies = {each["_id"]: each["body"] for each in await requests.find({"_id": {"$in": places}})}
        if len(bodies) < len(places):
            return None
    return {slot: Doc(doc.version, doc.body if doc.place is None else bodies[doc.place]) for slot, doc in docs.items()}


def scope_keys(scope: Scope) -> tuple[str, str]:
    """The keys of a scope's resource and thread, "" where it is a resource."""
    resource = resource_key(scope.resource_id)
    return resource, thread_key(resource, scope.thread_id) if isinstance(scope, Thread) else ""


def states(found: list[Document], resource: str, thread: str) -> tuple[ResourceState, ThreadState]:
    """The newest states among documents that were read."""
    newest = newest_resource(resource, found)
    return newest, newest_thread(thread, found, newest)
