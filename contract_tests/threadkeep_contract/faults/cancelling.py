"""Calls that are cancelled at a moment that is counted, never timed.

A call is driven from one suspension to the next, that is from one place where it waits for something to the next, and
is cancelled at the one asked for: while what it waits for is still to come, or when that has come and has not been
taken yet, as with a reply that nobody reads. What a store does in tasks of its own is reached by counting turns of the
event loop instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Literal, NamedTuple, TypeAlias

from threadkeep_contract.faults.driving import Driven, Ending

Kind: TypeAlias = Literal["waiting", "answered", "turns"]

KINDS: Final[tuple[Kind, ...]] = ("waiting", "answered", "turns")


class Moment(NamedTuple):
    """When a call is cancelled.

    "waiting": at a suspension (its number, from 1), while what the call waits for is still to come. "answered": at a
    suspension, when it has come and the call has not gone on yet. "turns": after so many turns of the event loop, from
    0, which is before the call has begun.
    """

    kind: Kind
    number: int


def first(kind: Kind) -> int:
    """The number of the first moment of a kind."""
    return 0 if kind == "turns" else 1


async def cancel_at(call: Callable[[], Awaitable[object]], moment: Moment) -> Ending:
    """Make a call in a task of its own and cancel it at a moment. Returns when the call has ended, however it did."""
    driven = _Cancelled(call, moment)
    task = asyncio.ensure_future(driven.run())
    if moment.kind == "turns":
        for _ in range(moment.number):
            await asyncio.sleep(0)
        driven.reached = task.cancel()
    return await driven.ending(task)


async def at_each_moment(most: int, attempt: Callable[[Moment], Awaitable[bool]]) -> None:
    """Try each moment, the first of each kind first, at most so many of a kind, until a call has ended before it.

    `attempt` makes one call and says whether its moment was reached.
    """
    for kind in KINDS:
        for number in range(first(kind), first(kind) + most):
            if not await attempt(Moment(kind, number)):
                break


class _Cancelled(Driven):
    """One call, cancelled at a suspension."""

    def __init__(self, call: Callable[[], Awaitable[object]], moment: Moment) -> None:
        super().__init__(call)
        self._moment = moment

    def suspended(self, waited_for: object) -> None:
        if self._moment.kind == "turns" or self.suspensions != self._moment.number:
            return
        self.reached = True
        task = asyncio.current_task()
        assert task is not None
        if self._moment.kind == "answered" and isinstance(waited_for, asyncio.Future):
            # Its callbacks are called in turn, and the task's own, by which the call would go on, comes after this.
            waited_for.add_done_callback(lambda _: task.cancel())
        else:
            task.cancel()
