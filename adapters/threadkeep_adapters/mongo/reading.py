"""Loading: a consistent view from requests that are each alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from threadkeep.errors import StoreUnavailable
from threadkeep.port import Doc, Resource, Scope, Snapshot, Window
from threadkeep_adapters.mongo.layout import (
    Docs,
    Document,
    Found,
    ResourceState,
    ThreadState,
    commit_of,
    happened,
    newest_resource,
    newest_thread,
    number_of,
    possible_records,
    stored,
)
from threadkeep_adapters.mongo.requests import Requests

OVERTAKEN_LOADS: Final = 60
"""How often a load begins again because of commits that came between its requests."""


async def load(requests: Requests, scope: Scope, window: Window) -> tuple[Snapshot, int]:
    """The snapshot, and how many records and documents were read for it.

    No request is an instant: a server may let writers in between the parts of one. So a load asks one after the other
    for the newest states of resource and thread, for the records, and for the thread's newest state again. If that is
    still the same, it was so when the resource's state was read, and nothing that it holds was removed since.
    """
    rows = 0
    for overtaken in range(OVERTAKEN_LOADS):
        if overtaken > 0:
            await asyncio.sleep(random.random() * 0.002 * min(overtaken, 10))
        snapshot, moved = await _load_once(requests, scope, window)
        rows += moved
        if snapshot is not None:
            return snapshot, rows
    raise StoreUnavailable(f"a load was overtaken by commits {OVERTAKEN_LOADS} times; load again")


async def _load_once(requests: Requests, scope: Scope, window: Window) -> tuple[Snapshot | None, int]:
    """The snapshot, None where commits came between the requests; and how many records and documents were read."""
    if isinstance(scope, Resource):
        resource = newest_resource(requests.resource, await requests.find({"h": requests.resource}))
        return await _without_thread(requests, resource), len(resource.docs)
    anchor = window.anchor
    keys = requests.record_keys([anchor]) if isinstance(anchor, str) else []
    position = anchor if isinstance(anchor, int) else None
    seen = await requests.look(keys, position)
    resource, thread = seen.resource, seen.thread
    rows = len(resource.docs) + len(thread.docs)
    if resource.threads == 0:
        return await _without_thread(requests, resource), rows
    if not thread.exists:
        missing = await _is_missing(requests, resource)
        return (await _without_thread(requests, resource) if missing else None), rows
    if thread.number > resource.number:
        return None, rows
    records, moved = await _records(requests, seen, window)
    rows += moved
    if records is None:
        return None, rows
    last = await requests.find({"s": requests.thread}, {"s": 1}, largest=0)
    if max((number_of(commit) for commit in last), default=0) != thread.number:
        # Resource and thread may still be of one commit, and what is known to be of it was not removed.
        if thread.number != resource.number or anchor is not None:
            return None, rows
        if len(await requests.valid(records)) < len(records):
            return None, rows
    docs, common = await fetch_docs(requests, thread.docs), await fetch_docs(requests, resource.docs)
    if docs is None or common is None:
        return None, rows
    found = [stored(record) for record in records]
    return Snapshot(thread.tail, thread.created, thread.active, found, docs, common), rows


async def _without_thread(requests: Requests, resource: ResourceState) -> Snapshot | None:
    """A resource's documents; None where one is not there any more."""
    docs = await fetch_docs(requests, resource.docs)
    return None if docs is None else Snapshot(resource_docs=docs)


async def _is_missing(requests: Requests, resource: ResourceState) -> bool:
    """Whether a thread was certainly missing when the resource was in a state that was read. Two round trips."""
    found = await requests.find({"s": requests.thread})
    # An erasure alone removes the newest state of a thread; without one, it tells whether there was the thread.
    floor = newest_resource(resource.key, await requests.find({"h": resource.key})).floor
    newest = newest_thread(requests.thread, found, resource)
    return floor == resource.floor and not newest.exists and newest.number <= resource.number


async def _records(requests: Requests, seen: Found, window: Window) -> tuple[list[Document] | None, int]:
    """The records in a window, None where one is not there any more; and how many were read.

    Records that were read with the state may be what the window is anchored at. They are if their commits happened and
    they are still there: what the state does not hold was removed before it was written.
    """
    thread, resource = seen.thread, seen.resource.key
    hints = seen.records
    below = _edge(thread, window.anchor)
    if below is None and hints:
        ids = [*(each["_id"] for each in hints), *(commit_of(each, resource) for each in hints)]
        ranges = [_range(seen, _bounds(thread, window, int(each["o"]))) for each in hints]
        found = await requests.find({"$or": [{"_id": {"$in": ids}}, *ranges]}, largest=thread.largest)
        present = {each["_id"] for each in found}
        own = happened([each for each in hints if each["_id"] in present], resource, found)
        if own:
            records = await _between(requests, seen, _bounds(thread, window, int(own[0]["o"])), found)
            return records, len([each for each in found if "p" in each])
    if below is None:
        below = await _below(requests, seen, window.anchor)
    bounds = _bounds(thread, window, below)
    found = await requests.find(_range(seen, bounds), largest=thread.largest)
    return await _between(requests, seen, bounds, found), len(found)


def _edge(thread: ThreadState, anchor: int | str | None) -> int | None:
    """How many records are below an anchor outside of the thread; None where the anchor has to be looked for."""
    if anchor is None or (isinstance(anchor, int) and anchor > thread.position):
        return thread.count
    if isinstance(anchor, int) and anchor <= 1:
        return 0
    return None


async def _below(requests: Requests, seen: Found, anchor: int | str | None) -> int | None:
    """How many records are below an anchor; None: it is nowhere."""
    if isinstance(anchor, int):
        last = await requests.newest_until(seen.thread, anchor - 1)
        return 0 if last is None else int(last["o"]) + 1
    own = await requests.confirmed(seen.thread, requests.record_keys([str(anchor)]))
    return int(own[0]["o"]) if own else None


def _bounds(thread: ThreadState, window: Window, below: int | None) -> tuple[int, int]:
    """The ordinals in a window, from the first to before the second, given how many records are below its anchor."""
    if below is None:
        return 0, 0
    return max(0, below - window.before), min(thread.count, below + window.after)


def _range(seen: Found, bounds: tuple[int, int]) -> Document:
    """The query for a thread's records with ordinals within bounds."""
    low, high = bounds
    return {"r": seen.resource.key, "t": seen.thread.key, "o": {"$gte": low, "$lt": high}}


async def _between(
    requests: Requests, seen: Found, bounds: tuple[int, int], found: Sequence[Document]
) -> list[Document] | None:
    """The records with ordinals within bounds; None where one is not there any more."""
    low, high = bounds
    own = [each for each in possible_records(found, seen.thread) if low <= int(each["o"]) < high]
    if len(own) > high - low:
        # What a writer left behind that lost a race, or died in it, lies beside the record in its place.
        own = await requests.valid(own)
    by_ordinal = {int(record["o"]): record for record in own}
    if len(by_ordinal) < high - low or len(own) > high - low:
        return None
    return [by_ordinal[ordinal] for ordinal in range(low, high)]


async def fetch_docs(requests: Requests, docs: Docs) -> dict[str, Doc] | None:
    """Documents with their texts, fetched where they are kept apart; None where one is not there any more."""
    places = [doc.place for doc in docs.values() if doc.place is not None]
    bodies: dict[str, str] = {}
    if places:
        bodies = {each["_id"]: each["body"] for each in await requests.find({"_id": {"$in": places}})}
        if len(bodies) < len(places):
            return None
    return {slot: Doc(doc.version, doc.body if doc.place is None else bodies[doc.place]) for slot, doc in docs.items()}
