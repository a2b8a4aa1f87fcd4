"""A check counts only if it has seen enough: no check keeps a store that refuses what the check needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from threadkeep.errors import StoreClosed, StoreUnavailable, TailMoved
from threadkeep.port import (
    After,
    Changes,
    Order,
    Put,
    Receipt,
    Resource,
    Scope,
    Snapshot,
    Store,
    Thread,
    ThreadRow,
    Window,
    hookimpl,
)
from threadkeep.port import register as register_plugin
from threadkeep_adapters.memory.store import InProcessStore
from threadkeep_contract.evidence import Least, Seen, least, least_of
from threadkeep_contract.harness import Harness, Law, LawBroken, NotJudged, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.kills import survivors
from threadkeep_contract.laws import NUMBERS, checks
from threadkeep_contract.laws import law as law_of
from threadkeep_contract.laws.durability import Durability
from threadkeep_contract.processes import worker
from threadkeep_contract.processes.worker import Run, Step
from threadkeep_contract.profiles import PROFILES
from threadkeep_contract.races.contenders import Team, by_processes
from threadkeep_contract.report import judge
from threadkeep_contract.report.values import values_of


class _NoCommits(InProcessStore):
    """Every commit is refused."""

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        raise StoreUnavailable("read replica")


class _NoLoads(InProcessStore):
    """Every load is refused."""

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        raise StoreUnavailable("no reader is left")


class _Throttled(InProcessStore):
    """Every third call of a handle is refused."""

    calls = 0

    def _turn(self) -> None:
        self.calls += 1
        if self.calls % 3 == 0:
            raise StoreUnavailable("too many requests")

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self._turn()
        return await super().commit(scope, changes)

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        self._turn()
        return await super().load(scope, window)

    async def delete(self, scope: Scope) -> None:
        self._turn()
        await super().delete(scope)

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        self._turn()
        return await super().threads(resource, after, limit, order, slots)

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        self._turn()
        return await super().resources(after, limit)


class _Plugin:
    def __init__(self, kind: type[InProcessStore]) -> None:
        self.kind = kind

    @hookimpl
    def open_store(self, url: str) -> Store:
        return self.kind(url)


REFUSING = {"no-commits": _NoCommits, "no-loads": _NoLoads, "throttled": _Throttled}


@pytest.fixture(autouse=True)
def _refusing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme, kind in REFUSING.items():
        register_plugin(scheme, _Plugin(kind))
    monkeypatch.chdir(tmp_path)
    # These stores refuse for good, so that nothing is gained by waiting.
    monkeypatch.setattr(worker, "_REPEAT_SECONDS", 0.05)


BRIEF = replace(PROFILES["brief"], shrink_seconds=0.2)
"""What fails here is to fail, and need not be small."""


def keeps(law: type[Law], check: str, harness: Harness) -> bool:
    """Whether a check says "kept"."""
    try:
        try:
            getattr(law(), check)(harness)
            harness.settle(getattr(law, check))
        finally:
            harness.close()
    except (LawBroken, NotJudged):
        return False
    return not harness.declined


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("scheme", REFUSING)
def test_no_check_keeps_a_store_that_refuses_what_it_needs(scheme: str, number: int) -> None:
    """All laws: "kept" is said only by a check that states that it needs none of what is refused, or met no refusal."""
    law = law_of(number)
    for check in checks(law):
        harness = Harness(f"{scheme}://{check}", BRIEF, check=check)
        if not keeps(law, check, harness):
            continue
        stated = least_of(getattr(law, check))
        match scheme:
            case "no-commits":
                assert stated.commits == 0, check
            case "no-loads":
                assert stated.loads == 0, check
        assert stated.outages or harness.seen.outages == 0, check


@pytest.mark.parametrize("number", NUMBERS)
def test_every_check_states_a_least_that_means_something(number: int) -> None:
    """A check of which nothing is asked could not fail to be judged; one there is looks at no more than the limits."""
    law = law_of(number)
    nothing = {check for check in checks(law) if least_of(getattr(law, check)) == Least(commits=0, loads=0)}
    assert nothing <= {"test_the_declared_limits_are_no_less_than_the_least"}


def test_what_is_missing_is_named() -> None:
    seen = Seen()
    for verb in ("commit", "load", "threads", "resources", "delete"):
        seen.answered(verb)
    seen.raced(1)
    seen.raced(2)
    assert seen["lists"] == 2
    assert seen["races"] == 1
    assert seen.shortfalls(Least()) == []
    missing = seen.shortfalls(Least(commits=2, kills=1, races=1))
    assert [(one.what, one.least, one.seen) for one in missing] == [
        ("commits", "commits acknowledged: at least 2", "commits acknowledged: 1"),
        ("kills", "processes killed at work: at least 1", "processes killed at work: 0"),
    ]


def test_a_refused_call_is_no_answer() -> None:
    """A conflict, and a closed store, are answers: the laws ask for them."""
    seen = Seen()
    seen.answered("commit")
    seen.answered("load")
    seen.failed(TailMoved("", 0))
    seen.failed(StoreClosed())
    assert seen.shortfalls(Least()) == []
    seen.failed(StoreUnavailable("busy"))
    assert [one.seen for one in seen.shortfalls(Least())] == ["calls refused: 1 with StoreUnavailable"]
    assert seen.shortfalls(Least(outages=True)) == []


def test_calls_that_were_under_way_at_once_overlap() -> None:
    seen = Seen()
    with seen.call("commit"):
        pass
    assert seen["overlaps"] == 0
    with seen.call("commit"):
        with seen.call("load"):
            pass
        with pytest.raises(StoreUnavailable), seen.call("load"):
            raise StoreUnavailable("busy")
    with seen.call("load"):
        pass
    assert (seen["commits"], seen["loads"], seen["overlaps"], seen.outages) == (2, 2, 2, 1)


def test_marks_add_to_each_other() -> None:
    @least(commits=3)
    @least(loads=0, lists=2)
    def check() -> None: ...

    assert least_of(check) == Least(commits=3, loads=0, lists=2)
    assert least_of(lambda: None) == Least()


class _Idle(Law):
    number = 1
    title = "Idle"

    def test_nothing(self, harness: Harness) -> None:
        """It does nothing."""

    def test_declined(self, harness: Harness) -> None:
        """It has nothing to do."""
        harness.decline("the moon", "it is far")


def test_a_check_that_has_seen_nothing_is_not_judged() -> None:
    harness = Harness("memory://idle", PROFILES["brief"])
    with pytest.raises(NotJudged, match="least: commits acknowledged: at least 1; loads answered: at least 1"):
        harness.settle(_Idle.test_nothing)
    assert not keeps(_Idle, "test_nothing", harness)
    harness.decline("the moon", "it is far")
    harness.settle(_Idle.test_nothing)


def test_what_a_check_has_seen_outlives_the_history() -> None:
    harness = Harness("memory://outlives", PROFILES["brief"])

    async def work() -> None:
        handle = await harness.open()
        await handle.commit(Resource(harness.fresh()), Changes(1, puts=(Put("work", "1"),)))
        await handle.resources()
        harness.history.clear()

    harness.run(work)
    harness.close()
    assert (harness.seen["commits"], harness.seen["lists"]) == (1, 1)


def test_what_processes_tell_of_is_counted(tmp_path: Path) -> None:
    """Their calls overlap; a process that is killed when it has done all was not killed at work."""
    harness = Harness(f"sqlite:///{tmp_path}/a.db", PROFILES["brief"])

    async def race(harness: Harness, _: Recorded, team: Team) -> None:
        thread = Thread(harness.fresh(), "t")
        steps = (
            Step("commit", thread, Changes(1, "e", (record("m"),))),
            Step("load", thread),
            Step("delete", thread),
        )
        await team.together([Run(steps * 20)] * 3)

    by_processes(harness, race)
    assert [harness.seen[what] for what in ("commits", "loads", "deletions", "races")] == [60, 60, 60, 1]
    assert harness.seen["overlaps"] > 0

    async def kills() -> None:
        def all_done(user: str) -> tuple[Step, ...]:
            return (Step("commit", Thread(user, "thread"), Changes(1, "epoch", (record("m"),))),)

        async for survivor in survivors(harness, all_done):
            assert survivor.done == survivor.acknowledged == 1

    harness.run(kills)
    harness.close()
    assert harness.seen["kills"] == 0
    with pytest.raises(NotJudged, match=r"seen:  processes killed at work: 0$"):
        harness.settle(Durability.test_what_a_killed_process_was_told_is_there)


def test_a_store_that_is_not_judged_is_not_accepted() -> None:
    """Law 1: a store whose every commit is refused was once kept by the three large checks."""
    report = judge("no-commits://report", laws=[1], profile="brief")
    found = {finding.check: finding.status for finding in report.law(1).findings}
    large = ("test_confusable_scopes_do_not_meet", "test_a_resource_observes_only_its_own_operations")
    assert {found[check] for check in (*large, "test_a_thread_observes_only_its_own_operations")} == {"not judged"}
    assert not report.kept


def test_the_report_says_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threadkeep_contract.report.judging.law_of", lambda _: _Idle)
    report = judge("memory://report", laws=[1], profile="brief")
    assert report.law(1).status == "not judged"
    assert not report.kept
    (finding, _) = values_of(report)["laws"][0]["checks"]
    said: dict[str, Any] = {key: finding[key] for key in ("status", "least", "seen")}
    assert said == {
        "status": "not judged",
        "least": "commits acknowledged: at least 1; loads answered: at least 1",
        "seen": "commits acknowledged: 0; loads answered: 0",
    }
