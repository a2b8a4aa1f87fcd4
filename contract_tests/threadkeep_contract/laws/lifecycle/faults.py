"""The checks of law 12 on connections that are cut, and on clocks that jump under calls."""

from __future__ import annotations

import asyncio

from threadkeep.errors import StoreUnavailable
from threadkeep.port import Thread
from threadkeep_contract.evidence import least
from threadkeep_contract.faults import clocks
from threadkeep_contract.faults.cases import CASES, READINGS, Probes
from threadkeep_contract.faults.cutting import LOST, Attempt, Wire, at_each_cut, patiently, through_proxy
from threadkeep_contract.faults.proxy import Cut
from threadkeep_contract.harness import Harness, Law, appending, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.laws.lifecycle.common import count, three
from threadkeep_contract.reference.beside import Given
from threadkeep_contract.reference.machine import Outcome

CUT = {**READINGS, **{what: CASES[what] for what in ("an append with documents", "the deletion of a thread")}}
"""Calls whose connection is cut. What becomes of other writes is law 6's."""

AT_ONCE = 6
"""Calls that run at once when one of them is cut."""


async def _ask(wire: Wire, probes: Probes, what: str, count: int | None = None) -> None:
    """Make calls at once on the handle whose connections are cut; each gets its own answer in the end."""

    async def make(handle: Recorded, call: Given) -> Outcome:
        return await patiently(wire, call)

    await probes.ask(what, wire.handle, count, make)


class Faults(Law):
    """Connections that are cut under calls, and clocks that jump under them."""

    @least(commits=2, loads=5, cuts=1, outages=True)
    def test_a_handle_whose_connection_was_cut_works_again(self, harness: Harness) -> None:
        """A call whose connection is cut is answered, or raises `StoreUnavailable`; a write may raise `OutcomeUnknown`.
        After it the same handle works again: a call fails so at most as often as the profile has calls, which is more
        than a pool has connections, and then each gets its own answer. Loads, lists, a commit and a deletion are cut at
        each place of each of their requests.
        """
        with through_proxy(harness) as wire:
            if wire is None:
                return
            probes = Probes(harness)
            harness.run(probes.prepare, wire.watcher)

            async def judge(attempt: Attempt) -> None:
                error, call = attempt.end.error, attempt.one.call
                reads = call.verb not in ("commit", "delete")
                own = error is None or isinstance(error, StoreUnavailable if reads else LOST)
                expected = "StoreUnavailable" if reads else "StoreUnavailable or OutcomeUnknown"
                promise = f"{attempt.what} is answered or may be repeated"
                harness.require(promise, own, f"an answer, or {expected}", error)
                if error is None:
                    (answer,), _ = attempt.one.imagine(call)
                    harness.expect(promise, answer, attempt.end.outcome)
                await _ask(wire, probes, attempt.what, AT_ONCE)

            at_each_cut(wire, CUT, judge)

    @least(commits=5, loads=5, cuts=2, outages=True)
    def test_a_handle_all_of_whose_connections_were_cut_works_again(self, harness: Harness) -> None:
        """Where all connections of a handle are cut at once, while no call runs, as by a server that restarts, it makes
        new ones: a call fails at most as often as the profile has calls, and then each gets its own answer.
        """
        with through_proxy(harness) as wire:
            if wire is None:
                return

            async def run() -> None:
                probes = Probes(harness)
                await probes.prepare(wire.watcher)
                for _ in range(3):
                    await _ask(wire, probes, "every connection was cut")
                    wire.cut_all()
                await _ask(wire, probes, "every connection was cut")

            harness.run(run)

    @least(commits=5, loads=5, cuts=2)
    def test_a_reading_gets_over_connections_that_were_lost_while_they_were_idle(self, harness: Harness) -> None:
        """Where connections of a handle were lost while nobody used them, and that shows only when one is used, as
        behind a router that forgets what is idle, a load is answered and not refused: reading may be repeated, and a
        new connection would do. However many were idle, a commit after that load is answered too.
        """
        with through_proxy(harness) as wire:
            if wire is None:
                return

            async def run() -> None:
                thread = await three(harness, wire.watcher)
                for idle in (1, 2, 3, harness.profile.calls):
                    await asyncio.gather(*(count(wire.handle, thread) for _ in range(idle)))
                    wire.forget_all()
                    promise = "a load is answered over a new connection where idle ones were lost"
                    harness.expect(promise, 3, await count(wire.handle, thread))
                    scope = Thread(thread.resource_id, f"after{idle}")
                    await wire.handle.commit(scope, appending(harness, 1, record("m")))
                    harness.expect("a commit after that is done", 1, await count(wire.watcher, scope))

            harness.run(run)

    @least(commits=5, loads=5, cuts=2, outages=True)
    def test_of_calls_at_once_one_of_which_is_cut_each_gets_its_own_answer(self, harness: Harness) -> None:
        """Of loads, lists and commits that run at once on one handle, the connection of one is cut: before its request,
        in it, after it or in its answer. Each is answered, in one of several tries, with its own answer and no other's.
        """
        with through_proxy(harness) as wire:
            if wire is None:
                return
            probes = Probes(harness)
            harness.run(probes.prepare, wire.watcher)

            async def attempt(where: Cut, turn: int) -> None:
                harness.history.clear()
                await wire.cutting(where, turn, lambda: _ask(wire, probes, f"one of several calls was cut {where}"))

            for where in Cut:
                for number in range(max(2, harness.profile.moments // 3)):
                    harness.run(attempt, where, 3 * number)

    @least(commits=5, loads=4)
    def test_calls_end_as_usual_when_the_clock_jumps_under_them(self, harness: Harness) -> None:
        """While calls are under way, the clock of the store's process is set forward and back by days and years, turn
        by turn of the event loop: each call gets its answer, and none gives up.
        """

        async def jump(move: clocks.Move) -> None:
            for seconds in clocks.JUMPS * 3:
                await asyncio.sleep(0)
                move(seconds)

        async def run(move: clocks.Move) -> None:
            handle = await harness.open()
            probes = Probes(harness)
            await probes.prepare(handle)
            for _ in range(harness.profile.rounds):
                harness.history.clear()
                await asyncio.gather(jump(move), probes.ask("a clock jumped", handle, AT_ONCE))

        with clocks.of_process() as move:
            harness.run(run, move)
