"""Races whose schedule is drawn: which task goes on is an input as the calls are, and is made as short as they are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from hypothesis import strategies as st

from threadkeep.errors import StoreUnavailable
from threadkeep.port import Thread, Window
from threadkeep_contract.harness import ALL, Harness
from threadkeep_contract.history import told
from threadkeep_contract.inputs.confusable import Spot, just_before
from threadkeep_contract.inputs.operations import EVERYTHING, SLOTS, Kinds, Operation, programs
from threadkeep_contract.laws.concurrency.resources import check_page
from threadkeep_contract.races.linearizability import event_of
from threadkeep_contract.reference.beside import ORDERS
from threadkeep_contract.reference.looks import MANY
from threadkeep_contract.reference.machine import Player
from threadkeep_contract.replay import answer, in_some_order
from threadkeep_contract.scheduling import Switch, Switches, in_turns

_IDS: Final = ("m1", "m2", "m3")

POOLS: Final = (
    (Spot("a", "t", _IDS),),
    (Spot("a", "t", _IDS), Spot("a", "u", _IDS)),
    (Spot("a", "t", _IDS), Spot("b", "t", _IDS)),
)
"""One thread, two of one resource, and two of two."""

KINDS: Final[tuple[Kinds, ...]] = (
    ("append", "drop", "puts", "resource", "load", "delete", "erase", "list"),
    EVERYTHING,
)
"""Of conditions most are refused: half of the races do without."""

HANDLES: Final = 2
TASKS: Final = 3
"""Tasks, at most."""

STEPS: Final = 3
"""Calls of each task, and of those that are made before, at most."""

SWITCHES: Final = 8
"""How often another task goes on than would otherwise, at most."""

TRIES: Final = 3
"""How often a call is made that the store says it cannot serve for now."""


class Race(NamedTuple):
    """What is done before, what each task does, and when another one goes on."""

    pool: tuple[Spot, ...]
    before: Sequence[Operation]
    tasks: Sequence[Sequence[Operation]]
    switches: Sequence[Switch]


@st.composite
def races(draw: st.DrawFn) -> Race:
    """Races of few calls and few switches; the fewer the simpler."""
    pool = draw(st.sampled_from(POOLS))
    kinds = draw(st.sampled_from(KINDS))
    before, *tasks = (draw(programs(kinds, STEPS, st.just(pool))).operations for _ in range(1 + TASKS))
    # As with programs: what is drawn as long as it may be, and shrinks to zeros, is seldom trivial.
    switch = st.tuples(st.integers(0, STEPS), st.integers(1, TASKS - 1))
    drawn = draw(st.lists(switch, min_size=SWITCHES, max_size=SWITCHES))
    return Race(pool, before, tasks, [Switch(after, by) for after, by in drawn if after])


async def check_race(harness: Harness, race: Race) -> None:
    """Run a race; LawBroken unless the model explains what was answered, and what is seen afterwards."""
    handles = await harness.reused(HANDLES)
    room = harness.fresh()
    pool = race.pool
    players = [Player(pool, room) for _ in race.tasks]
    threads = players[0].threads

    async def play(task: int, number: int, operation: Operation) -> None:
        handle = handles[operation.handle]
        step = players[task].step(number, operation)
        for _ in range(TRIES):
            seen = await answer(getattr(handle, step.verb)(*step.args))
            if not isinstance(seen, StoreUnavailable):
                break
        error = seen if isinstance(seen, BaseException) else None
        # What was before the tasks is known to all.
        for player in [players[task]] if number >= STEPS else players:
            player.observe(operation, step, None if error else seen, error)

    for number, operation in enumerate(race.before):
        await play(0, number, operation)
    tasks: list[list[Callable[[], Awaitable[object]]]] = [
        [partial(play, task, STEPS * (task + 1) + number, operation) for number, operation in enumerate(operations)]
        for task, operations in enumerate(race.tasks)
    ]
    await in_turns(tasks, Switches(race.switches), harness.history.going)
    for thread, spot in zip(threads, pool, strict=True):
        await handles[0].load(thread, ALL)
        for message_id in spot.message_ids:
            await handles[1].load(thread, Window(message_id, 1, 1))
    for resource in sorted({spot.resource(room) for spot in pool}, key=lambda resource: resource.resource_id):
        await handles[1].load(resource, Window())
        for order in ORDERS:
            await handles[0].threads(resource, None, MANY, order, SLOTS)
        await handles[1].resources(just_before(resource.resource_id), 1)
    _explain(harness, threads)


def _explain(harness: Harness, threads: Sequence[Thread]) -> None:
    calls = harness.history.calls
    for call in calls:
        check_page(harness, event_of(call), threads)
    if not in_some_order(calls):
        raise harness.broken(
            "calls of scheduled tasks are answered as in some order of them, one after the other",
            "an order in which the reference model gives the same answers",
            f"no such order; the calls were\n    {told(calls, harness.history.turns)}",
        )
