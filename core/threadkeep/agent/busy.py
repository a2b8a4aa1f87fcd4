"""Two runs on one thread at once: who waits, who is turned away, and how a dead run is told from a slow one.

Those who wait write a ticket into a document of the thread, and go in the order of the tickets. A run, or the first of
those who wait, counts as dead when its document has not moved for as long as it promised to move it in, by the clock
of the process that looks. Nothing of this is written while nobody waits.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import OrderedDict
from typing import Final, Literal, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from threadkeep.agent.lease import RUN, RunRecord, read_run, version_of
from threadkeep.errors import StoreDamaged, StoreError, TailMoved, ThreadBusy, VersionMoved
from threadkeep.handles.access import Access
from threadkeep.port.canonical import canonical_json
from threadkeep.port.ids import new_id
from threadkeep.port.store import Changes, Put, Snapshot, Thread, Window

OnBusy: TypeAlias = Literal["queue", "reject", "interleave"]

QUEUE: Final = "run_queue"
"""The slot of a thread's document about the runs that wait for it."""

MAX_WAITING: Final = 1000
"""How many may wait for one thread; others are told that it is busy. Their tickets are within every store's limits."""

SHORTEST_LOOK: Final = 0.02
LONGEST_LOOK: Final = 0.25
"""Seconds between two looks at a thread that is waited for. They grow from the shorter to the longer."""

MAX_WATCHED: Final = 10_000
"""How many things one process keeps watch over."""


class Ticket(NamedTuple):
    """A place in a thread's queue: a token, and the seconds after which a first that does not go counts as dead."""

    token: str
    seconds: float


class Watch:
    """Since when things of threads have stood still, as seen by this process."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[Thread, str], tuple[object, float]] = OrderedDict()

    def still_for(self, scope: Thread, thing: str, state: object) -> float:
        """Seconds since this process first saw a thing of a thread in this state, without another one in between."""
        now = time.monotonic()
        seen, since = self._seen.get((scope, thing), (None, now))
        if seen != state:
            since = now
        self._seen[scope, thing] = (state, since)
        self._seen.move_to_end((scope, thing))
        while len(self._seen) > MAX_WATCHED:
            self._seen.popitem(last=False)
        return now - since


_watches: Final[WeakKeyDictionary[Access, Watch]] = WeakKeyDictionary()


def read_queue(snapshot: Snapshot) -> list[Ticket]:
    """The tickets of those who wait, the first to go first."""
    doc = snapshot.docs.get(QUEUE)
    if doc is None or doc.body is None:
        return []
    try:
        return [Ticket(str(token), float(seconds)) for token, seconds in json.loads(doc.body)]
    except (ValueError, TypeError) as error:
        raise StoreDamaged(f"the queue of a thread's runs cannot be read: {error}") from error


class Entrance:
    """A run's way into its thread. `seconds` is how long it may be silent; with `reject` it does not wait."""

    def __init__(self, access: Access, scope: Thread, seconds: float, *, reject: bool) -> None:
        self._access = access
        self._scope = scope
        self._reject = reject
        self._ticket = Ticket(new_id(), seconds)
        self._waiting = False
        self._watch = _watches.setdefault(access, Watch())

    def is_free(self, snapshot: Snapshot) -> bool:
        """Whether no run is at work, and nobody came earlier. What has stood still for too long does not count."""
        waiting = read_queue(snapshot)
        ahead = bool(waiting) and waiting[0].token != self._ticket.token
        return not ahead and self._run(snapshot) is None

    def _run(self, snapshot: Snapshot) -> RunRecord | None:
        """The run that is at work."""
        run = read_run(snapshot)
        if run is None or run.status != "running":
            return None
        state = (snapshot.tail.epoch, version_of(snapshot, RUN))
        return run if self._watch.still_for(self._scope, RUN, state) < run.seconds else None

    def leaving(self, snapshot: Snapshot) -> tuple[Put, ...]:
        """What the commit that takes the thread has to put, so that this run no longer waits."""
        waiting = read_queue(snapshot)
        if not self._is_in(waiting):
            return ()
        return (self._put(snapshot, self._without_own(waiting)),)

    def _is_in(self, waiting: list[Ticket]) -> bool:
        return any(ticket.token == self._ticket.token for ticket in waiting)

    def _without_own(self, waiting: list[Ticket]) -> list[Ticket]:
        return [ticket for ticket in waiting if ticket.token != self._ticket.token]

    async def wait(self, snapshot: Snapshot) -> None:
        """Wait until the thread looks free. Raises ThreadBusy, with nothing written, where waiting is not wanted."""
        pause = SHORTEST_LOOK
        while not self.is_free(snapshot):
            waiting = read_queue(snapshot)
            mine = self._is_in(waiting)
            if not await self._drop_dead(snapshot, waiting):
                if self._reject or (not mine and len(waiting) >= MAX_WAITING):
                    run = read_run(snapshot)
                    raise ThreadBusy(self._scope.thread_id, run.agent if run else "")
                if not mine:
                    self._waiting = True
                    await self._commit(snapshot, [*waiting, self._ticket])
                else:
                    await asyncio.sleep(pause * random.uniform(0.5, 1))
                    pause = min(LONGEST_LOOK, pause * 1.5)
            snapshot = await self._access.store.load(self._scope, Window())

    async def _drop_dead(self, snapshot: Snapshot, waiting: list[Ticket]) -> bool:
        """Take the first out of the queue if it could have gone for long and did not."""
        if not waiting or waiting[0].token == self._ticket.token or self._run(snapshot) is not None:
            return False
        # The thread has to be seen free first: from then on the first has its time.
        state = (snapshot.tail.epoch, version_of(snapshot, RUN), waiting[0].token)
        still = self._watch.still_for(self._scope, QUEUE, state)
        if still < max(waiting[0].seconds, self._ticket.seconds):
            return False
        await self._commit(snapshot, waiting[1:])
        return True

    async def leave(self) -> None:
        """Give up waiting."""
        while self._waiting:
            snapshot = await self._access.store.load(self._scope, Window())
            waiting = read_queue(snapshot)
            if not self._is_in(waiting) or await self._commit(snapshot, self._without_own(waiting)):
                self._waiting = False

    def entered(self) -> None:
        """The thread was taken by a commit with what `leaving` gave."""
        self._waiting = False

    async def _commit(self, snapshot: Snapshot, waiting: list[Ticket]) -> bool:
        """Write the queue if it has not changed; False where it has, or where the store could not tell."""
        changes = Changes(
            at=self._access.now(),
            epoch=new_id(),
            puts=(self._put(snapshot, waiting),),
            if_epoch=snapshot.tail.epoch,
            seen=snapshot.tail,
        )
        try:
            await self._access.store.commit(self._scope, changes)
        except (TailMoved, VersionMoved):
            return False
        except StoreError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(SHORTEST_LOOK)
            return False
        return True

    def _put(self, snapshot: Snapshot, waiting: list[Ticket]) -> Put:
        body = canonical_json([[*ticket] for ticket in waiting], "the queue of a thread's runs") if waiting else None
        return Put(QUEUE, body, version_of(snapshot, QUEUE))
