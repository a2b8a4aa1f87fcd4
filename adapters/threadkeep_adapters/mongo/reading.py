"""Loading: a consistent view from requests that are each alone."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from threadkeep.errors import StoreUnavailable
from threadkeep.port import Doc, Resource, Scope, Snapshot, Thread, Window
from threadkeep_adapters.mongo.layout import (
    Docs,
    Document,
    ResourceState,
    ThreadState,
    commit_id,
    newest_resource,
    newest_thread,
    number_of,
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

    No request is an instant: a server may let writers in between the parts of one. So a load asks one after the other
    for the newest states of resource and thread, for the records, and for the thread's newest state again. If that is
    still the same, it was so when the resource's state was read, and nothing that it holds was removed since.
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
        return await _without_thread(requests, resource), len(resource.docs)
    thread_id = thread_key(key, scope.thread_id)
    anchor = window.anchor
    keys = [record_key(thread_id, anchor)] if isinstance(anchor, str) else []
    position = anchor if isinstance(anchor, int) else None
    found = await requests.find(look(key, thread_id, keys, position), {"body": 0}, largest=0)
    resource, thread = states(found, key, thread_id)
    rows = len(resource.docs) + len(thread.docs)
    if not resource.threads:
        return await _without_thread(requests, resource), rows
    if not thread.exists:
        missing = await _is_missing(requests, resource, thread_id)
        return (await _without_thread(requests, resource) if missing else None), rows
    if thread.number > resource.number:
        return None, rows
    records, moved = await _records(requests, key, thread, window, records_of(found, thread))
    rows += moved
    if records is None:
        return None, rows
    last = await requests.find({"s": thread_id}, {"s": 1}, largest=0)
    if max((number_of(commit) for commit in last), default=0) != thread.number:
        # Resource and thread may still be of one commit, and what is known to be of it was not removed.
        if thread.number != resource.number or anchor is not None:
            return None, rows
        if len(await requests.valid(records, key)) < len(records):
            return None, rows
    docs, common = await read_docs(requests, thread.docs), await read_docs(requests, resource.docs)
    if docs is None or common is None:
        return None, rows
    return Snapshot(
        thread.tail, thread.created, thread.active, [stored(record) for record in records], docs, common
    ), rows


async def _without_thread(requests: Requests, resource: ResourceState) -> Snapshot | None:
    """A resource's documents; None where one is not there any more."""
    docs = await read_docs(requests, resource.docs)
    return None if docs is None else Snapshot(resource_docs=docs)


async def _is_missing(requests: Requests, resource: ResourceState, thread: str) -> bool:
    """Whether a thread was certainly missing when the resource was in a state that was read. Two round trips."""
    found = await requests.find({"s": thread})
    # An erasure alone removes the newest state of a thread; without one, it tells whether there was the thread.
    floor = newest_resource(resource.key, await requests.find(look(resource.key))).floor
    newest = newest_thread(thread, found, resource)
    return floor == resource.floor and not newest.exists and newest.number <= resource.number


async def _records(
    requests: Requests, resource: str, thread: ThreadState, window: Window, hints: list[Document]
) -> tuple[list[Document] | None, int]:
    """The records in a window, None where one is not there any more; and how many were read.

    `hints` were read with the state, and may be what the window is anchored at. They are if their commits happened and
    they are still there: what the state does not hold was removed before it was written.
    """
    cut = _edge(thread, window.anchor)
    if cut is None and hints:
        ids = [*(each["_id"] for each in hints), *(commit_id(resource, int(each["w"])) for each in hints)]
        ranges = [_range(resource, thread, _bounds(thread, window, int(each["o"]))) for each in hints]
        found = await requests.find({"$or": [{"_id": {"$in": ids}}, *ranges]}, largest=thread.largest)
        rows = sum("p" in each for each in found)
        present = {each["_id"] for each in found}
        own = happened([each for each in hints if each["_id"] in present], resource, found)
        if own:
            return await _window(requests, resource, thread, _bounds(thread, window, int(own[0]["o"])), found), rows
    if cut is None:
        cut = await _cut(requests, resource, thread, window.anchor)
    bounds = _bounds(thread, window, cut)
    found = await requests.find(_range(resource, thread, bounds), largest=thread.largest)
    return await _window(requests, resource, thread, bounds, found), len(found)


def _edge(thread: ThreadState, anchor: int | str | None) -> int | None:
    """How many records are below an anchor outside of the thread; None where the anchor has to be looked for."""
    if anchor is None or (isinstance(anchor, int) and anchor > thread.position):
        return thread.count
    return 0 if isinstance(anchor, int) and anchor <= 1 else None


async def _cut(requests: Requests, resource: str, thread: ThreadState, anchor: int | str | None) -> int | None:
    """How many records are below an anchor; None: it is nowhere."""
    if isinstance(anchor, int):
        below = await newest_until(requests, resource, thread, anchor - 1)
        return int(below[0]["o"]) + 1 if below else 0
    own = await confirmed(requests, resource, thread, [record_key(thread.key, str(anchor))], [])
    return int(own[0]["o"]) if own else None


def _bounds(thread: ThreadState, window: Window, cut: int | None) -> tuple[int, int]:
    """The ordinals in a window, from the first to before the second."""
    if cut is None:
        return 0, 0
    return max(0, cut - window.before), min(thread.count, cut + window.after)


def _range(resource: str, thread: ThreadState, bounds: tuple[int, int]) -> Document:
    """The query for a thread's records with ordinals within bounds."""
    low, high = bounds
    return {"r": resource, "t": thread.key, "o": {"$gte": low, "$lt": high}}


async def confirmed(
    requests: Requests, resource: str, thread: ThreadState, keys: list[str], hints: list[Document]
) -> list[Document]:
    """Those of a thread's records that have keys, asked for after the thread's state was read, without their bodies.

    `hints` are records that are expected; one more round trip for others.
    """
    commits = sorted({commit_id(resource, int(each["w"])) for each in hints})
    query: Document = {"k": {"$in": keys}}
    if commits:
        query = {"$or": [query, {"_id": {"$in": commits}}]}
    found = await requests.find(query, {"body": 0, "hd": 0, "sd": 0}, largest=0)
    records = records_of(found, thread)
    others = [each for each in records if commit_id(resource, int(each["w"])) not in commits]
    return [*happened(records, resource, found), *await requests.valid(others, resource)]


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


async def still(requests: Requests, resource: ResourceState, thread: ThreadState) -> bool:
    """Whether a thread, and the documents of its resource, are as they were read before: one round trip.

    If so, both were so at one moment, and no record was removed that was looked for in between.
    """
    found = await requests.find(look(resource.key, thread.key), {"body": 0}, largest=0)
    common, own = states(found, resource.key, thread.key)
    return (own.number, common.floor, common.docs) == (thread.number, resource.floor, resource.docs)
