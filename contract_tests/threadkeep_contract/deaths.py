"""Processes that die at a moment of their last call: between any two things that a store does for it.

A kill at random seldom hits what is between two transactions of one commit. So a victim does some steps, and dies in
the next by its own hand, at a moment that is counted (`dying.py`). The moments are not tried one after the other: as
long as one leaves nothing of the call behind and a later one all of it, the one in the middle between them is tried
next. What is left in parts from some moment to another is found so, be these two next to each other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from threadkeep.port import Changes, Put, Resource, Thread
from threadkeep_contract.harness import Harness, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.kills import Survivor, left
from threadkeep_contract.processes.team import workers
from threadkeep_contract.processes.worker import Die, Step

MOST: Final = 14
"""Victims of one call, at most; a call has some hundreds of moments, some thousands where its driver is of Python."""


class Stage(NamedTuple):
    """Steps in a resource of their own, and the one after them in which the process dies."""

    name: str
    first: tuple[Step, ...]
    last: Step


def stages(user: str) -> list[Stage]:
    """What a process may be doing when it dies, each on what is there then."""
    resource, thread = Resource(user), Thread(user, "thread")
    puts, common = (Put("work", "1"), Put("info", "1")), (Put("work", "1"),)

    def commit(number: int, drop_after: int | None = None, thread: Thread = thread) -> Step:
        made = tuple(record(f"{number}-{index}") for index in range(3))
        return Step("commit", thread, Changes(number, f"epoch{number}", made, puts, common, drop_after))

    # The handle is open when the last step begins.
    none = Step("load", thread)
    some = (none, commit(1))
    return [
        Stage("the first commit of a resource", (none,), commit(1)),
        Stage("the first commit of a thread", some, commit(2, thread=Thread(user, "other"))),
        Stage("a commit to a thread", some, commit(2)),
        Stage("a truncation", some, commit(2, drop_after=1)),
        Stage("a commit to a resource", some, Step("commit", resource, Changes(2, puts=puts))),
        Stage("the first commit to a resource", (none,), Step("commit", resource, Changes(1, puts=puts))),
        Stage("a deletion", (*some, commit(2, thread=Thread(user, "other"))), Step("delete", thread)),
        Stage("an erasure", (*some, commit(2, thread=Thread(user, "other"))), Step("delete", resource)),
    ]


async def deaths(harness: Harness) -> AsyncIterator[Survivor]:
    """Let processes die in the middle of a call of each kind that this profile tries, each at another moment.

    A profile that does not try all of a catalogue tries one kind, which takes ten victims; the seed says which.
    """
    handle = await harness.open()
    for name in harness.some([stage.name for stage in stages("")], harness.profile.share):
        before, after = 0, await _moments(harness, name)
        for _ in range(MOST):
            if after - before < 2:
                break
            at = (before + after) // 2
            survivor = await _die(harness, handle, name, at)
            if survivor is None or survivor.done == survivor.acknowledged + 1:
                after = at
            else:
                before = at
            if survivor is not None:
                yield survivor


def _stage(user: str, name: str) -> Stage:
    return next(stage for stage in stages(user) if stage.name == name)


async def _moments(harness: Harness, name: str) -> int:
    """How many moments a call has, by a process that outlives it."""
    stage = _stage(harness.fresh() + "user", name)
    async with workers(harness.url, 1, harness.seen) as (worker,):
        outcomes = await worker.outcomes_of(Die(stage.first, stage.last))
    for outcome in outcomes:
        if outcome.failure is not None:
            raise harness.broken("a process meets no error", "none", outcome.failure.error())
    return outcomes[-1].moments


async def _die(harness: Harness, handle: Recorded, name: str, at: int) -> Survivor | None:
    """What a process leaves behind that dies at a moment; None where its call had fewer this time, and it has not."""
    user = harness.fresh() + "user"
    stage = _stage(user, name)
    async with workers(harness.url, 1, harness.seen) as (victim,):
        victim.give(Die(stage.first, stage.last, at))
        if not await victim.dies():
            return None
    for outcome in victim.outcomes:
        if outcome.failure is not None:
            raise harness.broken("a process meets no error", "none", outcome.failure.error())
    harness.seen.killed()
    steps, died = (*stage.first, stage.last), f"after {stage.name}, whose process died at moment {at} of it"
    return await left(harness, handle, user, steps, len(stage.first), died)
