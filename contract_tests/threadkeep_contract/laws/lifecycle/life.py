"""The checks of law 12 on what may happen to a place, a handle and an answer; the law's page lists it."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from threadkeep.errors import StoreClosed, ThreadkeepError
from threadkeep.port import Changes, Put, Resource, Thread
from threadkeep_contract.evidence import least
from threadkeep_contract.faults import cases
from threadkeep_contract.faults.cancelling import Moment, at_each_moment, cancel_at
from threadkeep_contract.faults.driving import Ending
from threadkeep_contract.harness import ALL, Harness, Law, appending, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.inputs.operations import EVERYTHING, Program, programs
from threadkeep_contract.laws.lifecycle.common import count, three, verbs
from threadkeep_contract.races.restarts import through_restarts
from threadkeep_contract.races.threads import in_threads
from threadkeep_contract.reference.beside import Given, agree
from threadkeep_contract.reference.machine import START, Player, outcome, plain, play
from threadkeep_contract.reference.model import Model

LETTING_GO_SECONDS: Final = 5.0
"""How long what is closed late may take: a store that another event loop uses is closed by that."""

LETTING_GO_INTERVAL: Final = 0.005
"""Seconds between two counts of open files."""


def _open_files() -> int | None:
    """How many files, sockets and pipes this process holds open; None where the system does not list them, as Linux,
    macOS and the BSDs do."""
    listed = Path("/dev/fd")
    return len(list(listed.iterdir())) if listed.exists() else None


def _collect() -> None:
    """Have everything closed that nobody holds any more."""
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()


async def _turns(number: int, work: Callable[[], Awaitable[object]]) -> object:
    """Do something after so many turns of the event loop."""
    for _ in range(number):
        await asyncio.sleep(0)
    return await work()


async def _closed(harness: Harness, what: str, handle: Recorded, thread: Thread) -> None:
    """LawBroken unless every verb of a handle is StoreClosed."""
    for name, verb in verbs(harness, thread).items():
        await harness.refused(f"{name} on a handle {what} is StoreClosed", StoreClosed, verb(handle))


def _stage(harness: Harness, resource: Resource, number: int) -> list[Given]:
    """Calls after which a counter that somebody keeps for himself, or reads off what is there, is wrong."""
    kept, anew = Thread(resource.resource_id, "kept"), Thread(resource.resource_id, "anew")
    at = START + number
    newest = appending(harness, at, record(f"a{number}"), record(f"b{number}"), puts=(Put("info", f"{number}"),))
    return [
        Given("load", (kept, ALL)),
        Given("commit", (kept, newest)),
        # The newest position, and the documents, are gone; the next position and versions go on all the same.
        Given("commit", (kept, appending(harness, at, drop_after=1, puts=(Put("info", None),)))),
        Given("commit", (anew, newest)),
        Given("delete", (anew,)),
        Given("commit", (anew, appending(harness, at, record("m"), resource_puts=(Put("work", f"{number}"),)))),
        Given("commit", (resource, Changes(at=at, puts=(Put("work", None),)))),
        Given("load", (kept, ALL)),
        Given("load", (anew, ALL)),
    ]


class Life(Law):
    """What may happen to a place, a handle and an answer, from a first opening to the end."""

    def test_what_was_answered_does_not_change(self, harness: Harness) -> None:
        """Snapshots, receipts and lists that a caller was given stay as they were, whatever is committed, truncated and
        deleted afterwards through the same handle and another. Random programs are played; at their end every answer is
        compared with what it was when it was given.
        """

        async def check(program: Program) -> None:
            handles = await harness.reused(2)
            player, model = Player(program.pool, harness.fresh()), Model()
            given: list[tuple[object, object]] = []
            for number, operation in enumerate(program.operations):
                _, seen = await play(harness, handles, player, number, operation, model)
                given.append((seen.result, harness.history.calls[-1].result))
            for was, result in given:
                harness.expect("an answer stays as it was given", was, plain(result))

        harness.explore(programs(EVERYTHING, harness.profile.steps), check, share=0.5)

    @least(outages=True)
    def test_calls_of_every_verb_that_run_while_the_store_closes_end_well(self, harness: Harness) -> None:
        """A call of any verb that runs while its handle is closed ends, with its answer or an error of threadkeep, and
        is done or not done. The handle is closed after each number of turns of the event loop; another handle then sees
        in every view what the reference model shows, and every verb of the closed one is `StoreClosed`.
        """

        async def run() -> None:
            watcher = await harness.open()
            thread = await three(harness, watcher)
            for number, what in enumerate(cases.CASES):
                for turns in range(number % 2, harness.profile.moments, 2):
                    harness.history.clear()
                    handle = await harness.open()
                    one = cases.case(harness, cases.CASES[what])
                    await cases.prepare(handle, one)
                    call = getattr(handle, one.call.verb)(*one.call.args)
                    results = await asyncio.gather(call, _turns(turns, handle.close), return_exceptions=True)
                    answer: object = results[0]
                    closing: object = results[1]
                    harness.require("closing while calls run raises nothing", closing is None, "no error", closing)
                    error = answer if isinstance(answer, BaseException) else None
                    own = error is None or isinstance(error, ThreadkeepError)
                    promise = (
                        f"{what} that runs while its store closes is answered, or ends with an error of threadkeep"
                    )
                    harness.require(promise, own, "an answer, or an error of threadkeep", error)
                    if error is None:
                        (expected,), _ = one.imagine(one.call)
                        harness.expect(promise, expected, outcome(answer, None))
                    ending = Ending(True, result=answer, error=error)
                    await cases.look_afterwards(harness, watcher, watcher, f"{what} beside a closing", one, ending)
                    await _closed(harness, "that was closed while a call ran", handle, thread)

        harness.run(run)

    @least(outages=True)
    def test_opening_and_closing_may_race(self, harness: Harness) -> None:
        """Where a handle is opened, or used for the first time, and closed at the same time, each call ends, with its
        answer or an error of threadkeep; afterwards the handle is closed, and others go on. The closing begins after
        each number of turns of the event loop.
        """

        async def run() -> None:
            watcher = await harness.open()
            thread = await three(harness, watcher)
            for turns in range(2 * harness.profile.moments):
                harness.history.clear()
                handle = harness.handle()
                opening = handle.open() if turns % 2 else handle.load(thread, ALL)
                results = await asyncio.gather(
                    opening, count(handle, thread), _turns(turns // 2, handle.close), return_exceptions=True
                )
                for result in results:
                    own = not isinstance(result, BaseException) or isinstance(result, ThreadkeepError)
                    harness.require("opening and closing may race", own, "answers, or errors of threadkeep", result)
                if not isinstance(results[1], BaseException):
                    harness.expect("what is answered beside a closing is right", 3, results[1])
                await _closed(harness, "that was closed while it was opened", handle, thread)
                harness.expect("other handles go on", 3, await count(watcher, thread))

        harness.run(run)

    def test_a_handle_outlives_the_event_loops_that_use_it(self, harness: Harness) -> None:
        """A handle serves on when an event loop that used it has ended, be it the one that opened it, and be it with
        calls still running; it may be closed by another loop than the one that opened it, and is closed for all then.
        """
        watcher = harness.run(harness.open)
        thread = harness.run(three, harness, watcher)
        promise = "a handle outlives the event loops that use it"
        for closes_elsewhere in (False, True):
            harness.history.clear()
            handle = harness.handle()
            left: list[asyncio.Future[object]] = []

            async def leave(handle: Recorded = handle, left: list[asyncio.Future[object]] = left) -> int:
                found = await count(handle, thread)
                # Not waited for: the loop ends, and cancels them.
                left.extend(asyncio.ensure_future(handle.load(thread, ALL)) for _ in range(3))
                await asyncio.sleep(0)
                return found

            for _ in range(3):
                harness.expect(promise, [3], in_threads(harness, promise, [leave]))
                harness.expect(promise, [3, 3], in_threads(harness, promise, [lambda: count(handle, thread)] * 2))  # noqa: B023 - called at once
                harness.expect(promise, 3, harness.run(count, handle, thread))
            if closes_elsewhere:
                in_threads(harness, promise, [handle.close])
            else:
                harness.run(handle.close)
            harness.run(_closed, harness, "that another loop closed", handle, thread)
            harness.expect("other handles go on", 3, harness.run(count, watcher, thread))

    @least(closings=1)
    def test_a_closed_handle_holds_no_file_and_no_socket(self, harness: Harness) -> None:
        """Who closes a handle lets go of its files and sockets, and need not close it again: those that this process
        holds open are as many as before the handle was there. Handles are closed after use, while they open, after an
        opening that was cancelled, and by closings that are cancelled, at every moment. What is closed late has some
        seconds; what nobody holds any more, and only waits for the garbage collector, is forgiven. A system that does
        not list a process's open files is not asked for this.
        """

        async def run() -> None:
            first = await harness.open()
            thread = await three(harness, first)
            # SQLite holds what others have closed as long as one connection to the file is open.
            await first.close()

            async def used() -> Recorded:
                handle = await harness.open()
                await asyncio.gather(*(count(handle, thread) for _ in range(3)))
                return handle

            # What a driver opens once and for all it opens now.
            await (await used()).close()
            _collect()
            held = _open_files()
            loop = asyncio.get_running_loop()

            async def let_go(what: str) -> None:
                if held is None:
                    return
                deadline = loop.time() + LETTING_GO_SECONDS
                while (holds := _open_files() or 0) > held and loop.time() < deadline:
                    _collect()
                    await asyncio.sleep(LETTING_GO_INTERVAL)
                promise = f"a handle {what} holds no file and no socket"
                harness.require(promise, holds <= held, f"at most the {held} files that were open before", holds)
                harness.seen.closed()

            await (await used()).close()
            await let_go("that was closed")

            async def closing(moment: Moment) -> bool:
                harness.history.clear()
                handle = await used()
                ending = await cancel_at(handle.close, moment)
                if moment == Moment("turns", 0):
                    await handle.close()  # the other one was cancelled before it began
                await let_go("whose closing was cancelled")
                return ending.reached

            async def opening(moment: Moment) -> bool:
                harness.history.clear()
                handle = harness.handle()
                ending = await cancel_at(handle.open, moment)
                await handle.close()
                await let_go("whose opening was cancelled and that was closed")
                return ending.reached

            await at_each_moment(harness.profile.moments, closing)
            await at_each_moment(harness.profile.moments, opening)
            for turns in range(harness.profile.moments):
                harness.history.clear()
                handle = harness.handle()
                await asyncio.gather(handle.open(), _turns(turns, handle.close), return_exceptions=True)
                await let_go("that was closed while it was opened")

        harness.run(run)

    def test_threads_that_share_a_handle_each_get_their_own_answers(self, harness: Harness) -> None:
        """Operating system threads, each with an event loop of its own, use one handle at the same time, which some of
        them open by their first call, beside handles of their own. Each works on conversations of its own, and every
        answer is compared with the reference model's.
        """
        shared = harness.handle()

        def work(number: int) -> Callable[[], Awaitable[None]]:
            room = harness.fresh()

            async def run() -> None:
                model = Model()
                own = harness.handle()
                for turn in range(harness.profile.rounds):
                    for place, call in enumerate(_stage(harness, Resource(room + "r"), turn)):
                        handle = own if number % 2 and place % 2 else shared
                        await agree(harness, handle, model, call.verb, *call.args)
                await own.close()

            return run

        promise = "threads that share a handle each get their own answers"
        in_threads(harness, promise, [work(number) for number in range(min(8, harness.profile.tasks))])

    def test_counters_go_on_through_handles_and_processes(self, harness: Harness) -> None:
        """Who opens a place anew, with a new handle or in a new process, finds all that was there and goes on.
        Positions follow the largest ever given, though it was dropped, and versions that of a document that was
        removed; a thread that was made again is in its new epoch. Stages follow one another through new handles, after
        all others were closed where the store keeps what it has then, and through processes that end. Clauses
        `processes`, `durability`.
        """

        through_restarts(harness, lambda resource, number: _stage(harness, resource, number))
