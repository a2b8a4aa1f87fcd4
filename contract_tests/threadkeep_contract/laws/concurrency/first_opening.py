"""The checks of law 5 on places that nobody has opened yet. A plugin offers them by its hook `new_place`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from threadkeep.port import Clause, Resource, Thread, new_place
from threadkeep_contract.faults.cancelling import KINDS, Moment, cancel_at
from threadkeep_contract.faults.cancelling import first as first_of
from threadkeep_contract.harness import Harness, Law, appending, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.processes.team import soon, workers
from threadkeep_contract.processes.worker import Run, Step
from threadkeep_contract.races.threads import in_threads
from threadkeep_contract.reference.beside import Given, agree
from threadkeep_contract.reference.machine import START
from threadkeep_contract.reference.model import Model

THREADS = 4
"""Threads that open a place at once."""


def _offered(harness: Harness) -> bool:
    """Whether there are places that nobody has opened yet."""
    if new_place(harness.url) is not None:
        return True
    harness.decline("first opening", "the plugin has no new_place hook, so no place was opened for the first time")
    return False


@contextmanager
def _unopened(harness: Harness) -> Iterator[Harness]:
    """A harness of a place that nobody has opened yet."""
    url = new_place(harness.url)
    assert url is not None
    place = harness.beside(url)
    try:
        yield place
    finally:
        place.close()


def _calls(place: Harness, number: int) -> list[Given]:
    """The first calls of one who opens the place: he reads or lists, or only writes."""
    scope = Thread(f"r{number}", "t")
    commit = Given("commit", (scope, appending(place, START, record(f"m{number}"))))
    first = [Given("load", (scope,)), Given("threads", (Resource(scope.resource_id),))][: number % 3]
    return [*first, commit, Given("load", (scope,))]


async def _go(place: Harness, handle: Recorded, model: Model, number: int) -> None:
    """Open the place, some by itself and some by the first call, and make one's calls."""
    if number % 2:
        await handle.open()
    for call in _calls(place, number):
        await agree(place, handle, model, call.verb, *call.args)


async def _all_there(place: Harness, openers: int, *handles: Recorded) -> None:
    """LawBroken unless every handle, and a new one, sees what each of those did who opened the place, and can go on."""
    new = await place.open()
    for turn, handle in enumerate((*handles, new)):
        listed = await handle.resources(None, 100)
        expected = sorted(f"r{number}" for number in range(openers))
        place.expect("what each of the first openers did is there", expected, list(listed))
        for number in range(openers):
            scope = Thread(f"r{number}", "t")
            receipt = await handle.commit(scope, appending(place, START, record(f"m{number}"), record(f"go{turn}")))
            place.expect("everybody goes on from there", [1, turn + 2], list(receipt.positions))


class FirstOpening(Law):
    """The first opening of a place."""

    def test_tasks_may_be_the_first_to_open_a_place(self, harness: Harness) -> None:
        """A place that nobody has opened yet is opened by many handles at once, in tasks of one event loop, some by
        `open` and some by a first call of another verb. Each is served, and everybody then sees what all did. Where the
        plugin has no hook `new_place`, the report says NOT OFFERED; so do the other checks of a first opening.
        """
        if not _offered(harness):
            return
        for _ in range(max(3, harness.profile.rounds // 2)):
            with _unopened(harness) as place:

                async def run(place: Harness = place) -> None:
                    handles = [place.handle() for _ in range(harness.profile.tasks)]
                    await asyncio.gather(
                        *(_go(place, handle, Model(), number) for number, handle in enumerate(handles))
                    )
                    await _all_there(place, len(handles), *handles[:3])

                place.run(run)

    def test_threads_may_be_the_first_to_open_a_place(self, harness: Harness) -> None:
        """A place that nobody has opened yet is opened by several threads at once, each on an event loop of its own,
        with handles of their own and with one that they share. Each is served, and everybody then sees what all did.
        """
        if not _offered(harness):
            return
        for turn in range(harness.profile.rounds):
            with _unopened(harness) as place:
                shared = place.handle()
                handles = [shared if turn % 2 else place.handle() for _ in range(THREADS)]

                def opener(
                    number: int, place: Harness = place, handles: list[Recorded] = handles
                ) -> Callable[[], Awaitable[None]]:
                    return lambda: _go(place, handles[number], Model(), number)

                in_threads(place, "threads may be the first to open a place", [opener(n) for n in range(THREADS)])
                place.run(_all_there, place, THREADS, shared)

    def test_processes_may_be_the_first_to_open_a_place(self, harness: Harness) -> None:
        """A place that nobody has opened yet is opened by several processes at once. Each is served, and everybody then
        sees what all did. Clause `processes`.
        """
        if not (harness.offers(Clause.PROCESSES) and _offered(harness)):
            return
        for _ in range(max(1, harness.profile.process_rounds // 5)):
            with _unopened(harness) as place:

                async def run(place: Harness = place) -> None:
                    async with workers(place.url, harness.profile.processes, harness.seen) as team:
                        start = soon()
                        for number, worker in enumerate(team):
                            scope = Thread(f"r{number}", "t")
                            changes = appending(place, START, record(f"m{number}"))
                            worker.give(Run((Step("commit", scope, changes), Step("load", scope)), start))
                        for worker in team:
                            for outcome in await worker.rest():
                                place.expect("a process may be the first to open a place", None, outcome.failure)
                        await _all_there(place, len(team))

                place.run(run, seconds=2 * harness.profile.seconds)

    def test_a_first_opening_that_is_cancelled_leaves_a_place_to_open(self, harness: Harness) -> None:
        """Where the first opening of a place is cancelled, at any moment, the same handle and others open it then, at
        once, and use it as any other.
        """
        if not _offered(harness):
            return

        async def attempt(place: Harness, moment: Moment) -> bool:
            first, second = place.handle(), place.handle()
            ending = await cancel_at(first.open, moment)
            await asyncio.gather(*(_go(place, handle, Model(), n) for n, handle in enumerate((first, second))))
            await _all_there(place, 2, first, second)
            return ending.reached

        for kind in KINDS:
            for number in range(max(1, harness.profile.moments // 2)):
                with _unopened(harness) as place:
                    if not place.run(attempt, place, Moment(kind, first_of(kind) + number)):
                        break
