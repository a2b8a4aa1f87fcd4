"""Calls that go on where others stopped: through new handles, after all were closed, and through new processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from threadkeep.port import Clause, Resource
from threadkeep_contract.harness import ALL, Harness
from threadkeep_contract.history import source
from threadkeep_contract.processes.team import Worker, workers
from threadkeep_contract.processes.worker import Run, Step
from threadkeep_contract.reference.beside import Given, agree, by_model
from threadkeep_contract.reference.machine import Outcome, outcome
from threadkeep_contract.reference.model import Model

Stage = Callable[[Resource, int], list[Given]]
"""The calls of a stage, given the resource that all are about and the number of the stage, from 0."""


async def _by_worker(worker: Worker, calls: Sequence[Given]) -> list[Outcome]:
    """What a worker process answers to calls, comparable."""
    steps = []
    for verb, args in calls:
        changes = args[1] if verb == "commit" else None
        steps.append(Step(verb, args[0], changes, ALL))
    answers = await worker.outcomes_of(Run(tuple(steps)))
    return [
        outcome(answer.receipt or answer.snapshot, None if answer.failure is None else answer.failure.error())
        for answer in answers
    ]


def through_restarts(harness: Harness, stage: Stage) -> None:
    """Make the calls of one stage after another, each through a handle of its own; LawBroken where an answer differs
    from the model's. All handles are closed between stages, and some stages run in a process that ends with them, where
    the store offers that.
    """

    async def run() -> None:
        resource, model = Resource(harness.fresh() + "r"), Model()
        lasting, shared = harness.offers(Clause.DURABILITY), harness.offers(Clause.PROCESSES)
        for opened in [] if not lasting else harness.handles:
            await opened.close()
        keeper = None if lasting else await harness.open()

        async def here(number: int) -> None:
            handle = await harness.open()
            for call in stage(resource, number):
                await agree(harness, handle, model, call.verb, *call.args)
            await handle.close()

        async def elsewhere(number: int) -> None:
            async with workers(harness.url, 1) as (worker,):
                calls = stage(resource, number)
                for call, seen in zip(calls, await _by_worker(worker, calls), strict=True):
                    expected = by_model(model, call)
                    if expected != seen:
                        promise = f"{call.verb} answers in a new process as if there were one"
                        raise harness.broken(promise, source(expected), source(seen))

        for number in range(8):
            await (elsewhere if shared and number in (2, 3, 6) else here)(number)
        if keeper is not None:
            await agree(harness, keeper, model, "load", resource)

    harness.run(run, seconds=3 * harness.profile.seconds)
