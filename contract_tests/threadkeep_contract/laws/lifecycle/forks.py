"""The check of law 12 on processes that are forked off from one that uses the store."""

from __future__ import annotations

import os
from itertools import islice

from threadkeep.errors import StoreError
from threadkeep.port import Clause, Thread
from threadkeep_contract.evidence import least
from threadkeep_contract.harness import ALL, Harness, Law, appending, record
from threadkeep_contract.laws.lifecycle.common import count
from threadkeep_contract.processes.team import workers
from threadkeep_contract.processes.worker import Fork, Outcome, Run, Step


class Forks(Law):
    """Processes that are forked off from one that uses the store."""

    @least(commits=4, loads=20, outages=True)
    def test_a_process_that_was_forked_off_uses_nothing_of_its_parent(self, harness: Harness) -> None:
        """Processes that are forked off from one that has used the store, as those of web servers are, have answers of
        their own. What they ask through the handle that their parent opened is answered right, or refused with a
        `StoreError`; a handle that they open is answered right, and so is their parent's, which goes on meanwhile.
        Clause `processes`.
        """
        if not harness.offers(Clause.PROCESSES):
            return
        if not hasattr(os, "fork"):
            harness.decline("forks", "this system has no fork")
            return
        harness.run(_fork, harness)


async def _fork(harness: Harness) -> None:
    handle = await harness.open()
    room = harness.fresh()
    threads = [Thread(f"{room}user{number}", "thread") for number in range(3)]
    for thread in threads:
        await handle.commit(thread, appending(harness, 1, record(thread.resource_id)))
    loads = [Step("load", thread, window=ALL) for thread in threads]
    adds = [Step("commit", thread, appending(harness, 2, record("new"))) for thread in threads]
    times = 5 * (1 + harness.profile.process_rounds)
    mine, *others = [(*[load] * times, add, load) for load, add in zip(loads, adds, strict=True)]
    async with workers(harness.url, 1, harness.seen) as (worker,):
        _right(harness, loads[0], (await worker.outcomes_of(Run((loads[0],))))[0], is_new=False)
        outcomes = iter(await worker.outcomes_of(Fork(mine, tuple((steps[0], *steps) for steps in others))))
        _all_right(harness, mine, [*islice(outcomes, len(mine))])
        for steps in others:
            inherited = next(outcomes, None)
            if inherited is None:
                raise harness.broken("a process that was forked off does its work", "outcomes", "none")
            if inherited.failure is None:
                _right(harness, steps[0], inherited, is_new=False)
            else:
                own = isinstance(inherited.failure.error(), StoreError)
                harness.require("what a parent has opened is refused with a StoreError", own, "that", inherited)
            _all_right(harness, steps, [*islice(outcomes, len(steps))])
        _right(harness, loads[0], (await worker.outcomes_of(Run((loads[0],))))[0], is_new=True)
    promise = "what a process wrote that was forked off is there"
    harness.expect(promise, [2] * len(threads), [await count(handle, thread) for thread in threads])


def _all_right(harness: Harness, steps: tuple[Step, ...], outcomes: list[Outcome]) -> None:
    harness.expect("a process beside one that was forked off does its work", len(steps), len(outcomes))
    is_new = False
    for step, given in zip(steps, outcomes, strict=True):
        _right(harness, step, given, is_new=is_new)
        is_new = is_new or step.verb == "commit"


def _right(harness: Harness, step: Step, given: Outcome, *, is_new: bool) -> None:
    """LawBroken unless a load shows its own resource's messages, and a commit says where it stands."""
    promise = "a process that was forked off has answers of its own, and so has its parent"
    if step.verb == "commit":
        harness.expect(promise, [2], given.receipt.positions if given.receipt else given)
    else:
        ids = [step.scope.resource_id, *(["new"] if is_new else [])]
        harness.expect(promise, ids, [entry.id for entry in given.snapshot.records] if given.snapshot else given)
