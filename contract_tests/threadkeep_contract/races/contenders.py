"""Contenders that race on a store, tasks or processes, so that a race is written once and run with both."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from threadkeep.port import Changes, Clause, Thread
from threadkeep_contract.harness import Harness
from threadkeep_contract.history import Recorded
from threadkeep_contract.processes.team import Worker, count, soon, workers
from threadkeep_contract.processes.worker import Open, Order, Outcome, Run, Step, obey

HANDLES: Final = 3
"""Handles among which racing tasks are shared out."""

PAUSE: Final = 5
"""Turns of the event loop that a racing task waits between its calls, less one at most."""


OVERLAPS: Final = 2
"""Calls of processes that have to be under way at the same time; see `least`."""

TRIES: Final = 5
"""How often races of processes are run, at most, until so many overlap: a busy machine lets one run after the other."""


class Team(Protocol):
    """Contenders."""

    size: int
    """How many there are."""
    rounds: int
    """How often a race is run."""
    handles: Sequence[Recorded]
    """Handles of this process to look through afterwards."""

    async def together(self, orders: Sequence[Order]) -> list[list[Outcome]]:
        """Each contender its order, all at once; the outcomes of each. There may be fewer orders than contenders."""
        ...


class Tasks:
    """Tasks on several handles of one process."""

    def __init__(self, harness: Harness, handles: Sequence[Recorded]) -> None:
        self.size = harness.profile.tasks
        self.rounds = harness.profile.rounds
        self.handles = handles
        self._seen = harness.seen
        self._url = harness.url
        self._chance = random.Random(harness.seed)

    async def together(self, orders: Sequence[Order]) -> list[list[Outcome]]:
        async def one(index: int, order: Order) -> list[Outcome]:
            outcomes = []
            async for outcome in obey(self.handles[index % len(self.handles)], self._url, order):
                outcomes.append(outcome)
                # Calls that never suspend would else not even take turns, and those that do would stay in step.
                for _ in range(self._chance.randrange(PAUSE)):
                    await asyncio.sleep(0)
            return outcomes

        told = await asyncio.gather(*(one(index, order) for index, order in enumerate(orders)))
        for order, outcomes in zip(orders, told, strict=True):
            for outcome in outcomes if isinstance(order, Open) else ():
                count(self._seen, outcome)
        self._seen.raced(_answered(told))
        return told


class Processes:
    """Worker processes, each with a handle of its own."""

    def __init__(self, harness: Harness, handle: Recorded, team: Sequence[Worker]) -> None:
        self.size = len(team)
        self.rounds = harness.profile.process_rounds
        self.handles: Sequence[Recorded] = [handle]
        self._seen = harness.seen
        self._team = team

    async def together(self, orders: Sequence[Order]) -> list[list[Outcome]]:
        start = soon()
        racing = self._team[: len(orders)]
        for worker, order in zip(racing, orders, strict=True):
            worker.give(replace(order, start=start))
        told = [await worker.rest() for worker in racing]
        self._seen.raced(_answered(told))
        self._seen.overlapped(_overlapping(told))
        return told


def _answered(told: Sequence[Sequence[Outcome]]) -> int:
    """How many contenders were answered at least once."""
    return sum(any(not outcome.unavailable for outcome in outcomes) for outcomes in told)


def _overlapping(told: Sequence[Sequence[Outcome]]) -> int:
    """How many calls were answered that had been under way at the same time as another contender's."""
    answered = [
        (contender, outcome)
        for contender, outcomes in enumerate(told)
        for outcome in outcomes
        if not outcome.unavailable
    ]
    return sum(
        any(
            other != contender and one.began < another.ended and another.began < one.ended
            for other, another in answered
        )
        for contender, one in answered
    )


Race = Callable[[Harness, Recorded, Team], Awaitable[None]]
"""A check of a law: the harness, a handle to look through, and the contenders."""


def by_tasks(harness: Harness, race: Race) -> None:
    """Run a race with tasks on several handles."""

    async def run() -> None:
        handles = [await harness.open() for _ in range(HANDLES)]
        await race(harness, handles[0], Tasks(harness, handles))

    harness.run(run, seconds=2 * harness.profile.seconds)


def by_processes(harness: Harness, *races: Race) -> None:
    """Run races, one after the other, with one team of worker processes, where the store offers that."""
    if not harness.offers(Clause.PROCESSES):
        return

    async def run() -> None:
        handle = await harness.open()
        async with workers(harness.url, harness.profile.processes, harness.seen) as team:
            for _ in range(TRIES):
                for race in races:
                    await race(harness, handle, Processes(harness, handle, team))
                if harness.seen.overlaps >= OVERLAPS:
                    return

    harness.run(run, seconds=5 * harness.profile.seconds)


def committing(scope: Thread, changes: Changes) -> Run:
    """An order of one commit."""
    return Run((Step("commit", scope, changes),))


def told(outcomes: Sequence[Outcome]) -> str:
    """What outcomes said, for the text of a broken law."""
    return "\n            ".join(
        f"{outcome.failure.name}{outcome.failure.args}" if outcome.failure else f"{outcome.answer}"
        for outcome in outcomes
    )
