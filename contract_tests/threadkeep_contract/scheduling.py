"""Tasks whose schedule is given: which of them goes on, from each place where it waits to the next.

Of the tasks one goes on at a time, to the next suspension of the call that it makes, or to the end of that call. Then
what it waits for comes, if it comes without the others, and the next one is chosen. So the same choices give the same
race, as far as what the calls wait for answers in the same way.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, TypeAlias

TASK: Final[ContextVar[int]] = ContextVar("TASK", default=0)
"""The number of the scheduled task that is running, from 1; 0 outside of all."""

PATIENCE: Final = 0.05
"""How many seconds the others wait for what one waits for. Then it is taken to wait for one of them, as for a lock."""

QUIET: Final = 3
"""Turns of the event loop after which whoever waited for what the last one did has it."""

_OF_TASKS: Final = ("asyncio.locks", "asyncio.queues")
"""Modules in which a task waits for other tasks."""

Task: TypeAlias = Sequence[Callable[[], Awaitable[object]]]
"""What a task does: calls, one after the other."""

Choice: TypeAlias = Callable[[int, Sequence[int]], int]
"""Says who goes on: given who went last (0: nobody yet) and the numbers of those that can, rising, one of these."""


class Switch(NamedTuple):
    """Another task goes on: after so many steps of the one before, the so-manieth of the others."""

    after: int
    by: int


class Switches:
    """The choice by which each task goes on as long as it can, but for some switches."""

    def __init__(self, switches: Sequence[Switch]) -> None:
        self._left = list(switches)
        self._steps = 0

    def __call__(self, last: int, ready: Sequence[int]) -> int:
        others = [number for number in ready if number != last]
        if last not in ready:
            # The next in order, and the first behind the last.
            self._steps = 1
            return min(others, key=lambda number: (number < last, number))
        if others and self._left and self._steps >= self._left[0].after:
            self._steps = 1
            return others[(self._left.pop(0).by - 1) % len(others)]
        self._steps += 1
        return last


class Turns:
    """The choice by which tasks go on in an order that is given; who cannot is passed over."""

    def __init__(self, turns: Sequence[int]) -> None:
        self._left = list(turns)

    def __call__(self, last: int, ready: Sequence[int]) -> int:
        while self._left:
            if (number := self._left.pop(0)) in ready:
                return number
        return last if last in ready else ready[0]


async def in_turns(
    tasks: Sequence[Task], choice: Choice | Sequence[int], going: Callable[[int], object] = lambda _: None
) -> None:
    """Let tasks make their calls, one step at a time. `choice` may be the numbers of those that go on, in order.

    `going` is told who goes on, before each step. Returns when all have ended. Raises what a call raises.
    """
    choose = choice if callable(choice) else Turns(choice)
    changed = asyncio.Event()
    steppers = {number: _Stepper(number, task, changed) for number, task in enumerate(tasks, 1) if task}
    last = 0
    try:
        while True:
            for _ in range(QUIET):
                await asyncio.sleep(0)
            left = [stepper for stepper in steppers.values() if not stepper.has_ended]
            if not left:
                break
            ready = [stepper.number for stepper in left if stepper.is_ready]
            if ready:
                last = choose(last, ready)
                going(last)
                await steppers[last].step()
            else:
                # All wait for what is still to come.
                changed.clear()
                await changed.wait()
        for stepper in steppers.values():
            stepper.running.result()
    finally:
        for stepper in steppers.values():
            stepper.running.cancel()
        await asyncio.gather(*(stepper.running for stepper in steppers.values()), return_exceptions=True)


class _Stepper:
    """A task that waits for its turn before each step."""

    def __init__(self, number: int, task: Task, changed: asyncio.Event) -> None:
        self.number = number
        self.is_ready = False
        """Whether it could make its next step."""
        self._waits_for_others = False
        self._task = task
        self._changed = changed
        self._turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.running = asyncio.ensure_future(self._run())
        self.running.add_done_callback(lambda _: changed.set())

    @property
    def has_ended(self) -> bool:
        return self.running.done()

    async def step(self) -> None:
        """Let it make its next step. Returns when that is over, as far as it is over without the others."""
        self.is_ready = False
        self._turn.set_result(None)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while not (self.is_ready or self.has_ended or self._waits_for_others):
                    self._changed.clear()
                    await self._changed.wait()

    async def _run(self) -> None:
        TASK.set(self.number)
        await self._in_steps(self._calls())

    async def _calls(self) -> None:
        for number, call in enumerate(self._task):
            if number:
                # Others may go on between two calls too.
                await asyncio.sleep(0)
            await call()

    @types.coroutine
    def _in_steps(self, work: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        thrown = yield from self._wait_for_turn()
        while True:
            try:
                waited_for = work.send(None) if thrown is None else work.throw(thrown)
            except StopIteration:
                return
            thrown = None
            if waited_for is not None:
                self._waits_for_others = _waits_for_others(work)
                self._changed.set()
                try:
                    yield waited_for
                except BaseException as error:  # noqa: BLE001 - the call is thrown whatever its task is
                    thrown = error
                self._waits_for_others = False
            thrown = (yield from self._wait_for_turn()) or thrown

    def _wait_for_turn(self) -> Generator[Any, Any, BaseException | None]:
        """Returns what the task was cancelled with meanwhile, as by a timeout of its own."""
        self._turn = asyncio.get_running_loop().create_future()
        self.is_ready = True
        self._changed.set()
        try:
            yield from self._turn
        except asyncio.CancelledError as error:
            self.is_ready = False
            return error
        return None


def _waits_for_others(work: Coroutine[Any, Any, None]) -> bool:
    """Whether a call that is suspended waits in one of asyncio's locks or queues, which only another task ends."""
    inner: Any = work
    module = ""
    while inner is not None:
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "gi_frame", None)
        module = module if frame is None else frame.f_globals.get("__name__", "")
        inner = getattr(inner, "cr_await", None) or getattr(inner, "gi_yieldfrom", None)
    return module in _OF_TASKS
