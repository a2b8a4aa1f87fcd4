"""What handles reach the store by: the guarded store with the clock, and one thread of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from threadkeep.errors import MessageNotFound, ReadOnly, ThreadNotFound
from threadkeep.handles.arguments import check_instant
from threadkeep.port.guard import Guard
from threadkeep.port.store import MISSING, Changes, Receipt, Snapshot, Tail, Thread, Window
from threadkeep.port.times import to_micros


class Access:
    """The guarded store of a Memory, and its clock.

    `clock` gives aware datetimes; None is the system's clock.
    """

    def __init__(self, store: Guard, clock: Callable[[], datetime] | None = None) -> None:
        self.store = store
        self._clock = clock

    def now(self) -> int:
        """The time by the clock, in microseconds since 1970 UTC.

        Raises InvalidInput if the clock's datetime has no time zone.
        """
        if self._clock is None:
            return time.time_ns() // 1000
        moment = self._clock()
        check_instant("what the clock gives", moment)
        return to_micros(moment)


class ThreadAccess:
    """One thread of the guarded store, as its handle reaches it: it loads, commits, and keeps a read-only handle so."""

    def __init__(self, access: Access, scope: Thread, *, read_only: bool) -> None:
        self.access = access
        self.scope = scope
        self.read_only = read_only
        self.limits = access.store.limits
        self.seen: Tail | None = None
        """The thread's end when it was last looked at, from here: commits tell the store, which may profit from it."""

    def check_writable(self, verb: str) -> None:
        """Raises ReadOnly on a read-only handle, for a verb that writes."""
        if self.read_only:
            raise ReadOnly(verb)

    async def load(self, window: Window) -> Snapshot:
        """A snapshot. Raises ThreadNotFound on a read-only handle of a thread that is not there."""
        snapshot = await self.access.store.load(self.scope, window)
        self.seen = snapshot.tail
        if self.read_only and snapshot.tail == MISSING:
            raise ThreadNotFound(self.scope.thread_id)
        return snapshot

    async def load_around(self, anchor: int | str, window: Window) -> Snapshot:
        """As `load`, for a window around an anchor. Raises MessageNotFound for a message id that is not there."""
        snapshot = await self.load(window)
        if isinstance(anchor, str) and not any(record.id == anchor for record in snapshot.records):
            raise MessageNotFound(anchor)
        return snapshot

    async def commit(self, verb: str, changes: Changes) -> Receipt:
        """Write `changes`. Raises ReadOnly, which names the verb, and as `Store.commit`."""
        self.check_writable(verb)
        receipt = await self.access.store.commit(self.scope, changes)
        self.seen = receipt.tail
        return receipt
