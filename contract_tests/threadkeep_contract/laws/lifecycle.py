"""Law 12: errors and lifecycle.

Only the library's own errors leave a store; the driver's error is the cause. Whether to retry is a property of the
error. Opening is safe to repeat and to race; closing is safe to repeat; using a closed store is `StoreClosed`. A store
serves several event loops and threads over its life, and a verb that is cancelled leaves it usable. A store made by a
newer version of the library is refused with a clear error and left untouched.

The refusal of a newer schema is the adapter's own test, since a URL cannot ask for one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final

from threadkeep.errors import (
    Action,
    Conflict,
    InvalidInput,
    MessageConflict,
    StoreClosed,
    TailMoved,
    ThreadkeepError,
    VersionMoved,
)
from threadkeep.port import MISSING, After, Changes, Guard, Order, Put, Resource, Snapshot, Tail, Thread, Window
from threadkeep_contract.evidence import least
from threadkeep_contract.harness import ALL, Harness, Law, record
from threadkeep_contract.history import Recorded, source

HUGE: Final = (2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**40)
"""Numbers that are too large for somebody."""

ODD: Final = (
    "\0",
    "a\0b",
    "\n",
    " ",
    "'",
    '"; --',
    "%",
    "_",
    "*",
    "\\",
    "$ne",
    "a.b",
    "{}",
    "-1",
    "1e999",
    "é",
    "\x7f",
    "\ufffe",
    "\u202e",
)
"""Ids that somebody takes for something else."""

Verb = Callable[[Guard], Awaitable[object]]


def _verbs(harness: Harness, thread: Thread) -> dict[str, Verb]:
    """Every verb, with arguments that are good."""
    resource = Resource(thread.resource_id)
    return {
        "open": lambda handle: handle.open(),
        "load": lambda handle: handle.load(thread, ALL),
        "load of a resource": lambda handle: handle.load(resource),
        "commit": lambda handle: handle.commit(thread, Changes(1, harness.epoch(), (record("late"),))),
        "commit to a resource": lambda handle: handle.commit(resource, Changes(1, puts=(Put("late", "1"),))),
        "delete": lambda handle: handle.delete(thread),
        "threads": lambda handle: handle.threads(resource),
        "resources": lambda handle: handle.resources(),
    }


def _verbs_with_ids(harness: Harness, thread: Thread, message_id: str) -> dict[str, Verb]:
    """The verbs that are given ids of messages and names of documents, with an id for all of them."""
    slot = message_id[:40]
    puts = (Put(slot, "1"),)
    return {
        "load around an id": lambda handle: handle.load(thread, Window(message_id, 2, 2)),
        "append": lambda handle: handle.commit(
            thread, Changes(1, harness.epoch(), (record(message_id, slot),), puts, puts)
        ),
    }


async def _three(harness: Harness, handle: Recorded) -> Thread:
    """A new thread of three messages."""
    thread = Thread(harness.fresh() + "user", "thread")
    await handle.commit(thread, Changes(1, harness.epoch(), tuple(record(f"m{index}") for index in range(3))))
    return thread


async def _count(handle: Guard, thread: Thread) -> int:
    return len((await handle.load(thread, ALL)).records)


async def _settled(harness: Harness, promise: str, works: list[Awaitable[object]]) -> list[object]:
    """The results of calls that run at once; an exception among them has to be the library's own."""
    results = await asyncio.gather(*works, return_exceptions=True)
    for result in results:
        own = not isinstance(result, BaseException) or isinstance(result, ThreadkeepError)
        harness.require(promise, own, "results, or errors of threadkeep", result)
    return results


async def _only_own(harness: Harness, what: str, work: Awaitable[object]) -> None:
    """LawBroken where awaiting `work` raises anything that is not the library's own, however deep it derives from."""
    try:
        await work
    except (ThreadkeepError, asyncio.CancelledError):
        return
    except BaseException as error:
        raise harness.broken(
            f"{what} raises nothing but errors of threadkeep", "none, or one of these", error
        ) from error


def _in_threads(harness: Harness, promise: str, works: list[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """Run each work on an event loop of its own, in a thread of its own, all at once; the results."""
    results: list[Any] = [None] * len(works)
    errors: list[Exception] = []

    def run(index: int) -> None:
        async def await_it() -> Any:
            return await works[index]()

        try:
            results[index] = asyncio.run(await_it())
        except Exception as error:  # noqa: BLE001 - it is handed on to the thread that asked
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(harness.profile.seconds)
        harness.require(promise, not thread.is_alive(), f"an end within {harness.profile.seconds:g} s", "none")
    for error in errors:
        raise harness.broken(promise, "no error", error) from error
    return results


class Lifecycle(Law):
    """Only the library's own errors leave a store, and it can be opened, closed, shared and interrupted at will."""

    number = 12
    title = "Errors and lifecycle"

    def test_a_closed_store_says_so_and_others_go_on(self, harness: Harness) -> None:
        """Every verb on a closed store, and on one that was closed before it was ever opened, is `StoreClosed` and does
        nothing. Other handles on the same URL go on.
        """

        async def run() -> None:
            first, second = await harness.open(), await harness.open()
            thread = await _three(harness, first)
            await first.close()
            for name, verb in _verbs(harness, thread).items():
                await harness.refused(f"{name} after close is StoreClosed", StoreClosed, verb(first))
            harness.expect("closing one store leaves another alone", 3, await _count(second, thread))
            never = harness.handle()
            await never.close()
            for name, verb in _verbs(harness, thread).items():
                await harness.refused(f"{name} after close is StoreClosed", StoreClosed, verb(never))
            harness.expect("what a closed store refused is not done", 3, await _count(second, thread))

        harness.run(run)

    def test_closing_may_be_repeated_and_raced(self, harness: Harness) -> None:
        """Closing may be repeated, and many tasks may close one handle at the same time. Other handles see all that was
        there.
        """

        async def run() -> None:
            watcher = await harness.open()
            handle = await harness.open()
            thread = await _three(harness, handle)
            await asyncio.gather(*(handle.close() for _ in range(harness.profile.tasks)))
            await handle.close()
            # A guard closes its store once: whether the store bears more is seen only with other guards.
            await Guard(handle.store).close()
            await asyncio.gather(*(Guard(handle.store).close() for _ in range(harness.profile.tasks)))
            harness.expect("closing again changes nothing", 3, await _count(watcher, thread))

        harness.run(run)

    @least(loads=4)
    def test_opening_may_be_repeated_and_raced(self, harness: Harness) -> None:
        """Opening may be repeated and raced, on one handle, by tasks whose first calls open it, and by new handles.
        What is stored stays, and everybody finds it.
        """

        async def run() -> None:
            handle = await harness.open()
            thread = await _three(harness, handle)
            await handle.open()
            await Guard(handle.store).open()
            harness.expect("opening again changes nothing", 3, await _count(handle, thread))
            await asyncio.gather(*(Guard(handle.store).open() for _ in range(harness.profile.tasks)))
            harness.expect("opening again changes nothing", 3, await _count(handle, thread))
            for _ in range(harness.profile.rounds):
                new = harness.handle()
                counts = await asyncio.gather(*(_count(new, thread) for _ in range(harness.profile.tasks)))
                promise = "tasks whose first calls open the store all find what is there"
                harness.expect(promise, [3] * harness.profile.tasks, counts)
                await new.close()
            others = [await harness.open() for _ in range(5)]
            harness.expect("every store opened finds what is there", [3] * 5, [await _count(o, thread) for o in others])
            harness.expect("opening others changes nothing", 3, await _count(handle, thread))

        harness.run(run)

    @least(commits=1, outages=True)
    def test_calls_that_run_while_the_store_closes_end_well(self, harness: Harness) -> None:
        """Calls that run while their store is closed each give their result or an error of threadkeep. A load is whole
        and never an empty history, and what was acknowledged is there.
        """

        async def close(handle: Recorded, turns: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            await handle.close()

        async def run() -> None:
            watcher = await harness.open()
            promise = "a call that runs while its store closes gives its result or an error of threadkeep"
            for turns in range(harness.profile.rounds):
                handle = await harness.open()
                thread = await _three(harness, handle)
                commits = [
                    handle.commit(thread, Changes(2, harness.epoch(), (record(f"new{index}"),))) for index in range(8)
                ]
                loads = [handle.load(thread, ALL) for _ in range(4)]
                results = await _settled(harness, promise, [*commits, *loads, close(handle, turns)])
                there = {stored.id for stored in (await watcher.load(thread, ALL)).records}
                for index, result in enumerate(results[: len(commits)]):
                    harness.require(
                        "what a closing store acknowledged is there",
                        isinstance(result, BaseException) or f"new{index}" in there,
                        f"new{index}",
                        f"{sorted(there)}",
                    )
                for snapshot in results[len(commits) : -1]:
                    harness.require(
                        "a load that runs while its store closes is whole, or an error",
                        not isinstance(snapshot, Snapshot) or len(snapshot.records) >= 3,
                        "at least the three messages that were there",
                        snapshot,
                    )

        harness.run(run)

    @least(outages=True)
    def test_a_cancelled_call_leaves_the_store_usable(self, harness: Harness) -> None:
        """A store is usable after calls were cancelled. Loads, commits, lists and deletions are cancelled after 0, 1, 2
        and more turns of the event loop. Every cancelled commit was done once or not at all; it may still be done after
        the cancellation, as a request that is on its way to a server may.
        """

        async def run() -> None:
            handle, watcher = await harness.open(), await harness.open()
            thread = await _three(harness, handle)
            turns = 2 * harness.profile.rounds
            promise = "a store is usable after calls were cancelled, and does each of them once or not at all"
            for turn in range(turns):
                fresh = Thread(thread.resource_id, f"other{turn}")
                works: list[Awaitable[object]] = [
                    handle.load(thread, ALL),
                    handle.commit(thread, Changes(2, harness.epoch(), (record(f"new{turn}"),))),
                    handle.commit(fresh, Changes(2, harness.epoch(), (record("first"),), (Put("work", "1"),))),
                    handle.threads(Resource(thread.resource_id)),
                    handle.delete(Thread(thread.resource_id, "nobody")),
                ]
                tasks = [asyncio.ensure_future(work) for work in works]
                for _ in range(turn % harness.profile.rounds):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                for result in await asyncio.gather(*tasks, return_exceptions=True):
                    own = not isinstance(result, Exception) or isinstance(result, ThreadkeepError)
                    harness.require("a cancelled call is cancelled, or ends", own, "CancelledError", result)
                receipt = await handle.commit(thread, Changes(3, harness.epoch(), (record(f"after{turn}"),)))
                kept = {stored.id: stored.position for stored in (await watcher.load(thread, ALL)).records}
                harness.expect(promise, kept.get(f"after{turn}"), receipt.positions[0])
                other = await watcher.load(fresh, ALL)
                whole = (len(other.records), len(other.docs)) in ((0, 0), (1, 1))
                harness.require(promise, whole, "a message with its document, or neither", other)
            ids = [stored.id for stored in (await watcher.load(thread, ALL)).records]
            certain = ["m0", "m1", "m2", *(f"after{turn}" for turn in range(turns))]
            harness.expect(promise, certain, [name for name in ids if not name.startswith("new")])
            harness.expect(promise, len(set(ids)), len(ids))

        harness.run(run)

    @least(loads=1, outages=True)
    def test_many_cancelled_calls_at_once_leave_the_store_usable(self, harness: Harness) -> None:
        """Of many calls that run at once, all but one are cancelled: that one is answered, and the store is usable
        afterwards.
        """

        async def run() -> None:
            handle = await harness.open()
            thread = await _three(harness, handle)
            many = 8 * harness.profile.tasks
            for turns in range(4):
                tasks = [asyncio.ensure_future(handle.load(thread, ALL)) for _ in range(many)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in tasks[: many - 1]:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                promise = "calls go on where others beside them were cancelled"
                harness.expect(promise, 3, len(tasks[-1].result().records))
                harness.expect(promise, 3, await _count(handle, thread))

        harness.run(run)

    @least(commits=20, loads=20)
    def test_many_calls_at_once_are_all_served(self, harness: Harness) -> None:
        """Very many calls that run at once are all served."""

        async def run() -> None:
            handle = await harness.open()
            thread = await _three(harness, handle)
            counts = await asyncio.gather(*(_count(handle, thread) for _ in range(10 * harness.profile.tasks)))
            harness.expect("calls that run at once are all answered", {3}, set(counts))
            await asyncio.gather(
                *(
                    handle.commit(thread, Changes(2, harness.epoch(), (record(f"new{index}"),)))
                    for index in range(10 * harness.profile.tasks)
                )
            )
            promise = "commits that run at once are all done"
            harness.expect(promise, 3 + 10 * harness.profile.tasks, await _count(handle, thread))

        harness.run(run)

    @least(commits=4, loads=4)
    def test_one_store_serves_several_event_loops(self, harness: Harness) -> None:
        """One handle serves several event loops, one after the other and several threads' at the same time, and may be
        opened by any of them.
        """
        handle = harness.run(harness.open)
        thread = harness.run(_three, harness, handle)
        promise = "a store serves event loops one after the other, and several at once"

        def adding(name: str) -> Callable[[], Awaitable[int]]:
            async def add() -> int:
                await handle.commit(thread, Changes(2, harness.epoch(), (record(name),)))
                return await _count(handle, thread)

            return add

        for number in range(4, 8):
            harness.expect(promise, [number], _in_threads(harness, promise, [adding(f"in{number}")]))
        harness.expect(promise, 7, harness.run(_count, handle, thread))
        for turn in range(3):
            _in_threads(harness, promise, [adding(f"turn{turn}of{index}") for index in range(4)])
        harness.expect(promise, 19, harness.run(_count, handle, thread))

        born = harness.handle()
        opened_elsewhere = _in_threads(harness, promise, [lambda: _count(born, thread)])
        harness.expect(promise, ([19], 19), (opened_elsewhere, harness.run(_count, born, thread)))

    @least(loads=0)
    def test_each_refusal_says_what_to_do(self, harness: Harness) -> None:
        """Each refusal says by its `action` what to do next, and that a mere repetition is of no use."""

        async def run() -> None:
            handle = await harness.open()
            thread = await _three(harness, handle)
            refusals: list[tuple[type[Conflict], Action, Changes]] = [
                (TailMoved, Action.RELOAD, Changes(2, "e", (record("new"),), if_tail=MISSING)),
                (TailMoved, Action.RELOAD, Changes(2, "e", if_epoch="other")),
                (MessageConflict, Action.FIX, Changes(2, "e", (record("m0", "changed"),))),
                (VersionMoved, Action.RELOAD, Changes(2, "e", puts=(Put("work", "1", 5),))),
                (VersionMoved, Action.RELOAD, Changes(2, "e", resource_puts=(Put("work", "1", 5),))),
            ]
            for kind, action, changes in refusals:
                error = await harness.refused(f"{kind.__name__} says what to do", kind, handle.commit(thread, changes))
                promise = f"{kind.__name__} says what to do next, and that a repetition is of no use"
                harness.expect(promise, (action, False), (error.action, error.retryable))

        harness.run(run)

    @least(loads=4, lists=4)
    def test_numbers_too_large_for_a_database_are_numbers(self, harness: Harness) -> None:
        """Numbers that are too large for a database (2^63 and up, and below its negative) are numbers like any other in
        windows, conditions and places in a list, or are refused with `InvalidInput`.
        """

        async def run() -> None:
            handle = await harness.open()
            thread = await _three(harness, handle)
            resource = Resource(thread.resource_id)
            three, none = ["m0", "m1", "m2"], list[str]()
            for huge in HUGE:
                windows = [
                    (Window(before=huge), three),
                    (Window(huge, before=2), three[1:]),
                    (Window(huge, after=2), none),
                    (Window(-huge, before=2), none),
                    (Window(-huge, after=huge), three),
                    (Window(0, after=huge), three),
                    (Window("m1", before=huge, after=huge), three),
                ]
                for window, expected in windows:
                    promise = f"{source(window)} is a window like any other"
                    try:
                        seen = [stored.id for stored in (await handle.load(thread, window)).records]
                    except InvalidInput:
                        continue
                    harness.expect(promise, expected, seen)
                for changes, kind in (
                    (Changes(2, "e", (record("new"),), if_tail=Tail("e", huge)), TailMoved),
                    (Changes(2, "e", puts=(Put("work", "1", huge),)), VersionMoved),
                    (Changes(2, "e", resource_puts=(Put("work", "1", huge),)), VersionMoved),
                ):
                    try:
                        await handle.commit(thread, changes)
                    except (kind, InvalidInput):
                        continue
                    raise harness.broken(f"{source(changes)} is refused", kind.__name__, "a receipt")
                for changes in (Changes(2, "e", drop_after=huge), Changes(2, "e", seen=Tail("e", huge))):
                    try:
                        await handle.commit(thread, changes)
                    except InvalidInput:
                        continue
                pages: list[tuple[After, Order, list[str]]] = [
                    (After(huge, "x"), "created", none),
                    (After(-huge, "x"), "created", ["thread"]),
                    (After(huge, "x"), "active", ["thread"]),
                    (After(-huge, "x"), "active", none),
                ]
                for after, order, expected in pages:
                    try:
                        rows = await handle.threads(resource, after, 10, order)
                    except InvalidInput:
                        continue
                    promise = f"{source(after)} is a place like any other in a list by {order!r}"
                    harness.expect(promise, expected, [row.thread_id for row in rows])
                harness.expect("nothing of this changed the thread", 3, await _count(handle, thread))

        harness.run(run)

    @least(commits=10, loads=10, deletions=4, lists=8)
    def test_nothing_but_errors_of_threadkeep_leaves_a_store(self, harness: Harness) -> None:
        """Nothing but errors of threadkeep leaves a store. Every verb is called with ids that somebody takes for
        something else: NUL, quotes, wildcards, operators, the longest ids.
        """

        async def run() -> None:
            handle = await harness.open()
            longest = ("x" * handle.limits.id_bytes, "\U0001f9f5" * (handle.limits.id_bytes // 4))
            tried = harness.some(ODD, 1 / 3, kind=lambda odd: (odd.isascii(), odd.isprintable()))
            for odd in (*tried, *longest):
                user = harness.fresh() + odd[: handle.limits.id_bytes // 8]
                for thread in (Thread(user, odd), Thread(user, "thread")):
                    verbs = _verbs(harness, thread) | _verbs_with_ids(harness, thread, odd)
                    for name, verb in verbs.items():
                        await _only_own(harness, f"{name} with ids such as {odd[:20]!r}", verb(handle))

        harness.run(run)

    def test_nonsense_is_refused_as_such(self, harness: Harness) -> None:
        """Ids that are none, such as None, an empty text, bytes or a lone surrogate, are refused by every verb with
        `InvalidId` or `LimitExceeded`, and nothing is changed.
        """

        async def run() -> None:
            handle = await harness.open()
            thread = await _three(harness, handle)
            user = thread.resource_id
            ids: list[Any] = [None, "", 0, 1.5, b"bytes", ["list"], "\ud800", "x" * (handle.limits.id_bytes + 1)]
            for wrong in ids:
                works = [
                    ("load", handle.load(Thread(user, wrong), ALL)),
                    ("load", handle.load(Thread(wrong, "thread"), ALL)),
                    ("load", handle.load(Resource(wrong))),
                    ("commit", handle.commit(Thread(user, wrong), Changes(1, "e"))),
                    ("commit", handle.commit(Thread(wrong, "thread"), Changes(1, "e"))),
                    ("delete", handle.delete(Thread(user, wrong))),
                    ("delete", handle.delete(Resource(wrong))),
                    ("threads", handle.threads(Resource(wrong))),
                ]
                for verb, work in works:
                    error = await harness.refused(f"{verb} refuses the id {wrong!r:.60}", InvalidInput, work)
                    harness.expect("a refused id is to be changed", Action.FIX, error.action)
            harness.expect("nothing of this changed the thread", 3, await _count(handle, thread))

        harness.run(run)
