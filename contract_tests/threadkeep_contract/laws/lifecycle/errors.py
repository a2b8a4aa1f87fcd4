"""The checks of law 12 on errors: what leaves a store, and what it says to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

from threadkeep.errors import Action, Conflict, InvalidInput, MessageConflict, TailMoved, ThreadkeepError, VersionMoved
from threadkeep.port import MISSING, After, Changes, Order, Put, Resource, Tail, Thread, Window
from threadkeep_contract.evidence import least
from threadkeep_contract.harness import ALL, Harness, Law, record
from threadkeep_contract.history import source
from threadkeep_contract.laws.lifecycle.common import Verb, count, three, verbs

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


class Errors(Law):
    """What leaves a store where something is refused."""

    @least(loads=0)
    def test_each_refusal_says_what_to_do(self, harness: Harness) -> None:
        """Each refusal says by its `action` what to do next, and that a mere repetition is of no use."""

        async def run() -> None:
            handle = await harness.open()
            thread = await three(harness, handle)
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
            thread = await three(harness, handle)
            resource = Resource(thread.resource_id)
            every, none = ["m0", "m1", "m2"], list[str]()
            for huge in HUGE:
                windows = [
                    (Window(before=huge), every),
                    (Window(huge, before=2), every[1:]),
                    (Window(huge, after=2), none),
                    (Window(-huge, before=2), none),
                    (Window(-huge, after=huge), every),
                    (Window(0, after=huge), every),
                    (Window("m1", before=huge, after=huge), every),
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
                harness.expect("nothing of this changed the thread", 3, await count(handle, thread))

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
                    every = verbs(harness, thread) | _verbs_with_ids(harness, thread, odd)
                    for name, verb in every.items():
                        await _only_own(harness, f"{name} with ids such as {odd[:20]!r}", verb(handle))

        harness.run(run)

    def test_nonsense_is_refused_as_such(self, harness: Harness) -> None:
        """Ids that are none, such as None, an empty text, bytes or a lone surrogate, are refused by every verb with
        `InvalidId` or `LimitExceeded`, and nothing is changed.
        """

        async def run() -> None:
            handle = await harness.open()
            thread = await three(harness, handle)
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
            harness.expect("nothing of this changed the thread", 3, await count(handle, thread))

        harness.run(run)
