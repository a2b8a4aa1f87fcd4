"""The pauses between tries of a server that fails: how long they are, and when there is no further try."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from threadkeep_adapters.retry import AT_ONCE, RetryPolicy


class Clock:
    """A clock that pauses move, and nothing else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []
        monkeypatch.setattr("threadkeep_adapters.retry.time", self)
        monkeypatch.setattr("threadkeep_adapters.retry.asyncio", SimpleNamespace(sleep=self.wait))

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    async def wait(self, seconds: float) -> None:
        self.sleep(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_pauses_grow_up_to_the_largest(clock: Clock) -> None:
    pauses = RetryPolicy(first=0.1, factor=3, largest=1.0).begin()
    assert all(pauses.sleep() for _ in range(5))
    assert clock.pauses == pytest.approx([0.1, 0.3, 0.9, 1.0, 1.0])


def test_threads_and_event_loops_get_the_same_pauses(clock: Clock) -> None:
    policy = RetryPolicy(first=0.5, tries=3)

    async def tries() -> list[bool]:
        pauses = policy.begin()
        return [await pauses.wait() for _ in range(3)]

    pauses = policy.begin()
    in_thread = [pauses.sleep() for _ in range(3)]
    assert in_thread == asyncio.run(tries()) == [True, True, False]
    assert clock.pauses == [0.5, 1.0, 0.5, 1.0]


def test_no_try_begins_after_the_time_of_the_call(clock: Clock) -> None:
    pauses = RetryPolicy(first=1.0, largest=1.0).begin(2.5)
    assert [pauses.sleep() for _ in range(3)] == [True, True, False]
    assert clock.pauses == [1.0, 1.0]
    assert not pauses.is_over
    clock.now += 1.0
    assert pauses.is_over


def test_without_a_time_nothing_but_the_tries_ends_a_call(clock: Clock) -> None:
    pauses = RetryPolicy(first=1.0, tries=2).begin()
    clock.now += 1e9
    assert not pauses.is_over
    assert [pauses.sleep(), pauses.sleep()] == [True, False]


def test_jitter_makes_pauses_longer_or_shorter_by_its_part(clock: Clock) -> None:
    for _ in range(200):
        RetryPolicy(first=2.0, jitter=0.25).begin().sleep()
    assert all(1.5 <= pause <= 2.5 for pause in clock.pauses)
    assert min(clock.pauses) < 1.9 < 2.1 < max(clock.pauses)


def test_what_was_lost_is_asked_once_more_at_once(clock: Clock) -> None:
    pauses = AT_ONCE.begin()
    assert [pauses.sleep(), pauses.sleep()] == [True, False]
    assert clock.pauses == [0.0]
