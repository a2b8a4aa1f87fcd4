"""Calls that are cancelled at a moment that is counted, never timed.

A call is driven from one suspension to the next, that is from one place where it waits for something to the next, and
is cancelled at the one asked for: while what it waits for is still to come, or when that has come and has not been
taken yet, as with a reply that nobody reads. What a store does in tasks of its own is reached by counting turns of the
event loop instead.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, Literal, NamedTuple, TypeAlias

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


class Ending(NamedTuple):
    """How a call ended that was to be cancelled."""

    reached: bool
    """Whether the call was still running at the moment. Where it was not, no later moment is reached either."""
    cancelled: bool = False
    result: object = None
    error: BaseException | None = None


def first(kind: Kind) -> int:
    """The number of the first moment of a kind."""
    return 0 if kind == "turns" else 1


async def cancel_at(call: Callable[[], Awaitable[object]], moment: Moment) -> Ending:
    """Make a call in a task of its own and cancel it at a moment. Returns when the call has ended, however it did."""
    driven = _Driven(call, moment)
    task = asyncio.ensure_future(driven.run())
    if moment.kind == "turns":
        for _ in range(moment.number):
            await asyncio.sleep(0)
        driven.reached = task.cancel()
    await asyncio.wait([task])
    if task.cancelled():
        return Ending(driven.reached, cancelled=True)
    error = task.exception()
    return Ending(driven.reached, error=error) if error is not None else Ending(driven.reached, result=task.result())


async def at_each_moment(most: int, attempt: Callable[[Moment], Awaitable[bool]]) -> None:
    """Try each moment, the first of each kind first, at most so many of a kind, until a call has ended before it.

    `attempt` makes one call and says whether its moment was reached.
    """
    for kind in KINDS:
        for number in range(first(kind), first(kind) + most):
            if not await attempt(Moment(kind, number)):
                break


class _Driven:
    """One call, and how often it has been suspended."""

    def __init__(self, call: Callable[[], Awaitable[object]], moment: Moment) -> None:
        self.reached = False
        self._call = call
        self._moment = moment
        self._suspensions = 0

    async def run(self) -> object:
        return await self._drive(self._awaited())

    async def _awaited(self) -> object:
        return await self._call()

    @types.coroutine
    def _drive(self, work: Coroutine[Any, Any, object]) -> Generator[Any, Any, object]:
        thrown: BaseException | None = None
        while True:
            try:
                waited_for = work.send(None) if thrown is None else work.throw(thrown)
            except StopIteration as end:
                return end.value
            self._suspensions += 1
            if self._moment.kind != "turns" and self._suspensions == self._moment.number:
                self._cancel(waited_for)
            thrown = None
            try:
                yield waited_for
            except BaseException as error:  # noqa: BLE001 - the call is thrown whatever its task is
                thrown = error

    def _cancel(self, waited_for: object) -> None:
        self.reached = True
        task = asyncio.current_task()
        assert task is not None
        if self._moment.kind == "answered" and isinstance(waited_for, asyncio.Future):
            # Its callbacks are called in turn, and the task's own, by which the call would go on, comes after this.
            waited_for.add_done_callback(lambda _: task.cancel())
        else:
            task.cancel()
