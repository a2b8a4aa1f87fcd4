"""Calls that the suite drives itself, from one suspension to the next.

A suspension is a place where a call waits for something, and hands it up through its coroutines to the event loop. Who
stands between the two sees each of them, and may do something there.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, NamedTuple


class Ending(NamedTuple):
    """How a call ended that something was done to."""

    reached: bool
    """Whether the call was still running at the moment. Where it was not, no later moment is reached either."""
    cancelled: bool = False
    result: object = None
    error: BaseException | None = None


class Driven:
    """One call. Does nothing to it, until `suspended` or `resumed` say otherwise."""

    def __init__(self, call: Callable[[], Awaitable[object]]) -> None:
        self.reached = False
        """Whether the moment has come at which something was to be done."""
        self.suspensions = 0
        """How often the call has been suspended so far."""
        self._call = call

    def suspended(self, waited_for: object) -> BaseException | None:
        """The call waits for something: a future, or None for the next turn of the event loop.

        An error that this returns is thrown into the call at once, and nobody waits.
        """
        return None

    def resumed(self, waited_for: object) -> BaseException | None:
        """What the call waited for is there. An error that this returns is thrown into the call instead of it."""
        return None

    async def run(self) -> object:
        """The call's result. Raises what the call raises. To be awaited once, in a task of its own."""
        return await self._drive(self._awaited())

    async def ending(self, task: asyncio.Future[object]) -> Ending:
        """How the task ended that runs this call. Returns when it has."""
        await asyncio.wait([task])
        if task.cancelled():
            return Ending(self.reached, cancelled=True)
        error = task.exception()
        return Ending(self.reached, error=error) if error is not None else Ending(self.reached, result=task.result())

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
            self.suspensions += 1
            thrown = self.suspended(waited_for)
            if thrown is not None:
                continue
            try:
                yield waited_for
            except BaseException as error:  # noqa: BLE001 - the call is thrown whatever its task is
                thrown = error
            else:
                thrown = self.resumed(waited_for)
