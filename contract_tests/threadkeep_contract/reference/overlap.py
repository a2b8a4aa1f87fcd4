"""Programs of several resources that are played at once, by a task for each resource, on handles that all share.

Scopes of different resources never meet, so whatever the interleaving, each task is answered as if it were alone: as
the reference model answers it alone. Every content names the resource that it belongs to, so that an answer that went
to the wrong caller is seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import groupby, zip_longest
from typing import Final, NamedTuple, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from threadkeep.port import Changes, Guard, Resource, Thread
from threadkeep_contract.harness import ALL, Harness, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.inputs.confusable import PAIRS, Spot
from threadkeep_contract.inputs.operations import EVERYTHING, List, Load, LoadResource, Operation, Program, programs
from threadkeep_contract.reference.looks import look_everywhere
from threadkeep_contract.reference.machine import START, Player, plain, play
from threadkeep_contract.reference.model import Model

PACES: Final = 5
"""Ways in which tasks let each other pass."""

IN_STEP: Final = 0
"""The pace at which all tasks begin each of their steps at one moment."""

ALONE: Final = 1
"""The pace at which a task makes one call at a time; at others, reads that follow each other are made at once."""


Numbered: TypeAlias = tuple[int, Operation]


CROWDED: Final = 4
"""The pace at which others read all the time, so that as a rule one of their calls is under way."""

READERS: Final = 4
"""How many read all the time."""

READS: Final[tuple[Operation, ...]] = (
    Load(0, 0, before=100),
    Load(0, 1, message=0, before=1, after=2),
    Load(0, 0, back=0, before=2, after=1),
    LoadResource(0, 1),
    List(0, 0, "created", 1),
    List(0, 1, "active", 100, slots=()),
)
"""What all ask at once in the end. Their calls are alike but for the resource, and their answers differ."""


class Overlap(NamedTuple):
    """A program, and how it is played by tasks."""

    program: Program
    handles: int
    """Handles that all tasks share."""
    pace: int
    """How the tasks let each other pass."""


def overlaps(steps: int) -> SearchStrategy[Overlap]:
    """Programs of up to `steps` operations on two to eight resources.

    They have the same ids of threads and messages; some are a confusable pair.
    """
    alike = [tuple(Spot(name, "t") for name in "abcd"), tuple(Spot(name, "t") for name in "abcdefgh")]
    alike.append(tuple(Spot(name, thread_id) for thread_id in "tu" for name in "abcd"))
    pairs = [(pair.first, pair.second) for pair in PAIRS if pair.first.resource_id != pair.second.resource_id]
    # Three in four are alike: two tasks overlap less than eight.
    pools = st.integers(0, 3).flatmap(lambda kind: st.sampled_from(pairs if kind == 3 else alike))
    return st.builds(Overlap, programs(EVERYTHING, steps, pools), st.integers(1, 2), st.integers(0, PACES - 1))


async def together(works: Sequence[Awaitable[object]]) -> None:
    """Await all at once. The first error ends them all, and is raised when none of them runs any more."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def play_overlapping(harness: Harness, overlap: Overlap) -> set[str]:
    """Play a program by a task for each resource; LawBroken where one is answered otherwise than the model alone.

    Then all read at once, and everything is looked at. Returns the ids of the resources that are left.
    """
    program, pace = overlap.program, overlap.pace
    handles = (await harness.reused(2))[: overlap.handles]
    room = harness.fresh()
    names = sorted({spot.resource_id for spot in program.pool})
    players = {name: Player(program.pool, room, f"{room} of {turn}") for turn, name in enumerate(names)}
    models = {name: Model() for name in names}
    steps = {name: _steps(program, name, pace) for name in names}

    async def one(name: str, step: Sequence[Numbered]) -> None:
        await together([play(harness, handles, players[name], *each, models[name]) for each in step])

    async def alone(turn: int, name: str) -> None:
        for number, step in enumerate(steps[name]):
            for _ in range((turn + number) * pace % 3):
                await asyncio.sleep(0)
            await one(name, step)

    async def everyone() -> None:
        await together([alone(turn, name) for turn, name in enumerate(names)])

    if pace == IN_STEP:
        for at_once in zip_longest(*steps.values(), fillvalue=()):
            await together([one(name, step) for name, step in zip(names, at_once, strict=True)])
    else:
        await (_beside_readers(harness, handles, everyone) if pace == CROWDED else everyone())
    number = len(program.operations)
    crowd = [(spot, replace(read, spot=index)) for index, spot in enumerate(program.pool) for read in READS]
    await together([one(spot.resource_id, [(number, read)]) for spot, read in crowd])
    for name in names:
        threads = [spot.thread(room) for spot in program.pool if spot.resource_id == name]
        ids = {message_id for spot in program.pool for message_id in spot.message_ids}
        await look_everywhere(harness, handles, threads, ids, models[name])
    return {resource_id for model in models.values() for resource_id in model.resources()}


async def _beside_readers(
    harness: Harness, handles: Sequence[Recorded], everyone: Callable[[], Awaitable[None]]
) -> None:
    """Let everyone work, while others read a resource of their own and always find the same."""
    user = harness.fresh() + "reader"
    thread, model = Thread(user, "t"), Model()
    filled = Changes(START, f"{user}epoch", (record("m1", user), record("m2", user)))
    model.commit(thread, filled)
    await handles[0].commit(thread, filled)
    done = asyncio.Event()

    async def work() -> None:
        await everyone()
        done.set()

    async def read(turn: int) -> None:
        handle = handles[turn % len(handles)]
        for _ in range(turn):
            await asyncio.sleep(0)
        while not done.is_set():
            promise = "who reads while others write finds what is there"
            harness.expect(promise, plain(model.load(thread, ALL)), plain(await Guard.load(handle, thread, ALL)))
            await asyncio.sleep(0)

    await together([work(), *(read(turn) for turn in range(READERS))])
    await handles[0].delete(Resource(user))


def _steps(program: Program, name: str, pace: int) -> list[Sequence[Numbered]]:
    """The steps of a resource's task: single operations, with their numbers in the program, and reads made at once."""

    def key(numbered: Numbered) -> int:
        number, operation = numbered
        return -1 if pace != ALONE and isinstance(operation, Load | LoadResource | List) else number

    operations = enumerate(program.operations)
    mine = [(number, each) for number, each in operations if program.pool[each.spot].resource_id == name]
    return [list(step) for _, step in groupby(mine, key)]
