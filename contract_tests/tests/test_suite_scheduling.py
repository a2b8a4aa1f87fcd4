"""Races whose schedule the suite gives, and the programs that run them again (law 5)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

import threadkeep_contract.saboteurs as plugin
from threadkeep.port import register
from threadkeep_contract.harness import Harness
from threadkeep_contract.laws import law as law_of
from threadkeep_contract.profiles import PROFILES
from threadkeep_contract.programs.program import program_of
from threadkeep_contract.report.judging import find
from threadkeep_contract.scheduling import Switch, Switches, in_turns

CHECK = "test_scheduled_calls_on_a_resource_are_linearizable"

SHOWN = ("check-then-insert", "whole-record-rewritten", "tail-read-after-the-commit", "repeat-answered-too-early")
"""Saboteurs that lose races."""

PROFILE = replace(PROFILES["default"], shrink_seconds=3)


@pytest.fixture(autouse=True)
def _plugin() -> None:
    register("saboteur", plugin)


def _call(seen: list[str], name: str) -> Callable[[], Awaitable[object]]:
    async def call() -> None:
        seen.append(f"{name} begins")
        await asyncio.sleep(0)
        seen.append(f"{name} ends")

    return call


async def test_tasks_go_on_in_the_order_given() -> None:
    seen: list[str] = []
    tasks = [[_call(seen, "a"), _call(seen, "b")], [_call(seen, "c")]]
    turns: list[int] = []
    await in_turns(tasks, [1, 2, 1, 1, 2, 1], turns.append)
    assert seen == ["a begins", "c begins", "a ends", "b begins", "c ends", "b ends"]
    assert turns == [1, 2, 1, 1, 2, 1]


async def test_who_has_ended_or_does_not_exist_is_passed_over() -> None:
    seen: list[str] = []
    await in_turns([[_call(seen, "a")], [_call(seen, "b")]], [1, 1, 1, 7, 2])
    assert seen == ["a begins", "a ends", "b begins", "b ends"]


@pytest.mark.parametrize(
    ("switches", "turns"),
    [
        ([], [1, 1, 2, 2, 3, 3]),
        ([Switch(1, 1)], [1, 2, 2, 3, 3, 1]),
        ([Switch(1, 2), Switch(1, 1)], [1, 3, 1, 2, 2, 3]),
    ],
)
async def test_tasks_go_on_as_long_as_they_can_but_for_the_switches(switches: list[Switch], turns: list[int]) -> None:
    seen: list[int] = []
    await in_turns([[_call([], name)] for name in "abc"], Switches(switches), seen.append)
    assert seen == turns


async def test_what_a_thread_does_is_done_before_another_task_goes_on() -> None:
    seen: list[str] = []

    async def hop() -> None:
        await asyncio.to_thread(threading.Event().wait, 0.01)
        seen.append("hop")

    await in_turns([[hop], [_call(seen, "b")]], [1, 1, 2, 2])
    assert seen == ["hop", "b begins", "b ends"]


async def test_a_task_that_waits_for_a_lock_lets_its_holder_go_on() -> None:
    lock, seen = asyncio.Lock(), list[str]()

    async def hold(name: str) -> None:
        async with lock:
            seen.append(name)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    await in_turns([[lambda: hold("a")], [lambda: hold("b")]], [1, 2, 2, 2, 1])
    assert seen == ["a", "b"]


async def test_timeouts_and_errors_are_those_of_the_task_that_has_them() -> None:
    async def late() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await in_turns([[late], [_call([], "b")]], [1, 2])


def test_the_check_keeps_stores_whose_calls_wait_for_nothing_for_threads_and_for_the_network(tmp_path: Path) -> None:
    """Law 5."""
    for url in ("memory://scheduled", f"sqlite:///{tmp_path}/store.db", "saboteur://sound-remote/scheduled"):
        finding, _ = find(law_of(5), CHECK, Harness(url, PROFILES["quick"], check=CHECK))
        assert finding.status == "kept", finding


@pytest.mark.slow
@pytest.mark.parametrize("fault", SHOWN)
def test_a_race_is_printed_with_its_schedule_and_fails_whenever_it_is_run(fault: str, tmp_path: Path) -> None:
    """Law 5: the printed program goes the same way each time, and says what happened in order."""
    law, url = law_of(5), f"saboteur://{fault}/scheduled"
    finding, case = find(law, CHECK, Harness(url, PROFILE, 1, check=CHECK))
    assert case is not None, finding
    assert "goes on" in finding.seen
    program = program_of(case, 10)
    assert (program.kind, program.calls <= 4) == ("schedule", True), program.text
    file = tmp_path / "fault.py"
    for store, code in ((url, 1), (url, 1), ("saboteur://sound-dict/scheduled", 0)):
        file.write_text(program.text.replace(url, store), encoding="utf-8")
        done = subprocess.run([sys.executable, file], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == code, done
        said = done.stderr if code else done.stdout
        assert said.startswith("the promise is broken: " if code else "the fault is not there: ")
        assert ("-- task" in said) == bool(code)
