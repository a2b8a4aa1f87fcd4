"""The worker processes of the suite: what they acknowledge is true, none is left behind, and a broken one is shown."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from threadkeep.registry import open_store
from threadkeep.store import Changes, Put, Record, Resource, Thread, Window
from threadkeep_contract import processes
from threadkeep_contract.harness import Clock, Harness, LawBroken, record
from threadkeep_contract.linearizable import Event, linearizable
from threadkeep_contract.model import Model
from threadkeep_contract.processes import Worker, workers
from threadkeep_contract.races import Processes, by_processes
from threadkeep_contract.worker import Chain, Failure, Open, Outcome, Patch, Run, Step, obey

THREAD = Thread("user", "thread")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store.db"


def _commit(*records: Record, **fields: Any) -> Step:
    return Step("commit", THREAD, Changes(1, "epoch", records, **fields))


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 120))


def _gone(worker: Worker) -> bool:
    return worker._process.returncode is not None


def test_a_worker_does_as_it_is_told_and_says_what_came_of_it(url: str) -> None:
    async def run() -> None:
        body = 'line one\nline two \u2028 \0 "quoted" \U0001f9f5'
        steps = (
            _commit(record("m1", body), puts=(Put("work", "{}"),)),
            _commit(record("m1", "changed")),
            Step("load", THREAD, window=Window(before=5)),
            Step("load", Resource("nobody")),
            Step("delete", THREAD),
        )
        async with workers(url, 1) as (worker,):
            done, refused, seen, nobody, deleted = await worker.outcomes_of(Run(steps))
        assert done.receipt is not None
        assert (list(done.receipt.positions), list(done.receipt.versions)) == ([1], [1])
        assert refused.failure == Failure("MessageConflict", ("m1",))
        assert repr(refused.failure.error()) == "MessageConflict('m1')"
        assert seen.snapshot is not None
        assert [stored[2:] for stored in seen.snapshot.records] == [record("m1", body)]
        assert nobody.snapshot is not None
        assert nobody.snapshot.tail == ("", 0)
        assert (deleted.receipt, deleted.snapshot, deleted.failure) == (None, None, None)
        assert done.began < done.ended < refused.began
        assert _gone(worker)

    _run(run)


def test_each_kind_of_order_does_what_it_says(url: str) -> None:
    async def run() -> None:
        async with workers(url, 3) as team:
            chains = [Chain(THREAD, (record(f"{w}-0"), record(f"{w}-1")), 100) for w in range(2)]
            for worker, chain in zip(team, chains, strict=False):
                worker.give(chain)
            team[2].give(Patch(Resource("user"), "work", "w", 3, 10))
            answers = [await worker.rest() for worker in team]
            answers.append(await team[0].outcomes_of(Open(_commit(record("late")), 4)))
        assert all(outcome.receipt is not None for outcomes in answers for outcome in outcomes)
        store = open_store(url)
        seen = await store.load(THREAD, Window(before=100))
        await store.close()
        assert sorted(stored.id for stored in seen.records) == ["0-0", "0-1", "1-0", "1-1", "late"]
        assert seen.resource_docs["work"] == (3, '{"w-0": true, "w-1": true, "w-2": true}')

    _run(run)


def test_a_killed_worker_is_known_by_what_it_acknowledged(url: str) -> None:
    async def run() -> None:
        async with workers(url, 1) as (worker,):
            worker.give(Run(tuple(_commit(record(f"m{number}")) for number in range(5000))))
            for _ in range(3):
                await worker.outcome()
            await worker.kill()
            assert 3 <= len(worker.outcomes) < 5000
            assert worker._process.returncode == -signal.SIGKILL
        store = open_store(url)
        seen = await store.load(THREAD, Window(before=10_000))
        await store.close()
        assert len(seen.records) in (len(worker.outcomes), len(worker.outcomes) + 1)

    _run(run)


def test_a_worker_that_cannot_start_is_shown_with_its_error(tmp_path: Path) -> None:
    async def run() -> None:
        with pytest.raises(LawBroken, match="did not start") as failure:
            async with workers("nowhere://at-all", 2):
                pass
        assert "no store is installed for nowhere://" in str(failure.value)

    _run(run)


def test_a_worker_that_ends_badly_is_shown_with_its_error(url: str) -> None:
    async def run() -> None:
        async with workers(url, 2) as team:
            team[0]._send(b"nonsense")
            with pytest.raises(LawBroken, match="ended early") as failure:
                await team[0].outcome()
            await team[0].kill()
        assert "ValidationError" in str(failure.value)
        assert all(_gone(worker) for worker in team)

    _run(run)


def test_a_worker_that_dies_unseen_is_found_at_the_end(url: str) -> None:
    async def run() -> None:
        with pytest.raises(LawBroken, match="ended with status -9"):
            async with workers(url, 2) as team:
                os.kill(team[1]._process.pid, signal.SIGKILL)
        assert all(_gone(worker) for worker in team)

    _run(run)


def test_a_worker_that_hangs_is_a_failure(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with workers(url, 2) as team:
            monkeypatch.setattr(processes, "HANG", 0.5)
            os.kill(team[0]._process.pid, signal.SIGSTOP)
            with pytest.raises(LawBroken, match="has said nothing for"):
                await team[0].outcomes_of(Run((_commit(record("m")),)))
            monkeypatch.undo()
            await team[0].kill()
        assert all(_gone(worker) for worker in team)

    _run(run)


def test_workers_are_reaped_when_the_check_fails(url: str) -> None:
    async def run() -> None:
        team: list[Worker] = []

        async def fail() -> None:
            async with workers(url, 3) as started:
                team.extend(started)
                started[0].give(Run(tuple(_commit(record(f"m{number}")) for number in range(5000))))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert [_gone(worker) for worker in team] == [True] * 3

    _run(run)


def test_contenders_begin_together(url: str) -> None:
    harness = Harness(url)

    async def race(_: Harness, __: object, team: Any) -> None:
        assert isinstance(team, Processes)
        assert team.size == 3
        for _round in range(5):
            given = time.monotonic_ns()
            answers = await team.together([Run((Step("load", THREAD),)) for _ in range(team.size)])
            assert min(outcome.began for (outcome,) in answers) >= given + processes.LEAD

    try:
        by_processes(harness, race)
    finally:
        harness.close()


def test_races_by_tasks_and_by_processes_carry_out_orders_alike(url: str) -> None:
    async def run() -> None:
        store = open_store(url)
        steps = (
            _commit(record("a"), record("b")),
            Step("load", THREAD, window=Window(before=3)),
            Step("delete", THREAD),
        )
        here = [outcome async for outcome in obey(store, url, Run(steps))]
        async with workers(url, 1) as (worker,):
            there = await worker.outcomes_of(Run(steps))
        await store.close()
        said = [[(each.receipt, each.snapshot, each.failure) for each in outcomes] for outcomes in (here, there)]
        assert said[0] == said[1]

    _run(run)


def _event(writer: int, began: int, ended: int, step: Step, **answer: Any) -> Event:
    return Event(writer, step, Outcome(began, ended, **answer))


def test_linearizability_tells_possible_histories_from_impossible_ones() -> None:
    clock = Clock()
    append = Step("commit", THREAD, Changes(clock(), "epoch", (record("a"),)))
    load = Step("load", THREAD, window=Window(before=5))
    model = Model()
    empty = model.load(THREAD, load.window)
    receipt = model.commit(THREAD, append.changes or Changes(0))
    full = model.load(THREAD, load.window)
    wrote = _event(0, 10, 20, append, receipt=receipt)

    assert linearizable([wrote, _event(1, 5, 15, load, snapshot=empty)], Model())
    assert linearizable([wrote, _event(1, 5, 15, load, snapshot=full)], Model())
    assert linearizable([wrote, _event(1, 21, 25, load, snapshot=full)], Model())
    assert not linearizable([wrote, _event(1, 21, 25, load, snapshot=empty)], Model())
    assert not linearizable([wrote, _event(1, 1, 9, load, snapshot=full)], Model())
    overlapping = [_event(1, 11, 13, load, snapshot=full), _event(2, 14, 16, load, snapshot=empty)]
    assert not linearizable([wrote, *overlapping], Model())

    unknown = _event(0, 10, 20, append, failure=Failure("OutcomeUnknown", ("cut off",)))
    for seen in (empty, full):
        assert linearizable([unknown, _event(1, 30, 40, load, snapshot=seen)], Model())
    later = [_event(1, 30, 40, load, snapshot=full), _event(1, 50, 60, load, snapshot=empty)]
    assert not linearizable([unknown, *later], Model())


def test_the_url_is_no_argument_that_a_list_of_processes_shows(url: str) -> None:
    async def run() -> None:
        async with workers(url, 1) as (worker,):
            assert "sqlite" not in str(worker._process.args)

    _run(run)
