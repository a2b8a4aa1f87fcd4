"""The lists of threads and of resources."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from threadkeep.port import After, Order, Resource, ThreadRow
from threadkeep_adapters.mongo.layout import (
    Document,
    ThreadState,
    list_key,
    newest_resource,
    newest_thread,
    number_of,
    read_thread,
    resource_key,
    thread_row,
)
from threadkeep_adapters.mongo.reading import read_docs
from threadkeep_adapters.mongo.requests import Requests, reading

TRIES: Final = 10
"""How often a page is read again because its threads were committed to meanwhile."""

_END: Final = "~"
"""Sorts after every hexadecimal digit."""


async def threads(
    requests: Requests, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
) -> tuple[list[ThreadRow], int]:
    """A page of threads, and how many rows were read for it. Two round trips, if nothing was left behind.

    The index of places may name one that a thread has left, where its commit could not remove it. So the newest states
    of all threads on a page are read too, and whatever is in its place by an older one is passed over.
    """
    key = resource_key(resource.resource_id)
    field = "lc" if order == "created" else "la"
    falling = order == "active"
    place = "" if after is None else list_key(key, after.at, after.thread_id)
    rows: list[ThreadRow] = []
    listed: set[str] = set()
    known: dict[str, int] = {}
    moved = tries = 0
    while len(rows) < limit:
        bounds = {"$gte": key, "$lt": place or key + _END} if falling else {"$gt": place or key, "$lt": key + _END}
        query: Document = {field: bounds}
        wanted = limit - len(rows)
        page = await requests.page(query, field, wanted, falling=falling, projection={field: 1, "s": 1})
        if not page:
            break
        found = await requests.find({"$or": [{"h": key}, {"s": {"$in": list({one["s"] for one in page})}}]})
        moved += len(page) + sum("s" in each for each in found)
        newest_common = newest_resource(key, found)
        states = {one["s"]: newest_thread(one["s"], found, newest_common) for one in page}
        fresh = {
            one["s"]
            for one in page
            if states[one["s"]].number != number_of(one) and known.get(one["s"]) != states[one["s"]].number
        }
        if fresh and falling and tries < TRIES:
            # Either it moved just now, and the page has to be read again to find it, or its old place was left behind.
            known |= {name: states[name].number for name in fresh}
            tries += 1
            continue
        for one in page:
            state = states[one["s"]]
            at = state.created if order == "created" else state.active
            in_place = state.exists and list_key(key, at, state.thread_id) == one[field]
            if in_place and state.key not in listed:
                row = await _row(requests, state, slots)
                listed.add(state.key)
                rows.append(row)
        place = page[-1][field]
        if len(page) < wanted:
            break
    return rows, moved


async def _row(requests: Requests, state: ThreadState, slots: Sequence[str]) -> ThreadRow:
    asked = {slot: doc for slot, doc in state.docs.items() if slot in slots}
    docs = await read_docs(requests, asked)
    if docs is None:
        # It was overwritten since: as good as a page read a little later, of this one thread.
        found = await requests.find({"s": state.key})
        newest = max((each for each in found if "s" in each), key=number_of, default=None)
        if newest is not None and number_of(newest) > state.number and "sd" in newest:
            return await _row(requests, read_thread(newest), slots)
        docs = {}
    return thread_row(state, docs)


async def resources(requests_for: Callable[[str], Requests], after: str | None, limit: int) -> tuple[list[str], int]:
    """A page of resource ids, and how many rows were read for it.

    An entry counts if the resource is in the entry's generation and holds something. That is asked of every collection
    of commits that has a resource of the page.
    """
    names: list[str] = []
    moved = 0
    place = "" if after is None else after.encode().hex() + "/" + _END
    while len(names) < limit:
        wanted = limit - len(names)
        registry = requests_for("0" * 64).registry
        cursor = registry.find({"_id": {"$gt": place}}, batch_size=wanted + 1, limit=wanted).sort("_id", 1)
        page = await reading(cursor.to_list)
        moved += len(page)
        by_log: dict[str, list[str]] = defaultdict(list)
        for entry in page:
            by_log[requests_for(entry["k"]).commits.name].append(entry["k"])
        found = await asyncio.gather(*(requests_for(keys[0]).find({"h": {"$in": keys}}) for keys in by_log.values()))
        commits = [commit for each in found for commit in each]
        for entry in page:
            state = newest_resource(entry["k"], commits)
            if not state.is_empty and state.generation == entry["g"] and entry["i"] not in names[-1:]:
                names.append(entry["i"])
        if len(page) < wanted:
            break
        place = page[-1]["_id"]
    return names, moved
