"""Calls that fail at a wait that is counted, never timed: what they wait for fails, or its answer is lost.

A call waits for futures: the reply of a server, a connection, the end of what a thread does. Each of them can end in an
error of the network or of the system, so an error is thrown into the call at each, in two ways. "failed": in place of
the wait. What was asked may have been sent, and may still be done. "lost": when it has come, instead of it, as when a
connection breaks between what a server did and its reply.

Nothing is thrown where a call only lets others pass, as with `asyncio.sleep(0)`: nothing can fail there.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Literal, NamedTuple, TypeAlias

from threadkeep.port import Store
from threadkeep_contract.faults.driving import Driven, Ending

Way: TypeAlias = Literal["failed", "lost"]

WAYS: Final[tuple[Way, ...]] = ("failed", "lost")

ERRORS: Final[tuple[Callable[[], Exception], ...]] = (
    lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    lambda: TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
    lambda: asyncio.IncompleteReadError(b"", 1),
    lambda: OSError(errno.EIO, "Input/output error"),
)
"""What networks and systems throw into code that waits: a connection that is reset; one whose other end says nothing,
which is also what `asyncio.timeout` raises; one that ends, which asyncio's streams tell with an EOFError that is no
OSError; and what a file or a device says, of no class of its own."""


def errors_of(store: Store) -> Sequence[Callable[[], Exception]]:
    """What is thrown into the waits of a store: ERRORS, and each class of its driver's that means a lost connection,
    where that can be made of a text."""
    made: list[Callable[[], Exception]] = list(ERRORS)
    for kind in store.connection_errors:
        if kind not in Store.connection_errors:
            with suppress(Exception):  # what else a class may want is its own
                kind("the connection was lost")
                made.append(partial(kind, "the connection was lost"))
    return made


class Fault(NamedTuple):
    """Where a call fails: at which of its waits (from 1), how, and with what."""

    kind: Way
    number: int
    error: Callable[[], Exception]


async def fail_at(call: Callable[[], Awaitable[object]], fault: Fault) -> Ending:
    """Make a call that fails at a wait, in a task of its own. Returns when it has ended, however it did."""
    driven = _Failing(call, fault)
    return await driven.ending(asyncio.ensure_future(driven.run()))


class _Failing(Driven):
    """One call, and how often it has waited for something that can fail."""

    def __init__(self, call: Callable[[], Awaitable[object]], fault: Fault) -> None:
        super().__init__(call)
        self._fault = fault
        self._waits = 0

    def suspended(self, waited_for: object) -> BaseException | None:
        if waited_for is None:
            return None
        self._waits += 1
        if self._fault.kind != "failed" or self._waits != self._fault.number:
            return None
        self.reached = True
        if asyncio.isfuture(waited_for):
            # Nobody waits for it any more. Left as it is, it would keep the loop's eye on a socket that is closed then,
            # and on the next one that has its number.
            waited_for._asyncio_future_blocking = False
            waited_for.cancel()
        return self._fault.error()

    def resumed(self, waited_for: object) -> BaseException | None:
        if waited_for is None or self._fault.kind != "lost" or self._waits != self._fault.number or self.reached:
            return None
        self.reached = True
        if asyncio.isfuture(waited_for) and not waited_for.cancelled():
            # Its error is lost with its answer; asyncio is not to say that nobody looked at it.
            waited_for.exception()
        return self._fault.error()
