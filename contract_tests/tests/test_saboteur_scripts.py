"""The faults that overlap, size, identity, cancellation, failing waits and restarts bring to light are real: a few
calls show each, and show nothing on the sound store that it is made of."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias
from unittest.mock import patch

import pytest

import threadkeep_contract.saboteurs as plugin
from threadkeep.errors import ThreadkeepError
from threadkeep.port import MISSING, After, Changes, Guard, Put, Record, Resource, Thread, Window, open_store, register
from threadkeep_contract.faults.waits import ERRORS, Fault, Way, fail_at
from threadkeep_contract.saboteurs import SABOTEURS, SOUND, FileStore
from threadkeep_contract.scheduling import in_turns

ALICE, BOB = Thread("alice", "t"), Thread("bob", "t")
OF_ALICE: Final = Resource("alice")
ALL: Final = Window(before=100_000)
TOGETHER: Final = 100
"""Records of one commit of many."""

Open: TypeAlias = Callable[[], Guard]
"""Opens one more handle on the place."""
Script: TypeAlias = Callable[[Open], Awaitable[object]]


def records(*ids: str) -> tuple[Record, ...]:
    return tuple(Record(name, f"digest of {name}", f'"{name}"') for name in ids)


async def say(store: Guard, thread: Thread, *ids: str, at: int = 1, **more: Any) -> Any:
    return await store.commit(thread, Changes(at, f"epoch {at}", records(*ids), **more))


async def say_many(store: Guard, thread: Thread, count: int) -> None:
    for first in range(0, count, TOGETHER):
        await say(store, thread, *(f"m{number}" for number in range(first, min(first + TOGETHER, count))))


async def ids(store: Guard, thread: Thread, window: Window = ALL) -> list[str]:
    return [stored.id for stored in (await store.load(thread, window)).records]


async def ended(call: Awaitable[object]) -> str:
    """How a call ended, in a word."""
    try:
        await call
    except ThreadkeepError as error:
        return type(error).__name__
    return "done"


async def docs_of(store: Guard, scope: Thread | Resource) -> object:
    snapshot = await store.load(scope, ALL)
    return {**snapshot.docs}, {**snapshot.resource_docs}


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


# Cancelled, killed and opened again


async def _cancelled(call: Awaitable[object], turns: int) -> None:
    """Begin a call, let it have so many turns, and cancel it."""
    task = asyncio.ensure_future(call)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _half_a_commit(at: Open) -> object:
    store = at()
    await store.open()
    await _cancelled(say(store, ALICE, "a1", puts=(Put("title", "1"),)), 1)
    snapshot = await store.load(ALICE, ALL)
    return bool(snapshot.records) == bool(snapshot.docs)


async def _load_after_cancelled_load(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1")
    await say(store, BOB, "b1")
    await _cancelled(store.load(ALICE, ALL), 2)
    return await ids(store, BOB)


async def _load_after_cancelled_loads(at: Open) -> object:
    store = at()
    await store.open()
    for _ in range(8):
        await _cancelled(store.load(ALICE, ALL), 1)
    return await ended(store.load(ALICE, ALL))


async def _cancelled_when_its_turn_comes(at: Open) -> object:
    store = at()
    await store.open()

    async def first() -> None:
        await say(store, ALICE, "a1")
        second.cancel()

    leading = asyncio.ensure_future(first())
    await asyncio.sleep(0)
    second = asyncio.ensure_future(say(store, ALICE, "a2"))
    with suppress(asyncio.CancelledError):
        await asyncio.gather(leading, second)
    return await ended(say(store, ALICE, "a3"))


class _KilledError(Exception):
    """The process ends here."""


async def _killed_in_second_transaction(at: Open) -> object:
    store = at()
    await say(store, BOB, "b0")
    await say(store, ALICE, "a0")
    await store.delete(BOB)
    killed = store.store
    assert isinstance(killed, FileStore)
    begin, begun = killed.transaction, 0

    @contextmanager
    def transaction(mode: str) -> Iterator[sqlite3.Connection]:
        nonlocal begun
        begun += 1
        if begun % 2 == 0:
            raise _KilledError
        with begin(mode) as connection:
            yield connection

    with patch.object(killed, "transaction", transaction):
        for thread in (ALICE, BOB, Thread("alice", "other")):
            begun = 0
            await ended(say(store, thread, "x1", at=5))
    rows = [row for name in ("alice", "bob") for row in await store.threads(Resource(name))]
    return [(bool(row.tail.epoch), row.active) for row in rows], await store.resources()


async def _truncated_then_opened_again(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1", "a2")
    await say(store, ALICE, drop_after=1)
    await store.close()
    return (await say(at(), ALICE, "a3")).positions


async def _removed_then_opened_again(at: Open) -> object:
    store = at()
    await store.commit(OF_ALICE, Changes(1, puts=(Put("notes", "1"),)))
    await store.commit(OF_ALICE, Changes(1, puts=(Put("notes", None),)))
    await store.close()
    return (await at().commit(OF_ALICE, Changes(1, puts=(Put("notes", "2"),)))).versions


async def _snapshot_kept(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1", puts=(Put("title", "1"),), resource_puts=(Put("notes", "1"),))
    kept = await store.load(ALICE, ALL)
    await say(store, ALICE, "a2", puts=(Put("title", "2"),), resource_puts=(Put("notes", "2"),))
    return len(kept.records), {**kept.docs}, {**kept.resource_docs}


async def _made_anew_by_another(at: Open) -> object:
    one, other = at(), at()
    await say(one, ALICE, "a1")
    await ids(one, ALICE)
    await other.delete(ALICE)
    await say(other, ALICE, "a1", at=2)
    return (await one.load(ALICE, ALL)).tail


# Waits that fail


async def _failed(call: Callable[[], Awaitable[object]], kind: Way = "lost") -> str:
    """How a call ended whose first wait was failed by a reset connection, or how it was answered."""
    ending = await fail_at(call, Fault(kind, 1, ERRORS[0]))
    return type(ending.error or ending.result).__name__


async def _lost_put(at: Open) -> object:
    store = at()
    await store.open()
    await _failed(lambda: say(store, ALICE, puts=(Put("title", "1"),)))
    return [doc.version for doc in (await store.load(ALICE)).docs.values()]


async def _lost_commit(at: Open) -> object:
    store = at()
    await store.open()
    return await _failed(lambda: say(store, ALICE, "a1")), await ids(store, ALICE)


async def _commit_after_failed_commit(at: Open) -> object:
    store = at()
    await store.open()
    await _failed(lambda: say(store, ALICE, "a1"))
    return await ended(say(store, ALICE, "a2"))


async def _half_a_failed_commit(at: Open) -> object:
    store = at()
    await store.open()
    await _failed(lambda: say(store, ALICE, "a1", puts=(Put("title", "1"),)))
    snapshot = await store.load(ALICE, ALL)
    return bool(snapshot.records) == bool(snapshot.docs)


async def _failed_load(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1")
    return await _failed(lambda: store.load(ALICE, ALL))


async def _load_after_failed_load(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1")
    await say(store, BOB, "b1")
    await _failed(lambda: store.load(ALICE, ALL), "failed")
    return await ids(store, BOB)


# Sizes


async def _far_repeat(at: Open) -> object:
    store = at()
    await say_many(store, ALICE, 600)
    await say(store, ALICE, "m0")
    return len(await ids(store, ALICE))


async def _long_repeat(at: Open) -> object:
    store = at()
    await say_many(store, ALICE, 60)
    await say_many(store, ALICE, 60)
    return len(await ids(store, ALICE))


async def _many_threads(at: Open) -> object:
    store = at()
    for number in range(1001):
        await say(store, Thread("alice", f"t{number:04}"), at=number)
    first = await store.threads(OF_ALICE, limit=1000)
    rest = await store.threads(OF_ALICE, After(first[-1].created, first[-1].thread_id), limit=1000)
    await store.delete(OF_ALICE)
    return len(first), len(rest), len(await store.threads(OF_ALICE))


async def _many_resources(at: Open) -> object:
    store = at()
    for number in range(501):
        await say(store, Thread(f"user {number:03}", "t"))
    return len(await store.resources(limit=1000))


async def _many_records(at: Open) -> object:
    store = at()
    await say_many(store, ALICE, 1100)
    far = await ids(store, ALICE, Window("m10", after=2)), len(await ids(store, ALICE))
    await say(store, ALICE, drop_after=10)
    return far, len(await ids(store, ALICE))


async def _large_records(at: Open) -> object:
    store = at()
    for number in range(3):
        await store.commit(ALICE, Changes(1, "e", (Record(f"m{number}", "1", f'"{"x" * 600_000}"'),)))
    return len(await ids(store, ALICE))


async def _large_thread(at: Open) -> object:
    store = at()
    body = f'"{"x" * 1_000_000}"'
    return [await ended(store.commit(ALICE, Changes(1, "e", (Record(f"m{n}", "1", body),)))) for n in range(18)]


async def _many_slots(at: Open) -> object:
    store = at()
    slots = [f"slot {number:03}" for number in range(101)]
    await say(store, ALICE, puts=tuple(Put(slot, "1") for slot in slots))
    (row,) = await store.threads(OF_ALICE, slots=slots)
    return len((await store.load(ALICE, ALL)).docs), len(row.docs)


async def _wide_characters(at: Open) -> object:
    store = at()
    await store.commit(ALICE, Changes(1, "e", (Record("m1", "1", f'"{"é" * 40_000}"'),)))
    return [(len(stored.body), stored.at) for stored in (await store.load(ALICE, ALL)).records]


# What ids, slots, cursors and ties are taken for


async def _ids_that_look_alike(at: Open) -> object:
    store = at()
    return [await ended(say(store, ALICE, name)) for name in ("m", "M", "m ", "\u00e9", "e\u0301")]


async def _digests_that_begin_alike(at: Open) -> object:
    store = at()
    await store.commit(ALICE, Changes(1, "e", (Record("m1", "12345678a", '"a"'),)))
    return await ended(store.commit(ALICE, Changes(1, "e", (Record("m1", "12345678b", '"b"'),))))


async def _tied_threads(at: Open) -> object:
    store = at()
    for name in ("b", "a", "C", "\U0001f600", "\uff5e"):
        await say(store, Thread("alice", name), at=0)
        await say(store, Thread(name, "t"))
    created, active = [await store.threads(OF_ALICE, order=order) for order in ("created", "active")]
    walked = await store.threads(OF_ALICE, After(0, "a"))
    unlisted = await store.threads(OF_ALICE, After(0, "B"))
    return [[row.thread_id for row in rows] for rows in (created, active, walked, unlisted)], await store.resources()


async def _anchors(at: Open) -> object:
    store = at()
    await say(store, ALICE, "3", "m22", "2")
    windows = (Window("2", 1, 1), Window("3", 1, 1), Window(0, 5), Window("m2", 1, 1))
    return [await ids(store, ALICE, window) for window in windows]


async def _odd_slots(at: Open) -> object:
    store = at()
    await say(store, ALICE, puts=(Put("a.b", "1"), Put("A", "2"), Put("a,b", "3")))
    await say(store, ALICE, puts=(Put("a", "4"),))
    (row,) = await store.threads(OF_ALICE, slots=("a,b",))
    return await docs_of(store, ALICE), {**row.docs}


async def _drop_everything(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1")
    await say(store, ALICE, drop_after=0)
    return await ids(store, ALICE)


async def _puts(at: Open) -> object:
    store = at()
    return [(await say(store, ALICE, puts=(Put("title", "1"),))).versions for _ in range(5)]


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
    "cancelled-commit-leaves-half": _half_a_commit,
    "list-entry-written-before-the-commit": _killed_in_second_transaction,
    "activity-written-after-the-commit": _killed_in_second_transaction,
    "resource-listed-in-a-second-transaction": _killed_in_second_transaction,
    "counters-forgotten-on-restart": _truncated_then_opened_again,
    "repeat-known-among-newest-500": _far_repeat,
    "known-ids-asked-for-first-50": _long_repeat,
    "digests-compared-by-prefix": _digests_that_begin_alike,
    "record-ids-without-case": _ids_that_look_alike,
    "record-ids-padded-with-spaces": _ids_that_look_alike,
    "record-ids-normalised": _ids_that_look_alike,
    "chunk-cuts-a-character": _wide_characters,
    "times-of-the-server": _wide_characters,
    "threads-beyond-1000-not-listed": _many_threads,
    "resources-beyond-500-not-listed": _many_resources,
    "anchor-among-newest-500": _many_records,
    "window-over-1-mib-cut": _large_records,
    "window-of-at-most-1000": _many_records,
    "list-gives-ten-slots": _many_slots,
    "large-pages-lose-a-row": _many_threads,
    "ties-listed-by-insertion": _tied_threads,
    "active-ties-rising": _tied_threads,
    "ties-broken-by-collation": _tied_threads,
    "resources-listed-by-utf-16": _tied_threads,
    "cursor-must-be-listed": _tied_threads,
    "cursor-at-zero-starts-over": _tied_threads,
    "numeric-id-is-position": _anchors,
    "anchor-zero-is-the-end": _anchors,
    "anchor-found-by-prefix": _anchors,
    "slots-joined-with-commas": _odd_slots,
    "slots-without-case": _odd_slots,
    "slots-are-paths": _odd_slots,
    "documents-beyond-100-not-loaded": _many_slots,
    "resource-version-checked-apart": _put_beside_put,
    "commit-sent-twice": _puts,
    "removed-documents-forgotten-on-restart": _removed_then_opened_again,
    "erase-first-500-threads": _many_threads,
    "drop-first-500-records": _many_records,
    "drop-after-zero-ignored": _drop_everything,
    "epoch-remembered-by-handle": _made_anew_by_another,
    "thread-over-16-mib-fails": _large_thread,
    "snapshot-changes-later": _snapshot_kept,
    "cancelled-answer-stays": _load_after_cancelled_load,
    "cancelled-load-keeps-its-connection": _load_after_cancelled_loads,
    "cancelled-waiter-loses-the-turn": _cancelled_when_its_turn_comes,
    "lost-acknowledgement-sent-again": _lost_put,
    "lost-acknowledgement-told-as-outage": _lost_commit,
    "error-keeps-the-lock": _commit_after_failed_commit,
    "broken-ever-after-an-error": _commit_after_failed_commit,
    "half-a-commit-kept-on-an-error": _half_a_failed_commit,
    "read-error-told-as-empty": _failed_load,
    "answer-stays-after-an-error": _load_after_failed_load,
}


@pytest.mark.parametrize("fault", SCRIPTS)
def test_the_fault_is_real(fault: str, tmp_path: Path) -> None:
    register("saboteur", plugin)
    base = next(name for name, kind in reversed(SOUND.items()) if issubclass(SABOTEURS[fault], kind))

    async def run(name: str) -> object:
        async with AsyncExitStack() as opened:

            def at() -> Guard:
                store = open_store(f"saboteur://{name}{tmp_path}/{name}.db")
                opened.push_async_callback(store.close)
                return store

            return await SCRIPTS[fault](at)

    assert asyncio.run(run(fault)) != asyncio.run(run(base))


def test_positions_in_16_bits_are_negative_behind_the_last_one(tmp_path: Path) -> None:
    register("saboteur", plugin)
    path = tmp_path / "store.db"

    async def run(name: str) -> object:
        store = open_store(f"saboteur://{name}{path}")
        await say(store, Thread("alice", name), "a1")
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE threads SET newest = 32767 WHERE thread_id = ?", (name,))
        positions = (await say(store, Thread("alice", name), "a2")).positions
        await store.close()
        return positions

    assert asyncio.run(run("sound-file")) == [32768]
    assert asyncio.run(run("positions-in-16-bits")) == [-32768]
