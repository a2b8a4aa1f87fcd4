"""What checks are given: hangs and stray errors are broken laws, failures shrink, rooms are clean."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import strategies as st

from threadkeep.errors import StoreClosed, StoreError, TailMoved
from threadkeep.port import Changes, Clause, Scope, Snapshot, Store, Tail, Thread, Window, hookimpl, register
from threadkeep_adapters.memory.store import InProcessStore
from threadkeep_contract.harness import Harness, LawBroken, appending, record
from threadkeep_contract.history import Call, History
from threadkeep_contract.profiles import DEFAULT, PROFILES
from threadkeep_contract.races.threads import in_threads


@pytest.fixture
def harness() -> Iterator[Harness]:
    made = Harness("memory://harness", PROFILES["quick"])
    yield made
    made.close()


def test_a_call_that_never_ends_is_a_broken_law(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    # Opened before: what the import of a plugin takes is no part of the call.
    handle = harness.run(harness.open)

    def look(history: History) -> list[Call]:
        # As a loaded machine does: the event loop goes on before one looks.
        time.sleep(0.1)
        return [call for call in history.calls if call.ended is None]

    monkeypatch.setattr(History, "pending", property(look))

    async def waits() -> None:
        await harness.history.note(handle.name, "load", (), asyncio.Event().wait)

    with pytest.raises(LawBroken, match=r"still running: handle1\.load"):
        harness.run(waits, seconds=1)


def test_an_example_that_hangs_is_not_tried_again_smaller(harness: Harness) -> None:
    harness.profile = replace(harness.profile, seconds=0.5)
    tried: list[int] = []

    async def waits(number: int) -> None:
        tried.append(number)
        await asyncio.Event().wait()

    with pytest.raises(LawBroken, match="every call ends"):
        harness.explore(st.integers(0, 1000), waits)
    assert len(tried) == 1
    assert harness.hung


def test_a_store_that_blocks_the_loop_is_a_broken_law() -> None:
    harness = Harness("memory://harness", PROFILES["quick"])

    released = threading.Event()

    async def blocks() -> None:
        released.wait(60)  # a store that blocks its event loop is what is tried here

    with pytest.raises(LawBroken, match="every call ends"):
        harness.run(blocks, seconds=0.2)
    assert not released.is_set()
    released.set()
    harness.close()


def test_handles_that_only_threads_used_are_closed() -> None:
    harness = Harness("memory://harness", PROFILES["quick"])
    handle = harness.handle()
    in_threads(harness, "threads use a handle", [handle.open])
    harness.close()
    with pytest.raises(StoreClosed):
        asyncio.run(handle.load(Thread("alice", "t")))


def test_an_error_that_was_not_expected_is_a_broken_law(harness: Harness) -> None:
    async def fails() -> None:
        raise StoreError("disk on fire")

    with pytest.raises(LawBroken, match="disk on fire") as caught:
        harness.run(fails)
    assert isinstance(caught.value.__cause__, StoreError)


class Panicking(InProcessStore):
    async def load(self, scope: Scope, window: Window) -> Snapshot:
        class Panic(BaseException):
            pass

        raise Panic("unwrap() on a None value")


def test_what_except_exception_does_not_catch_is_a_broken_law() -> None:
    class Plugin:
        @hookimpl
        def open_store(self, url: str) -> Store:
            return Panicking(url)

    register("panicking", Plugin())
    harness = Harness("panicking://x", PROFILES["quick"])

    async def load() -> None:
        await (await harness.open()).load(Thread("alice", "t"))

    try:
        with pytest.raises(
            LawBroken, match=r"load raised Panic\('unwrap\(\) on a None value'\), which is no Exception"
        ):
            harness.run(load)
        with pytest.raises(LawBroken, match="no Exception"):
            harness.explore(st.none(), lambda _: harness.run(load))
    finally:
        harness.close()


def test_refused_wants_the_error_that_was_named(harness: Harness) -> None:
    async def check(changes: Changes) -> TailMoved:
        handle = await harness.open()
        return await harness.refused("late", TailMoved, handle.commit(Thread(harness.fresh(), "t"), changes))

    stale = appending(harness, 1, record("a"), if_tail=Tail("x", 1))
    assert harness.run(check, stale).position == 0
    with pytest.raises(LawBroken, match="expected: TailMoved"):
        harness.run(check, appending(harness, 1, record("a")))


def test_an_exploration_shows_its_smallest_failure(harness: Harness) -> None:
    async def check(count: int) -> None:
        (handle,) = await harness.reused(1)
        scope = Thread(harness.fresh(), "t")
        for number in range(count):
            await handle.commit(scope, appending(harness, 1, record(f"m{number}")))
        found = await handle.load(scope, Window(before=99))
        harness.require("threads stay short", len(found.records) < 3, "at most 2", len(found.records))

    with pytest.raises(LawBroken) as caught:
        harness.explore(st.integers(0, 30), check)
    assert caught.value.seen == "3"
    assert caught.value.history.count(".commit(") == 3


def test_a_failure_of_a_long_example_is_told_though_hypothesis_warns_of_it(harness: Harness) -> None:
    with pytest.raises(LawBroken, match="never"):
        harness.explore(st.just("x" * 100_000), lambda _: harness.require("never", False, "this", "that"))


def test_a_failure_that_does_not_come_back_is_a_failure(harness: Harness) -> None:
    calls = 0

    def check(_: int) -> None:
        nonlocal calls
        calls += 1
        harness.require("it works", calls != 3, "yes", "no")

    with pytest.raises(LawBroken, match="it works"):
        harness.explore(st.integers(), check)


def test_shrinking_ends(harness: Harness) -> None:
    harness.profile = replace(harness.profile, shrink_seconds=0.3)

    tried: list[list[int]] = []

    def check(values: list[int]) -> None:
        tried.append(values)
        time.sleep(0.05)
        harness.require("sums are small", sum(values) < 10, "small", "large")

    with pytest.raises(LawBroken, match="sums are small"):
        harness.explore(st.lists(st.integers(0, 10**6), min_size=20), check)
    assert len(tried) < 40  # without an end, several hundred


def test_prefixes_are_unique_and_of_one_length(harness: Harness) -> None:
    """Of one length, so that none is the beginning of another followed by an id."""
    prefixes = [harness.fresh() for _ in range(1000)]
    assert len(set(prefixes)) == 1000
    assert {len(prefix) for prefix in prefixes} == {15}
    assert all(prefix.isdecimal() for prefix in prefixes)


def test_what_is_not_offered_is_kept_with_its_reason(harness: Harness) -> None:
    assert not harness.offers(Clause.PROCESSES)
    assert harness.declined == {"processes": "each process has its own memory"}


def test_handles_of_one_url_are_one_store(harness: Harness) -> None:
    async def check() -> None:
        one, two = await harness.open(), await harness.open()
        scope = Thread(harness.fresh(), "t")
        await one.commit(scope, appending(harness, 1, record("a")))
        assert [entry.id for entry in (await two.load(scope, Window(before=1))).records] == ["a"]

    harness.run(check)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("share", [2, 1, 1 / 3])
def test_all_of_a_catalogue_is_tried_by_one_seed_or_another(name: str, share: float) -> None:
    catalogue = range(100)
    step = max(1, round(share * PROFILES[name].share))
    parts = [Harness("memory://harness", PROFILES[name], seed).some(catalogue, share) for seed in range(step)]
    assert sorted(entry for part in parts for entry in part) == [*catalogue]
    assert {len(part) for part in parts} <= {100 // step, 100 // step + 1}


def test_profiles_grow() -> None:
    for name in ("examples", "steps", "rounds", "tasks", "kills", "length", "bystanders"):
        sizes = [getattr(profile, name) for profile in PROFILES.values()]
        assert sizes == sorted(set(sizes)), name
    shares = [profile.share for profile in PROFILES.values()]
    assert shares == sorted(shares, reverse=True)
    assert DEFAULT.share == 1
