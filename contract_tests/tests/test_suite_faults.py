"""Calls that the suite lets fail at a wait of its own choice (law 12)."""

from __future__ import annotations

import asyncio

import pytest

import threadkeep_contract.saboteurs as plugin
from threadkeep.port import register
from threadkeep_contract.evidence import Least, Seen, least_of
from threadkeep_contract.faults.driving import Ending
from threadkeep_contract.faults.waits import ERRORS, Fault, fail_at
from threadkeep_contract.harness import Harness
from threadkeep_contract.laws import checks
from threadkeep_contract.laws import law as law_of
from threadkeep_contract.processes import worker
from threadkeep_contract.profiles import PROFILES
from threadkeep_contract.report.judging import find
from threadkeep_contract.saboteurs import SABOTEURS
from threadkeep_contract.saboteurs.remote import RemoteStore

CHECKS = [check for check in checks(law_of(12)) if "whose_wait_fails" in check]

FAULTS = [fault for fault, kind in SABOTEURS.items() if issubclass(kind, RemoteStore) and kind.caught_by == 12]


@pytest.fixture(autouse=True)
def _plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    register("saboteur", plugin)
    # A store that is broken for good gains nothing by being waited for.
    monkeypatch.setattr(worker, "_REPEAT_SECONDS", 0.05)


class _Server:
    """Answers each request two turns of the event loop later, whoever waits."""

    def __init__(self) -> None:
        self.done: list[int] = []

    async def ask(self, number: int) -> int:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[int] = loop.create_future()
        loop.call_soon(loop.call_soon, self._serve, number, answer)
        return await answer

    def _serve(self, number: int, answer: asyncio.Future[int]) -> None:
        self.done.append(number)
        if not answer.done():
            answer.set_result(number)

    async def ask_thrice(self) -> int:
        await asyncio.sleep(0)
        return await self.ask(1) + await self.ask(2) + await self.ask(3)


async def test_a_wait_fails_in_place_of_its_answer_and_what_was_asked_is_done_all_the_same() -> None:
    server = _Server()
    ending = await fail_at(server.ask_thrice, Fault("failed", 2, ERRORS[0]))
    assert isinstance(ending.error, ConnectionResetError)
    assert ending.reached
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert server.done == [1, 2]


async def test_an_answer_is_lost_when_it_has_come() -> None:
    server = _Server()
    ending = await fail_at(server.ask_thrice, Fault("lost", 2, ERRORS[2]))
    assert isinstance(ending.error, EOFError)
    assert (ending.reached, server.done) == (True, [1, 2])


@pytest.mark.parametrize("kind", ["failed", "lost"])
async def test_a_call_that_ends_before_its_wait_fails_is_answered(kind: str) -> None:
    """Passing a turn of the event loop on is no wait: nothing can fail there."""
    fault = Fault("failed" if kind == "failed" else "lost", 4, ERRORS[1])
    assert await fail_at(_Server().ask_thrice, fault) == Ending(False, result=6)


async def test_a_call_that_copes_with_a_failed_wait_is_answered() -> None:
    server = _Server()

    async def patient() -> int:
        try:
            return await server.ask(1)
        except TimeoutError:
            return await server.ask(2)

    assert await fail_at(patient, Fault("lost", 1, ERRORS[1])) == Ending(True, result=2)
    assert server.done == [1, 2]


@pytest.mark.parametrize("check", CHECKS)
def test_a_store_that_waits_for_nothing_is_told_to_be_not_judged_in_this(check: str) -> None:
    """Law 12: as loud as a clause that is not offered; a store that waits is judged."""
    law = law_of(12)
    finding, _ = find(law, check, Harness("memory://faults", PROFILES["quick"], check=check))
    assert finding.status == "not offered"
    assert list(finding.not_offered) == ["faults on the way"]
    finding, _ = find(law, check, Harness("saboteur://sound-remote/faults", PROFILES["quick"], check=check))
    assert finding.status == "kept", finding


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_without_a_fault_is_not_judged(check: str) -> None:
    least = least_of(getattr(law_of(12), check))
    assert least.faults >= 1
    seen = Seen()
    assert "faults" in [shortfall.what for shortfall in seen.shortfalls(least)]
    seen.faulted()
    assert seen.shortfalls(Least(commits=0, loads=0, faults=1)) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_on_the_way_are_found_with_every_seed(fault: str, seed: int) -> None:
    """Law 12, in the quick profile, which throws one or two of the errors into each wait."""
    law = law_of(12)
    harnesses = [Harness(f"saboteur://{fault}/{seed}", PROFILES["quick"], seed, check=check) for check in CHECKS]
    statuses = (find(law, check, harness)[0].status for check, harness in zip(CHECKS, harnesses, strict=True))
    assert "broken" in statuses
