"""Scripts of faults that show where calls overlap: of two users, and on one resource."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from typing import Final

from script_calls import ALICE, ALL, BOB, OF_ALICE, Open, Script, ended, ids, say

from threadkeep.port import MISSING, Put, Resource, Thread, Window
from threadkeep_contract.scheduling import in_turns

# One user's call beside another's


async def _loads_of_two(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1", puts=(Put("title", '"x"'),))
    await say(store, BOB, "b1")
    return await asyncio.gather(ids(store, ALICE), ids(store, BOB))


async def _lists_of_two(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1")
    await say(store, Thread("bob", "other"), "b1")
    found = await asyncio.gather(store.threads(OF_ALICE), store.threads(Resource("bob")))
    return [[row.thread_id for row in rows] for rows in found]


async def _commits_of_two(at: Open) -> object:
    store = at()
    await store.open()
    good, refused = say(store, ALICE, "a1"), say(store, BOB, "b1", if_epoch="no such")
    return await asyncio.gather(ended(good), ended(refused)), await ids(store, ALICE)


async def _appends_of_two(at: Open) -> object:
    store = at()
    await store.open()
    how = await asyncio.gather(ended(say(store, ALICE, "a1")), ended(say(store, BOB, "b1")))
    return how, await ids(store, ALICE), await ids(store, BOB), await store.resources()


async def _deletion_beside_readers(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1")
    await say(store, BOB, "b1")

    async def read(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        for _ in range(30):
            await store.load(BOB, ALL)

    how, *_ = await asyncio.gather(ended(_later(store.delete(ALICE))), read(0), read(1), read(2))
    return how


async def _later(call: Awaitable[object]) -> None:
    for _ in range(5):
        await asyncio.sleep(0)
    await call


async def _conflicts_of_another(at: Open) -> object:
    store = at()
    for _ in range(3):
        await ended(say(store, BOB, "b1", if_epoch="no such"))
    return await ended(say(store, ALICE, "a1"))


async def _three_calls(at: Open) -> object:
    store = at()
    return await ended(say(store, ALICE, "a1")), await ended(say(store, ALICE, "a2")), await ended(ids(store, ALICE))


# Calls on one resource


async def _commit_beside_erasure(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1")
    putting = say(store, ALICE, "a2", resource_puts=(Put("notes", "1"),))
    return await asyncio.gather(ended(putting), ended(store.delete(OF_ALICE)))


async def _load_beside_erasure(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1", resource_puts=(Put("notes", "1"),))
    _, snapshot = await asyncio.gather(store.delete(OF_ALICE), store.load(ALICE, ALL))
    return bool(snapshot.records), bool(snapshot.resource_docs)


async def _new_thread_beside_erasure(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1")
    other = Thread("alice", "other")
    putting = say(store, other, "a2", resource_puts=(Put("notes", "1"),))
    await asyncio.gather(store.delete(OF_ALICE), putting)
    snapshot = await store.load(other, ALL)
    return bool(snapshot.records), bool(snapshot.resource_docs)


async def _commit_beside_deletion(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1")
    await asyncio.gather(say(store, ALICE, "a2", at=2), store.delete(ALICE))
    return (await store.load(ALICE, ALL)).tail


async def _list_beside_deletion(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1")
    rows, _ = await asyncio.gather(store.threads(OF_ALICE), store.delete(ALICE))
    return [row.tail.epoch for row in rows]


async def _creation_in_two_event_loops(at: Open) -> object:
    there = threading.Barrier(2)
    made: list[str] = []

    async def run() -> None:
        store = at()
        await store.open()
        for number in range(20):
            there.wait()
            made.append(await ended(say(store, Thread("alice", f"t{number}"), "a1", if_epoch="")))
        await store.close()

    threads = [threading.Thread(target=asyncio.run, args=(run(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    return made.count("done")


async def _receipts_of_two(at: Open) -> object:
    store = at()
    await store.open()
    receipts = await asyncio.gather(say(store, ALICE, "a1"), say(store, ALICE, "a2"))
    return [receipt.tail.position for receipt in receipts]


async def _seen_missing(at: Open) -> object:
    one, other = at(), at()
    await one.load(ALICE, ALL)
    await say(other, ALICE, "a1")
    return await ids(one, ALICE)


async def _first_openings(at: Open) -> object:
    one, other = at(), at()
    how = await asyncio.gather(ended(one.open()), ended(other.open()))
    if "StoreUnavailable" in how:
        return how
    await say(one, ALICE, "a1")
    return how, await ids(other, ALICE)


async def _later_commit_is_faster(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a0")
    await asyncio.gather(say(store, ALICE, "a1", "a2", "a3", at=5), say(store, ALICE, "a4", at=9))
    return [row.active for row in await store.threads(OF_ALICE, order="active")]


async def _anchors_after_race(at: Open) -> object:
    store = at()
    await store.open()
    await asyncio.gather(say(store, ALICE, "a1"), say(store, ALICE, "a2"))
    return await ids(store, ALICE, Window("a1", after=1)), await ids(store, ALICE, Window("a2", after=1))


async def _last_thread_beside_first(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1")
    await asyncio.gather(store.delete(ALICE), say(store, Thread("alice", "other"), "a1"))
    return await store.resources()


async def _window_beside_regeneration(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1", "a2", "a3", "a4")
    window = ids(store, ALICE, Window(3, 5, 5))
    found, _ = await asyncio.gather(window, say(store, ALICE, "a5", "a6", drop_after=1))
    return found


async def _load_beside_commit(at: Open) -> object:
    store = at()
    await store.open()
    putting = say(store, ALICE, "a1", resource_puts=(Put("notes", "1"),))
    snapshot, _ = await asyncio.gather(store.load(ALICE, ALL), putting)
    return bool(snapshot.records), bool(snapshot.resource_docs)


async def _put_beside_put(at: Open) -> object:
    store = at()
    await store.open()
    both = [say(store, Thread("alice", name), resource_puts=(Put("notes", "1", 0),)) for name in ("one", "two")]
    return await asyncio.gather(*map(ended, both))


async def _load_after_slow_load(at: Open) -> object:
    store = at()
    await store.open()
    await in_turns([[lambda: store.load(ALICE, ALL)], [lambda: say(store, ALICE, "a1")]], [1, 1, 2, 2, 2, 1])
    return await ids(store, ALICE)


async def _commit_beside_two(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a0")
    tail = (await store.load(ALICE, ALL)).tail
    later = [lambda: ended(say(store, ALICE, "a1")), lambda: ended(say(store, ALICE, "a2"))]
    how: list[str] = []

    async def conditional() -> None:
        how.append(await ended(say(store, ALICE, "a3", if_tail=tail)))

    await in_turns([[conditional], later], [1, 1, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 1])
    return how, await ids(store, ALICE)


async def _repeat_beside_refused(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a0")
    refused, repeat = say(store, ALICE, "a1", if_tail=MISSING), say(store, ALICE, "a1")
    return await asyncio.gather(ended(refused), ended(repeat)), await ids(store, ALICE)


SCRIPTS: Final[dict[str, Script]] = {
    "scope-kept-on-the-handle": _loads_of_two,
    "search-path-kept-on-the-connection": _lists_of_two,
    "one-buffer-for-answers": _loads_of_two,
    "answers-matched-by-order": _loads_of_two,
    "batch-fails-together": _commits_of_two,
    "loads-in-flight-shared-by-thread-id": _loads_of_two,
    "busy-while-others-write": _appends_of_two,
    "writer-starved-by-readers": _deletion_beside_readers,
    "error-kept-on-the-handle": _commits_of_two,
    "records-buffered-on-the-handle": _appends_of_two,
    "transaction-shared-by-tasks": _commits_of_two,
    "breaker-opened-by-others": _conflicts_of_another,
    "every-commit-unavailable": _three_calls,
    "every-load-unavailable": _three_calls,
    "third-of-calls-refused": _three_calls,
    "locks-in-two-orders": _commit_beside_erasure,
    "erasure-in-two-steps": _load_beside_erasure,
    "erasure-of-listed-threads": _new_thread_beside_erasure,
    "deleted-thread-comes-back": _commit_beside_deletion,
    "list-shows-deleted-threads": _list_beside_deletion,
    "lock-of-one-event-loop": _creation_in_two_event_loops,
    "tail-read-after-the-commit": _receipts_of_two,
    "missing-thread-remembered": _seen_missing,
    "first-opening-makes-two": _first_openings,
    "schema-race-fails": _first_openings,
    "list-entry-written-after-the-commit": _later_commit_is_faster,
    "id-index-lost-in-a-race": _anchors_after_race,
    "resource-list-lost-in-a-race": _appends_of_two,
    "resource-taken-off-the-list-late": _last_thread_beside_first,
    "window-read-in-two-queries": _window_beside_regeneration,
    "resource-documents-read-apart": _load_beside_commit,
    "cache-filled-by-a-slow-load": _load_after_slow_load,
    "optimistic-retry-checks-once": _commit_beside_two,
    "repeat-answered-too-early": _repeat_beside_refused,
    "resource-version-checked-apart": _put_beside_put,
}
