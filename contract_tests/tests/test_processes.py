"""The worker processes of the suite: what they acknowledge is true, none is left behind, and a broken one is shown."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, ParamSpec

import pytest

from threadkeep.port import Changes, Put, Record, Resource, Thread, Window, open_store
from threadkeep_contract.harness import Clock, Harness, LawBroken, record
from threadkeep_contract.processes import forkserver
from threadkeep_contract.processes import team as processes
from threadkeep_contract.processes.forkserver import ForkedProcess, ForkServer
from threadkeep_contract.processes.team import Worker, workers
from threadkeep_contract.processes.worker import Chain, Failure, Open, Outcome, Patch, Run, Step, obey
from threadkeep_contract.races.contenders import Processes, by_processes
from threadkeep_contract.races.linearizability import Event, linearizable
from threadkeep_contract.reference.model import Model

P = ParamSpec("P")

THREAD = Thread("user", "thread")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store.db"


@pytest.fixture(params=["forked", "fresh interpreters"])
def _both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are forked, where that is possible, and then fresh interpreters."""
    if request.param != "forked":
        monkeypatch.setattr(forkserver, "fork", lambda *_: None)


by_both = pytest.mark.usefixtures("_both")
linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere than on Linux workers are fresh interpreters")


@pytest.fixture
def own() -> Iterator[ForkServer]:
    """A fork server that no other test uses."""
    own = ForkServer()
    yield own
    own.end()


def _commit(*records: Record, **fields: Any) -> Step:
    return Step("commit", THREAD, Changes(1, "epoch", records, **fields))


def in_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an asynchronous test in an event loop of its own, for two minutes at most."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 120))

    return run


def _gone(worker: Worker) -> bool:
    return worker._process.returncode is not None


@in_a_loop
async def test_a_worker_does_as_it_is_told_and_says_what_came_of_it(url: str) -> None:
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


@in_a_loop
async def test_each_kind_of_order_does_what_it_says(url: str) -> None:
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


@by_both
@in_a_loop
async def test_a_killed_worker_is_known_by_what_it_acknowledged(url: str) -> None:
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


@in_a_loop
async def test_a_worker_that_cannot_start_is_shown_with_its_error(tmp_path: Path) -> None:
    with pytest.raises(LawBroken, match="did not start") as failure:
        async with workers("nowhere://at-all", 2):
            pass
    assert "no store is installed for nowhere://" in str(failure.value)


@by_both
@in_a_loop
async def test_a_worker_that_ends_badly_is_shown_with_its_error(url: str) -> None:
    async with workers(url, 2) as team:
        team[0]._send(b"nonsense")
        with pytest.raises(LawBroken, match="ended early") as failure:
            await team[0].outcome()
        await team[0].kill()
    assert "ValidationError" in str(failure.value)
    assert all(_gone(worker) for worker in team)


@by_both
@in_a_loop
async def test_a_worker_that_dies_unseen_is_found_at_the_end(url: str) -> None:
    with pytest.raises(LawBroken, match="ended with status -9"):
        async with workers(url, 2) as team:
            os.kill(team[1]._process.pid, signal.SIGKILL)
    assert all(_gone(worker) for worker in team)


@by_both
@in_a_loop
async def test_a_worker_that_hangs_is_a_failure(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with workers(url, 2) as team:
        monkeypatch.setattr(processes, "HANG", 0.5)
        os.kill(team[0]._process.pid, signal.SIGSTOP)
        with pytest.raises(LawBroken, match="has said nothing for"):
            await team[0].outcomes_of(Run((_commit(record("m")),)))
        monkeypatch.undo()
        await team[0].kill()
    assert all(_gone(worker) for worker in team)


@by_both
@in_a_loop
async def test_workers_are_reaped_when_the_check_fails(url: str) -> None:
    team: list[Worker] = []

    async def fail() -> None:
        async with workers(url, 3) as started:
            team.extend(started)
            started[0].give(Run(tuple(_commit(record(f"m{number}")) for number in range(5000))))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert [_gone(worker) for worker in team] == [True] * 3


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


@in_a_loop
async def test_races_by_tasks_and_by_processes_carry_out_orders_alike(url: str) -> None:
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


def _arguments(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


@linux
@by_both
@in_a_loop
async def test_the_url_is_no_argument_that_a_list_of_processes_shows(url: str) -> None:
    async with workers(url, 1) as (worker,):
        shown = _arguments(worker._process.pid)
        assert "threadkeep_contract" in shown
        assert "sqlite" not in shown


# Fork servers


def _handles(pid: int) -> set[str]:
    """The pipes and sockets that a process has."""
    found = {str(handle.readlink()) for handle in Path(f"/proc/{pid}/fd").iterdir()}
    return {handle for handle in found if handle.startswith(("pipe:", "socket:"))}


def _threads(pid: int) -> int:
    return len([*Path(f"/proc/{pid}/task").iterdir()])


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@linux
@in_a_loop
async def test_workers_that_race_are_forked_by_two_servers_and_share_nothing(url: str) -> None:
    async with workers(url, 3) as team:
        forked = [worker._process for worker in team if isinstance(worker._process, ForkedProcess)]
        assert len(forked) == 3
        parents = [process._server.process.pid for process in forked]
        assert parents[0] == parents[2]
        assert parents[0] != parents[1]
        await asyncio.gather(*(worker.outcomes_of(Run((Step("load", THREAD),))) for worker in team))
        everyone = [*(process.pid for process in forked), *parents[:2]]
        handles = [_handles(pid) for pid in everyone]
        assert all(handles)
        assert sum(map(len, handles)) == len(set[str]().union(*handles))
        assert [_threads(pid) for pid in parents] == [1, 1, 1]


@linux
def test_a_worker_sees_what_a_fresh_interpreter_would(own: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryFile() as errors:
        monkeypatch.setenv("THREADKEEP_URL", "sqlite:///elsewhere.db")
        assert own.fork("sqlite", errors) is None
        monkeypatch.undo()
        monkeypatch.chdir("/")
        assert own.fork("sqlite", errors) is None
        monkeypatch.undo()
        assert _ended(own.fork("sqlite", errors)) == 1


def _ended(process: ForkedProcess | None) -> int:
    """The status with which a worker ends that is not even given a URL."""
    assert process is not None
    with process.stdin, process.stdout:
        process.stdin.close()
        return process.wait(processes.HANG)


@linux
@in_a_loop
async def test_a_changed_environment_gets_another_fork_server(
    url: str, own: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forkserver, "_servers", {0: own})
    async with workers(url, 1) as (before,):
        monkeypatch.setenv("THREADKEEP_URL", "sqlite:///elsewhere.db")
        async with workers(url, 1) as (meanwhile,):
            pass
    async with workers(url, 1) as (after,):
        pass
    assert isinstance(before._process, ForkedProcess)
    assert isinstance(meanwhile._process, subprocess.Popen)
    assert isinstance(after._process, ForkedProcess)
    assert before._process._server is own
    assert after._process._server is not own
    assert own.process.returncode == 0
    after._process._server.end()


PLUGIN = "from threadkeep_adapters.memory.store import open_store"
THREAD_AT_IMPORT = f"""
import threading
{PLUGIN}
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


@linux
@in_a_loop
async def test_a_process_is_not_forked_where_a_driver_has_started_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme-1.dist-info").mkdir()
    (tmp_path / "acme-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    names = {"quiet": PLUGIN, "threaded": THREAD_AT_IMPORT}
    entries = "".join(f"{name} = acme_{name}\n" for name in names)
    (tmp_path / "acme-1.dist-info" / "entry_points.txt").write_text(f"[threadkeep]\n{entries}")
    for name, source in names.items():
        (tmp_path / f"acme_{name}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(forkserver, "_servers", {0: ForkServer()})
    try:
        for name, kind in (("quiet", ForkedProcess), ("threaded", subprocess.Popen), ("quiet", subprocess.Popen)):
            async with workers(f"{name}://acme", 1) as (worker,):
                assert isinstance(worker._process, kind)
                assert [outcome.failure for outcome in await worker.outcomes_of(Run((_commit(record("m")),)))] == [None]
    finally:
        forkserver._servers[0].end()


@linux
@in_a_loop
async def test_a_fork_server_that_was_killed_is_done_without(
    url: str, own: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(killed: subprocess.Popen[bytes]) -> None:
        async with workers(url, 1) as (worker,):
            os.kill(killed.pid, signal.SIGKILL)
            killed.wait()
            assert len(await worker.outcomes_of(Run((_commit(record("m")),)))) == 1

    monkeypatch.setattr(forkserver, "_servers", {0: own})
    with pytest.raises(LawBroken, match=f"ended with status {forkserver.LOST}"):
        await lose(own.process)
    async with workers(url, 1) as (worker,):
        assert isinstance(worker._process, subprocess.Popen)
        assert len(await worker.outcomes_of(Run((_commit(record("m")),)))) == 1


INTERRUPTED = """
import asyncio, sys
from threadkeep_contract.processes.team import workers
from threadkeep_contract.processes import forkserver

async def main():
    async with workers(sys.argv[1], 3) as team:
        print(*[w._process.pid for w in team], *[t.process.pid for t in forkserver._servers.values()], flush=True)
        while True:
            # A signal that comes just before the loop begins to wait for events is acted upon when it has waited.
            await asyncio.sleep(0.1)

asyncio.run(main())
"""


@linux
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_interrupted_leaves_no_process(how: signal.Signals, url: str) -> None:
    def send() -> None:
        # A terminal interrupts everyone; only the run itself is killed.
        os.killpg(run.pid, how) if how == signal.SIGINT else run.kill()

    command = [sys.executable, "-c", INTERRUPTED, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        everyone = [int(pid) for pid in run.stdout.readline().split()]
        assert len(everyone) == 5
        send()
        said = run.stderr.read().decode()
    assert run.returncode == -how
    assert ("KeyboardInterrupt" in said) == (how == signal.SIGINT)
    while any(map(_alive, everyone)):
        time.sleep(0.01)
