"""Two calls on one resource, the second begun while the first is under way, in every combination.

Few histories are as short as these, and whoever reads a broken one sees all of it. Where a store suspends in this
process, the second call meets the first at each of its first turns of the event loop.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Final, NamedTuple

from threadkeep.port import Changes, Put, Resource, Thread
from threadkeep_contract.harness import ALL, Harness, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.inputs.confusable import just_before
from threadkeep_contract.processes.worker import Outcome, Step, perform
from threadkeep_contract.races.linearizability import IDS, Event, apply, explain
from threadkeep_contract.reference.looks import look_everywhere
from threadkeep_contract.reference.model import Model

WRITES: Final = ("commit", "commit to both", "truncate", "commit to another", "put", "delete", "erase")
READS: Final = ("load", "threads", "resources")

TURNS: Final = 5
"""Turns of the event loop by which the second call is late, less one at most."""


class Pair(NamedTuple):
    """Two calls by their names, how many turns lie between them, and whether the thread is there before."""

    first: str
    second: str
    turns: int
    there: bool


def _pairs() -> Sequence[Pair]:
    pairs = [Pair(*each) for each in product(WRITES, (*WRITES, *READS), range(TURNS), (False, True))]
    # A profile takes one in so many: in the order in which they are made, it would never see some of the turns.
    random.Random(0).shuffle(pairs)
    return pairs


PAIRS: Final = _pairs()


def _steps(harness: Harness, thread: Thread, number: int) -> Mapping[str, Step]:
    """What each name stands for."""
    resource, another = Resource(thread.resource_id), Thread(thread.resource_id, "another")
    puts = (Put("work", f"{number}"),)

    def commit(scope: Thread, *puts_of_resource: Put, drop_after: int | None = None) -> Step:
        fresh = (record(f"new{number}"), record("same"))
        return Step(
            "commit", scope, Changes(10 + number, harness.epoch(), fresh, puts, puts_of_resource, drop_after=drop_after)
        )

    return {
        "commit": commit(thread),
        "commit to both": commit(thread, *puts),
        "truncate": commit(thread, drop_after=1),
        "commit to another": commit(another),
        "put": Step("commit", resource, Changes(10 + number, puts=puts)),
        "delete": Step("delete", thread),
        "erase": Step("delete", resource),
        "load": Step("load", thread, window=ALL),
        "threads": Step("threads", resource, order="active", slots=("work",)),
        "resources": Step("resources", resource, after=just_before(resource.resource_id), limit=1),
    }


async def _later(handle: Recorded, step: Step, turns: int) -> Outcome:
    for _ in range(turns):
        await asyncio.sleep(0)
    return await perform(handle, step)


async def check_pairs(harness: Harness) -> None:
    """Make the two calls of each pair, and explain what came of them by the model."""
    handles = await harness.reused(2)
    at_once = harness.some([pair for pair in PAIRS if not pair.turns])
    for pair in (*at_once, *harness.some([pair for pair in PAIRS if pair.turns], 2.5)):
        harness.history.clear()
        thread = Thread(harness.fresh() + "user", "thread")
        model = Model()
        if pair.there:
            start = Step(
                "commit", thread, Changes(1, harness.epoch(), (record("m0"), record("m1")), (Put("work", "0"),))
            )
            await perform(handles[0], start)
            apply(model, start)
        steps = [_steps(harness, thread, number)[name] for number, name in enumerate((pair.first, pair.second))]
        outcomes = await asyncio.gather(
            *(
                _later(handle, step, number * pair.turns)
                for number, (handle, step) in enumerate(zip(handles, steps, strict=True))
            )
        )
        events = [Event(number, *each) for number, each in enumerate(zip(steps, outcomes, strict=True))]
        resource, another = Resource(thread.resource_id), Thread(thread.resource_id, "another")
        final = [Step("load", thread, window=ALL), Step("load", another, window=ALL), Step("load", resource)]
        await explain(harness, events, final, handles[0], model)
        await look_everywhere(harness, handles, [thread, another], (*IDS, "new0", "new1", "same"))
