"""Clients of PyMongo: one for each event loop, with bounded pools, that count the requests which they send."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from threadkeep.errors import StoreUnavailable
from threadkeep.port import Meter
from threadkeep_adapters.loops import CLOSE_SECONDS, PerLoop
from threadkeep_adapters.mongo.layout import Document
from threadkeep_adapters.mongo.url import Place

P = ParamSpec("P")
T = TypeVar("T")

WRITES: Final = WriteConcern(w="majority", j=True)
READS: Final = ReadConcern("majority")

TURN_SECONDS: Final = 30.0
"""For how long a commit waits for its turn behind those of other tasks to the same resource."""


def whole(verb: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The verb, done to its end once it has begun: a caller that is cancelled leaves at once, and it goes on.

    A request that is cancelled would leak the driver's connection.
    """

    @wraps(verb)
    async def run(*given: P.args, **named: P.kwargs) -> T:
        task = asyncio.create_task(verb(*given, **named))
        # The event loop itself holds tasks weakly.
        _running.add(task)
        task.add_done_callback(_forget)
        return await asyncio.shield(task)

    return run


def _forget(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        # Whoever was cancelled does not ask; asyncio would complain of an error that nobody looked at.
        task.exception()


_running: Final[set[asyncio.Task[Any]]] = set()


class _Counter(CommandListener):
    """Counts commands as they are sent."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name != "endSessions":
            self._meter.trips += 1

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Was counted when it started."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Was counted when it started."""


class Link:
    """One event loop's client, and the queues in which its tasks wait for each other."""

    def __init__(self, client: AsyncMongoClient[Document], place: Place) -> None:
        self.client = client
        self.database: AsyncDatabase[Document] = client.get_database(
            place.database, write_concern=WRITES, read_concern=READS
        )
        self._queues: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.opener: Final = secrets.token_hex(12)
        self.opening: Final = asyncio.Lock()
        """Tasks that open the store at once wait for the first of them."""

    async def close(self) -> None:
        """Close the client, and let an opening that runs end before. Safe to repeat.

        A client that is closed while it connects leaves its sockets to the garbage collector.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS), self.opening:
                pass
        await self.client.close()

    @asynccontextmanager
    async def turn(self, resource: str) -> AsyncIterator[None]:
        """The turn of one who commits to a resource here: one at a time, they do not lose races to each other.

        Raises StoreUnavailable where it does not come in time, as when the server does not answer those before.
        """
        lock = self._queues.get(resource)
        if lock is None:
            lock = asyncio.Lock()
            self._queues[resource] = lock
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await lock.acquire()
        except TimeoutError:
            raise StoreUnavailable(
                f"other commits to the resource kept this one waiting for {TURN_SECONDS:g} s; nothing was written"
            ) from None
        try:
            yield
        finally:
            lock.release()


class Connections(PerLoop[Link]):
    """The clients of a store."""

    def __init__(self, place: Place, meter: Meter) -> None:
        super().__init__(self._connect)
        self._place = place
        self._counter = _Counter(meter)

    def _connect(self) -> Link:
        options: dict[str, Any] = {"event_listeners": [self._counter], "appname": "threadkeep", **self._place.options}
        return Link(AsyncMongoClient(self._place.url, **options), self._place)
