"""Calls that the suite cancels at a moment of its own choice (law 12)."""

from __future__ import annotations

import asyncio

import pytest

from threadkeep_contract.faults.cancelling import Kind, Moment, at_each_moment, cancel_at
from threadkeep_contract.faults.driving import Ending


async def _three_answers(seen: list[int]) -> int:
    """A call that waits three times, each time for an answer that comes two turns later."""
    loop = asyncio.get_running_loop()
    for number in (1, 2, 3):
        future: asyncio.Future[int] = loop.create_future()
        loop.call_soon(loop.call_soon, _answer, future, number, seen)
        await future
    return sum(seen)


def _answer(future: asyncio.Future[int], number: int, seen: list[int]) -> None:
    if not future.done():
        seen.append(number)
        future.set_result(number)


@pytest.mark.parametrize(("kind", "number", "seen"), [("waiting", 2, [1]), ("answered", 2, [1, 2]), ("turns", 0, [])])
async def test_a_call_is_cancelled_at_its_moment(kind: Kind, number: int, seen: list[int]) -> None:
    found: list[int] = []
    assert await cancel_at(lambda: _three_answers(found), Moment(kind, number)) == Ending(True, cancelled=True)
    assert found == seen


@pytest.mark.parametrize("kind", ["waiting", "answered", "turns"])
async def test_a_call_that_ends_before_its_moment_is_answered(kind: Kind) -> None:
    found: list[int] = []
    assert await cancel_at(lambda: _three_answers(found), Moment(kind, 99)) == Ending(False, result=6)


async def test_errors_reach_a_driven_call_as_they_reach_any_other() -> None:
    async def call() -> str:
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0)
        except TimeoutError:
            return "in time"
        return "late"

    assert (await cancel_at(call, Moment("waiting", 99))).result == "in time"

    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError

    assert isinstance((await cancel_at(failing, Moment("waiting", 99))).error, ValueError)


async def test_moments_are_tried_until_the_call_has_ended_before_one() -> None:
    tried: list[Moment] = []

    async def attempt(moment: Moment) -> bool:
        tried.append(moment)
        return (await cancel_at(lambda: _three_answers([]), moment)).reached

    await at_each_moment(5, attempt)
    assert [moment.number for moment in tried if moment.kind == "waiting"] == [1, 2, 3, 4]
    assert [moment.number for moment in tried if moment.kind == "answered"] == [1, 2, 3, 4]
    assert [moment.number for moment in tried if moment.kind == "turns"] == [0, 1, 2, 3, 4]
