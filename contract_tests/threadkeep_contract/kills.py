"""Processes that are killed in the middle of their work, and what they leave behind.

A victim works through a script of commits and deletions in a resource of its own. The reference model says what the
resource looks like after each of the steps. When the victim has been killed, the store has to look like that after some
step (law 4), which is none before the last one that was acknowledged (law 6). Victims are killed at a random moment of
their work, or as soon as others see what they have not acknowledged yet, or as soon as they have acknowledged all of
it; some work one after the other, some at once.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from threadkeep.port import Changes, Put, Record, Resource, Thread
from threadkeep_contract.harness import ALL, Harness, LawBroken, record
from threadkeep_contract.history import Counted, Recorded, source
from threadkeep_contract.processes.team import Worker, workers
from threadkeep_contract.processes.worker import Run, Step
from threadkeep_contract.races.linearizability import apply, plain
from threadkeep_contract.reference.looks import look_everywhere
from threadkeep_contract.reference.model import Model

STEPS: Final = 150
"""Steps in a victim's script: as a rule more than it lives to do."""

FEW: Final = 40
"""More steps than those victims have that are killed when they have done all."""

MORE: Final = 3
"""Teams of victims that are killed besides those of the profile, where no kill has hit a process at work."""
NEAR: Final = 8
"""Steps before and after the last one that was done, whose threads are looked for by name."""

LOOKS: Final = 40
"""How often is looked at what a victim left: its server may still be at work on what it sent last."""

PAUSE: Final = 0.05
"""Seconds between two looks."""

LONGEST: Final = 0.15
"""Seconds that a victim is left to live, at most, after its first acknowledged step."""

Script = Callable[[str], tuple[Step, ...]]
"""From a resource id to what a victim does there."""


def mixed(user: str) -> tuple[Step, ...]:
    """Threads of several sizes are made, added to, cut, given documents, and deleted."""
    return tuple(_step(Resource(user), number) for number in range(STEPS))


def births(user: str) -> tuple[Step, ...]:
    """Threads are made, one after the other, and each is deleted when there are two newer ones."""
    steps = []
    for number in range(STEPS):
        made = Changes(number + 1, f"epoch{number}", (record(f"{number}"),))
        steps.append(Step("commit", Thread(user, f"thread{number}"), made))
        if number > 1:
            steps.append(Step("delete", Thread(user, f"thread{number - 2}")))
    return tuple(steps)


def appending(user: str) -> tuple[Step, ...]:
    """Two messages a commit, all in one thread."""
    return tuple(
        Step(
            "commit", Thread(user, "thread"), Changes(number + 1, "epoch", tuple(record(f"{number}-{k}") for k in "ab"))
        )
        for number in range(10 * STEPS)
    )


def _step(resource: Resource, number: int) -> Step:
    turn, kind = divmod(number, 6)
    thread = Thread(resource.resource_id, f"thread{turn}")
    text = json.dumps(number)
    puts, common = (Put("work", text), Put("info", text)), (Put("work", text),)

    def records(count: int, size: int) -> tuple[Record, ...]:
        return tuple(record(f"{number}-{index}", "x" * size) for index in range(count))

    match kind:
        case 0:
            changes = Changes(number + 1, f"epoch{turn}", records(80, 100), puts, common)
        case 1:
            changes = Changes(number + 1, f"epoch{turn}", records(3, 10))
        case 2:
            changes = Changes(number + 1, f"epoch{turn}", records(2, 10), puts, drop_after=81)
        case 3:
            changes = Changes(number + 1, f"epoch{turn}", records(30, 2_000), puts, common)
        case 4:
            return Step("commit", resource, Changes(number + 1, puts=puts))
        case _:
            return Step("delete", Thread(resource.resource_id, f"thread{turn - 1}"))
    return Step("commit", thread, changes)


@dataclass(frozen=True, slots=True)
class Survivor:
    """What a killed process left behind."""

    user: str
    steps: tuple[Step, ...]
    acknowledged: int
    """How many steps were acknowledged."""
    done: int | None
    """After how many steps the resource looks as it does; None where it looks like that after no number of them."""
    seen: str
    """How it looks, in words."""


async def look(handle: Counted, user: str) -> object:
    """All that can be seen of a resource, as one value, without a note in the history."""
    rows = await Counted.threads(handle, Resource(user), None, 1000, "created", ())
    threads = [(row.thread_id, plain(await Counted.load(handle, Thread(user, row.thread_id), ALL))) for row in rows]
    return (plain(await Counted.load(handle, Resource(user))), threads)


def look_at_model(model: Model, user: str) -> object:
    """The same of the reference model."""
    rows = model.threads(Resource(user), None, 1000)
    threads = [(row.thread_id, plain(model.load(Thread(user, row.thread_id), ALL))) for row in rows]
    return (plain(model.load(Resource(user))), threads)


def model_after(steps: Sequence[Step]) -> Model:
    """The reference model after some steps."""
    model = Model()
    for step in steps:
        apply(model, step)
    return model


def _steps_done(steps: Sequence[Step], user: str, seen: object, acknowledged: int) -> int | None:
    """After how many steps the model looks as the store does; the likely numbers are tried first."""
    likely = (acknowledged, acknowledged + 1)
    for done in (*likely, *(number for number in range(len(steps) + 1) if number not in likely)):
        if look_at_model(model_after(steps[:done]), user) == seen:
            return done
    return None


async def survivors(harness: Harness, script: Script) -> AsyncIterator[Survivor]:
    """Kill as many processes as the profile says, each at a random moment of its work.

    A few more are killed where each of them had done all by then: a kill counts that hits one at work.
    """
    chance = random.Random(harness.seed)
    handle = await harness.open()
    team = harness.profile.processes
    last = harness.profile.kills
    for first in range(0, last + MORE * team, team):
        if first >= last and harness.seen["kills"]:
            break
        numbers = range(first, min(first + team, last)) if first < last else range(team)
        users = [harness.fresh() + "user" for _ in numbers]
        scripts = []
        for number, user in zip(numbers, users, strict=True):
            # What a first commit writes elsewhere is half written only while a thread is made.
            steps = births(user) if script is mixed and number % 2 else script(user)
            # Every third one is given so little to do that it is killed when it has done all.
            if script is mixed and number % 3 == 2:
                steps = steps[: chance.randrange(1, FEW)]
            scripts.append(steps)
        async with workers(harness.url, len(numbers), harness.seen) as victims:
            kills = []
            for number, user, victim, steps in zip(numbers, users, victims, scripts, strict=True):
                seconds = LONGEST * chance.random()
                if len(steps) < FEW:
                    moment = _all_acknowledged(victim)
                elif script is appending and number % 3 < 2:
                    moment = _seen(victim, handle, Thread(user, "thread"))
                else:
                    moment = _random(victim, seconds)
                kills.append(_kill(victim, steps, moment))
            if first // team % 2:
                await asyncio.gather(*kills)
            else:
                for kill in kills:
                    await kill
        for user, steps, victim in zip(users, scripts, victims, strict=True):
            for outcome in victim.outcomes:
                if outcome.failure is not None:
                    raise harness.broken("a process meets no error", "none", outcome.failure.error())
            told = len(victim.outcomes)
            if 0 < told < len(steps):
                harness.seen.killed()
            yield await left(harness, handle, user, steps, told, f"after {told} acknowledged steps")


async def left(harness: Harness, handle: Recorded, user: str, steps: Sequence[Step], told: int, died: str) -> Survivor:
    """What is there when nobody is at work on it any more: LawBroken where the views of it go on to disagree.

    `told` is how many steps were acknowledged, and `died` says in words how the process ended.
    """
    for turn in range(LOOKS):
        seen = await look(handle, user)
        done = _steps_done(steps, user, seen, told)
        if done is not None:
            # What is written behind a commit may be missing in what `look` does not read.
            near = {step.scope for step in steps[max(0, done - NEAR) : done + NEAR]}
            try:
                await look_everywhere(harness, [handle], near, _ids(steps), model_after(steps[:done]))
                break
            except LawBroken:
                if turn == LOOKS - 1:
                    raise
        await asyncio.sleep(PAUSE)
    return Survivor(user, tuple(steps), told, done, f"{died}: {source(seen)[:2000]}")


def _ids(steps: Sequence[Step]) -> set[str]:
    """The ids of the first and the last message of every commit."""
    appended = [step.changes.append for step in steps if step.changes is not None and step.changes.append]
    return {each.id for records in appended for each in (records[0], records[-1])}


async def _kill(victim: Worker, steps: tuple[Step, ...], moment: Awaitable[None]) -> None:
    victim.give(Run(steps))
    await moment
    await victim.kill()


async def _random(victim: Worker, seconds: float) -> None:
    """Some time after its first acknowledged step."""
    if await victim.outcome() is not None:
        await asyncio.sleep(seconds)


async def _all_acknowledged(victim: Worker) -> None:
    """When it has acknowledged everything."""
    await victim.rest()


async def _seen(victim: Worker, handle: Counted, thread: Thread) -> None:
    """When the thread has just been seen to grow, after the victim's first acknowledged step."""
    await victim.outcome()
    before = now = (await Counted.load(handle, thread)).tail
    last = time.monotonic() + 1
    while now == before and time.monotonic() < last:
        now = (await Counted.load(handle, thread)).tail
