"""Processes that die at a counted moment of a call: what they leave is found, in part or whole (laws 4 and 6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import threadkeep_contract.saboteurs as plugin
from threadkeep.port import Changes, Clause, Thread, Window, open_store, register
from threadkeep_contract import kills
from threadkeep_contract.deaths import deaths, stages
from threadkeep_contract.harness import Harness, LawBroken, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.kills import Survivor, look, model_after
from threadkeep_contract.laws import durability
from threadkeep_contract.processes.team import workers
from threadkeep_contract.processes.worker import Die, Step, perform
from threadkeep_contract.profiles import PROFILES

THREAD = Thread("user", "thread")
FIRST = (Step("load", THREAD),)
LAST = Step("commit", THREAD, Changes(1, "epoch", (record("m1"),)))


@pytest.fixture(params=["sqlite:///{}/store.db", "saboteur://sound-file{}/store.db"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    register("saboteur", plugin)
    name: str = request.param
    return name.format(tmp_path)


async def _stored(url: str) -> int:
    store = open_store(url)
    found = await store.load(THREAD, Window(before=9))
    await store.close()
    return len(found.records)


async def _moments(url: str) -> int:
    # In a resource of its own: what is there already is committed otherwise.
    other = Step("commit", Thread("other", "thread"), LAST.changes)
    async with workers(url, 1) as (worker,):
        return (await worker.outcomes_of(Die(FIRST, other)))[-1].moments


@pytest.mark.parametrize(("part", "stored"), [(0.02, 0), (0.98, 1)])
def test_a_process_dies_in_its_last_call(url: str, part: float, stored: int) -> None:
    async def run() -> None:
        at = round(part * await _moments(url))
        assert at > 0
        async with workers(url, 1) as (victim,):
            victim.give(Die(FIRST, LAST, at))
            assert await victim.dies()
        assert len(victim.outcomes) == len(FIRST)
        assert await _stored(url) == stored

    asyncio.run(run())


def test_a_process_whose_call_has_fewer_moments_lives(url: str) -> None:
    async def run() -> None:
        async with workers(url, 1) as (victim,):
            victim.give(Die(FIRST, LAST, 10**9))
            assert not await victim.dies()
        assert 0 < victim.outcomes[-1].moments < 10**9
        assert await _stored(url) == 1

    asyncio.run(run())


def test_the_moment_is_searched_from_which_a_call_is_done(url: str) -> None:
    harness = Harness(url, PROFILES["quick"])
    assert harness.offers(Clause.PROCESSES)

    async def run() -> set[int | None]:
        return {survivor.done - survivor.acknowledged if survivor.done else None async for survivor in deaths(harness)}

    try:
        assert harness.run(run) == {0, 1}
        assert harness.seen["kills"] >= 4
    finally:
        harness.close()


def test_each_last_call_changes_what_is_there() -> None:
    for stage in stages("user"):
        before, after = (model_after(steps) for steps in (stage.first, (*stage.first, stage.last)))
        shown = [(model.by_scope, model.resource_docs) for model in (before, after)]
        assert shown[0] != shown[1], stage.name


NAMES = [stage.name for stage in stages("")]


def _survived(harness: Harness, name: str, done: int, late: str) -> None:
    """The check of a call whose process died, where the server does that call late, or once too often."""
    user = harness.fresh() + "user"
    stage = next(stage for stage in stages(user) if stage.name == name)
    told = len(stage.first)

    async def run() -> None:
        server = await harness.open()

        async def killed() -> AsyncIterator[Survivor]:
            for step in (*stage.first, stage.last)[: told + done]:
                await perform(server, step)
            if late == "before the repetition":
                await perform(server, stage.last)
            yield Survivor(user, (*stage.first, stage.last), told, told + done, "")

        async def look_late(handle: Recorded, user: str) -> object:
            if late == "after it":
                await perform(server, stage.last)
            return await look(handle, user)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(durability, "look", look_late)
            await durability._survive(harness, killed())

    harness.run(run)


@pytest.mark.parametrize("late", ["never", "before the repetition", "after it"])
@pytest.mark.parametrize("name", NAMES)
def test_a_server_may_do_late_what_a_client_sent_that_has_died_since(name: str, late: str) -> None:
    harness = Harness("memory://late", PROFILES["quick"])
    try:
        _survived(harness, name, 0, late)
    finally:
        harness.close()


@pytest.mark.parametrize("name", NAMES)
def test_what_a_dead_client_left_is_looked_at_until_its_server_is_done(name: str) -> None:
    harness = Harness("memory://left", PROFILES["quick"])
    user = harness.fresh() + "user"
    stage = next(stage for stage in stages(user) if stage.name == name)
    steps = (*stage.first, stage.last)

    async def run() -> int | None:
        server = await harness.open()
        for step in stage.first:
            await perform(server, step)
        looks = 0

        async def look_before(handle: Recorded, user: str) -> object:
            nonlocal looks
            looks += 1
            seen = await look(handle, user)
            if looks == 1:
                await perform(server, stage.last)
            return seen

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kills, "look", look_before)
            survivor = await kills.left(harness, server, user, steps, len(stage.first), "")
        return survivor.done

    try:
        assert harness.run(run) == len(steps)
    finally:
        harness.close()


@pytest.mark.parametrize("late", ["before the repetition", "after it"])
def test_a_call_that_was_seen_done_may_not_be_done_again(late: str) -> None:
    harness = Harness("memory://again", PROFILES["quick"])
    try:
        with pytest.raises(LawBroken):
            _survived(harness, "a truncation", 1, late)
    finally:
        harness.close()
