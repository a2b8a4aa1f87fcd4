"""The lists of threads and of resources."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pymongo.asynchronous.collection import AsyncCollection

from threadkeep.port import After, Order, Resource, ThreadRow
from threadkeep_adapters.mongo.layout import (
    Document,
    ThreadState,
    list_key,
    newest_resource,
    newest_thread,
    number_of,
    read_thread,
    thread_row,
)
from threadkeep_adapters.mongo.reading import fetch_docs
from threadkeep_adapters.mongo.requests import Requests, read_registry

REREADS: Final = 10
"""How often a page is read again because its threads were committed to meanwhile."""

_END: Final = "~"
"""Sorts after every hexadecimal digit."""


async def threads(
    requests: Requests, after: After | None, limit: int, order: Order, slots: Sequence[str]
) -> tuple[list[ThreadRow], int]:
    """A page of threads, and how many rows were read for it. Two round trips, if nothing was left behind.

    The index of places may name one that a thread has left, where its commit could not remove it. So the newest states
    of all threads on a page are read too, and whatever is in its place by an older one is passed over.
    """
    key = requests.resource
    field = "lc" if order == "created" else "la"
    falling = order == "active"
    place = key + _END if falling else key
    if after is not None:
        place = list_key(key, after.at, after.thread_id)
    rows: list[ThreadRow] = []
    listed: set[str] = set()
    known: dict[str, int] = {}
    moved = 0
    rereads = 0
    while len(rows) < limit:
        wanted = limit - len(rows)
        bounds = {"$gte": key, "$lt": place} if falling else {"$gt": place, "$lt": key + _END}
        page = await requests.page({field: bounds}, field, wanted, falling=falling, projection={field: 1, "s": 1})
        if not page:
            break
        found = await requests.find({"$or": [{"h": key}, {"s": {"$in": list({one["s"] for one in page})}}]})
        moved += len(page) + len([each for each in found if "s" in each])
        resource_now = newest_resource(key, found)
        states = {one["s"]: newest_thread(one["s"], found, resource_now) for one in page}
        fresh = _fresh(page, states, known)
        if fresh and falling and rereads < REREADS:
            # Either it moved just now, and the page has to be read again to find it, or its old place was left behind.
            known |= fresh
            rereads += 1
            continue
        for one in page:
            state = states[one["s"]]
            if state.key not in listed and _is_in_place(state, key, order, one[field]):
                rows.append(await _row(requests, state, slots))
                listed.add(state.key)
        place = page[-1][field]
        if len(page) < wanted:
            break
    return rows, moved


def _fresh(page: Sequence[Document], states: Mapping[str, ThreadState], known: Mapping[str, int]) -> dict[str, int]:
    """The threads on a page whose newest state is another than the page shows, and is not known: key -> its number."""
    newest = {one["s"]: states[one["s"]].number for one in page if states[one["s"]].number != number_of(one)}
    return {thread: number for thread, number in newest.items() if known.get(thread) != number}


def _is_in_place(state: ThreadState, resource: str, order: Order, place: str) -> bool:
    """Whether a thread's place in the list is still the one that was read."""
    at = state.created if order == "created" else state.active
    return state.exists and list_key(resource, at, state.thread_id) == place


async def _row(requests: Requests, state: ThreadState, slots: Sequence[str]) -> ThreadRow:
    asked = {slot: doc for slot, doc in state.docs.items() if slot in slots}
    docs = await fetch_docs(requests, asked)
    if docs is None:
        # It was overwritten since: as good as a page read a little later, of this one thread.
        found = await requests.find({"s": state.key})
        newest = max((each for each in found if "s" in each), key=number_of, default=None)
        if newest is not None and number_of(newest) > state.number and "sd" in newest:
            return await _row(requests, read_thread(newest), slots)
        docs = {}
    return thread_row(state, docs)


async def resources(
    registry: AsyncCollection[Document], requests_for: Callable[[Resource], Requests], after: str | None, limit: int
) -> tuple[list[str], int]:
    """A page of resource ids, and how many rows were read for it. `requests_for` makes requests about a resource.

    An entry counts if the resource is in the entry's generation and holds something. That is asked of every collection
    of commits that has a resource of the page.
    """
    names: list[str] = []
    moved = 0
    place = "" if after is None else after.encode().hex() + "/" + _END
    while len(names) < limit:
        wanted = limit - len(names)
        page = await read_registry(registry, place, wanted)
        moved += len(page)
        by_log: dict[str, list[Requests]] = defaultdict(list)
        for entry in page:
            requests = requests_for(Resource(entry["i"]))
            by_log[requests.commits.name].append(requests)
        found = await asyncio.gather(*(_newest_of(together) for together in by_log.values()))
        commits = [commit for each in found for commit in each]
        for entry in page:
            state = newest_resource(entry["k"], commits)
            is_listed = len(names) > 0 and names[-1] == entry["i"]
            if not is_listed and not state.is_empty and state.generation == entry["g"]:
                names.append(entry["i"])
        if len(page) < wanted:
            break
        place = page[-1]["_id"]
    return names, moved


async def _newest_of(together: Sequence[Requests]) -> list[Document]:
    """The commits with the newest states of resources that are in one collection: one round trip."""
    return await together[0].find({"h": {"$in": [requests.resource for requests in together]}})
