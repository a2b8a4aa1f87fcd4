"""Clocks that jump: that of the store's process, and that of its server where the plugin offers the hook `clock`.

Times come from the caller (`Changes.at`). So whatever a clock says, no answer is another one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeAlias

import time_machine

from threadkeep.port import Put, Resource, Thread, Window, clock
from threadkeep_contract.harness import ALL, Harness, appending, record
from threadkeep_contract.reference import beside
from threadkeep_contract.reference.beside import ORDERS, Given
from threadkeep_contract.reference.machine import START
from threadkeep_contract.reference.model import Model

DAY: Final = 86_400.0

JUMPS: Final = (0.0, DAY, -DAY, 40 * DAY, 0.0, 3_700 * DAY, -3_700 * DAY, -60.0, 0.0)
"""Seconds by which a clock is ahead, one after the other: back and forth, by a minute and by ten years."""

Move: TypeAlias = Callable[[float], None]
"""Sets a clock so many seconds ahead of what it would say, or behind."""

Turn: TypeAlias = Callable[[Harness, Resource, int], Sequence[Given]]
"""The calls of one turn, between two jumps, given its number."""


@contextmanager
def of_process() -> Iterator[Move]:
    """The clock of this process, as `time.time` and `datetime.now` tell it; right again at the end.

    Monotonic clocks stay as they are, and so do event loops.
    """
    start, since = time.time(), time.monotonic()
    with time_machine.travel(start, tick=True) as traveller:
        yield lambda seconds: traveller.move_to(start + time.monotonic() - since + seconds)


@contextmanager
def of_server(harness: Harness) -> Iterator[Move | None]:
    """The clock of the store's server, or None where it cannot be set: the report then says so."""
    if not clock(harness.url, 0):
        harness.decline("the server's clock", "the plugin has no clock hook, so no server's clock was set")
        yield None
        return

    def move(seconds: float) -> None:
        clock(harness.url, seconds)

    try:
        yield move
    finally:
        clock(harness.url, 0)


async def agree(harness: Harness, move: Move, turn: Turn) -> None:
    """Make calls between jumps, some by one handle and some by another; LawBroken at an answer that is not the model's.

    What a turn has done is there before the clock is set again.
    """
    handles, model = [await harness.open(), await harness.open()], Model()
    resource = Resource(harness.fresh() + "r")
    old = Thread(resource.resource_id, "old")
    fields = {"puts": (Put("info", "1"),), "resource_puts": (Put("work", "1"),)}
    await beside.agree(harness, handles[0], model, "commit", old, appending(harness, START, record("m0"), **fields))
    for number, seconds in enumerate(JUMPS):
        move(seconds)
        for index, call in enumerate(turn(harness, resource, number)):
            promise = f"{call.verb} answers as before when the clock was set"
            await beside.agree(harness, handles[(number + index) % 2], model, call.verb, *call.args, promise=promise)


def loads(harness: Harness, resource: Resource, number: int) -> Sequence[Given]:
    """Loads of what was there before the clock was set, and a commit beside it."""
    scope = Thread(resource.resource_id, f"t{number}")
    commit = appending(harness, START, record("m0"), puts=(Put("info", f"{number}"),))
    earlier = [Given("load", (Thread(resource.resource_id, f"t{before}"), ALL)) for before in range(number)]
    old = Given("load", (Thread(resource.resource_id, "old"), ALL))
    return [old, Given("load", (resource,)), *earlier, *_lists(resource), Given("commit", (scope, commit))]


def appends(harness: Harness, resource: Resource, number: int) -> Sequence[Given]:
    """Commits to one thread, and windows of it. Ids sort otherwise than positions do."""
    scope = Thread(resource.resource_id, "old")
    name = f"{'zyx'[number % 3]}{number}"
    commit = appending(harness, START + number, record(name), record(f"{name}b"))
    windows = (ALL, Window(before=1), Window(name, 2, 1), Window(number, 1, 2))
    return [Given("commit", (scope, commit)), *(Given("load", (scope, window)) for window in windows)]


def lists(harness: Harness, resource: Resource, number: int) -> Sequence[Given]:
    """Lists before and after commits to a new thread and to an old one."""
    new, old = Thread(resource.resource_id, f"t{number:02}"), Thread(resource.resource_id, "old")
    return [
        *_lists(resource),
        Given("commit", (new, appending(harness, START + (7 * number) % 5, record("m0")))),
        Given("commit", (old, appending(harness, START + number, record(f"new{number}")))),
        *_lists(resource),
    ]


def everything(harness: Harness, resource: Resource, number: int) -> Sequence[Given]:
    """All of these."""
    parts = (loads, appends, lists)
    return [call for part in parts for call in part(harness, resource, number)]


def _lists(resource: Resource) -> Sequence[Given]:
    return [Given("threads", (resource, None, 50, order, ("info",))) for order in ORDERS]
