"""The connections of one event loop to a PostgreSQL database.

asyncpg's own pool costs about as much as a small query, since it starts a task for each connection that comes back, and
unnamed statements cannot outlive their turn in it; docs/design.md has the numbers.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeAlias

import asyncpg

from threadkeep.errors import StoreClosed, StoreError, StoreUnavailable
from threadkeep_adapters.postgresql.errors import ASTRAY
from threadkeep_adapters.postgresql.url import Place
from threadkeep_adapters.retry import FULL
from threadkeep_adapters.sockets import read_news

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

SETTLE_SECONDS: Final = 2.0
"""How long a call that was cancelled or ran out of time waits until the server has let go of its statement."""

KEPT_STATEMENTS: Final = 100
"""How many statements a connection keeps prepared, where it does."""

IDLE_SECONDS: Final = 300.0
"""A connection that nobody used for this long is closed: something between may have forgotten it in silence."""


async def connect(place: Place, *, keeps_statements: bool) -> Connection:
    """A new connection. Raises StoreUnavailable, StoreError, asyncpg's errors."""
    try:
        return await asyncpg.connect(
            place.dsn,
            timeout=place.connect_timeout,
            command_timeout=place.timeout,
            statement_cache_size=KEPT_STATEMENTS if keeps_statements else 0,
            max_cached_statement_lifetime=0,
        )
    except (OSError, TimeoutError, ASTRAY) as error:
        raise StoreUnavailable(
            f"the server at {place.shown} cannot be reached: {str(error) or type(error).__name__}; "
            "start it, or correct the URL"
        ) from error
    except (asyncpg.InterfaceError, ValueError) as error:
        raise StoreError(f"the driver does not take the URL: {error}") from error


@asynccontextmanager
async def single_connection(place: Place) -> AsyncIterator[Connection]:
    """A connection outside of any pool, for what is done once."""
    place.check()
    pauses = FULL.begin(place.pool_timeout)
    while True:
        try:
            connection = await connect(place, keeps_statements=False)
            break
        except asyncpg.TooManyConnectionsError:
            if not await pauses.wait():
                raise
    try:
        yield connection
    except BaseException:
        connection.terminate()
        raise
    await connection.close(timeout=SETTLE_SECONDS)


class Link:
    """One connection, and the unnamed statements whose types it knows already."""

    def __init__(self, connection: Connection, *, named: bool) -> None:
        self.connection = connection
        self.used = time.monotonic()
        self.is_new = True
        """Whether no statement has been answered on it."""
        self._named = named
        self._unnamed: dict[str, asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]] = {}

    async def fetch(self, sql: str, given: Sequence[Any]) -> Sequence[Any]:
        """The rows of a statement. Raises asyncpg's errors, OSError, TimeoutError."""
        if self._named:
            return await self.connection.fetch(sql, *given)
        # Each run sends text, parameters and all as one, so that it does not matter who answers; the driver
        # itself would ask for the types again each time.
        statement = self._unnamed.get(sql)
        if statement is None:
            statement = self._unnamed[sql] = await self.connection.prepare(sql)
        return await statement.fetch(*given)

    def is_usable(self) -> bool:
        return not self.connection.is_closed() and time.monotonic() - self.used < IDLE_SECONDS


class Pool:
    """At most `size` connections, made when they are needed; the one that was used last is taken first."""

    def __init__(self, connect: Callable[[], Awaitable[Link]], size: int, wait: float, where: str) -> None:
        self._connect = connect
        self._size = size
        self._wait = wait
        self._where = where
        self._free = asyncio.Semaphore(size)
        self._idle: deque[Link] = deque()
        self._all: set[Link] = set()
        self._settling: set[asyncio.Task[None]] = set()
        self._is_astray = False
        """Whether the driver lost its way on a connection, and has not been answered on any since."""
        self._closed = False

    async def fetch(self, sql: str, given: Sequence[Any], begun: Callable[[], object]) -> Sequence[Any]:
        """The rows of one statement, in autocommit. `begun` is called when a connection is there and it is sent.

        Raises StoreUnavailable where no connection comes free in time, StoreClosed, what connecting raises, and as
        `Link.fetch`, or StoreError where the driver loses its way again on a new connection. A call that is cancelled
        or runs out of time leaves when the server has given the statement up.
        """
        link = await self._acquire()
        begun()
        try:
            rows = await link.fetch(sql, given)
        except asyncpg.PostgresError:
            self._release(link)
            raise
        except ASTRAY as error:
            is_again = self._is_astray and link.is_new and not link.connection.is_closed()
            self._is_astray = True
            self._drop(link)
            self._free.release()
            if is_again:
                raise StoreError(f"the driver fails again on a fresh connection to {self._where}: {error}") from error
            raise
        except BaseException:
            settling = asyncio.create_task(self._settle(link))
            self._settling.add(settling)
            settling.add_done_callback(self._settling.discard)
            await asyncio.shield(settling)
            raise
        link.is_new = self._is_astray = False
        self._release(link)
        return rows

    async def close(self) -> None:
        """Let calls that run end, for some seconds, then close all connections. Safe to repeat."""
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                for _ in range(self._size):
                    await self._free.acquire()
                for link in self._idle:
                    await link.connection.close()
        self.terminate()

    def drop_idle(self) -> None:
        """Drop the connections that nobody uses: where one was lost, the others may be lost as well."""
        while self._idle:
            self._drop(self._idle.popleft())

    def terminate(self) -> None:
        """Drop all connections as they are."""
        self._closed = True
        self._idle.clear()
        for link in self._all:
            link.connection.terminate()
        self._all.clear()
        for _ in range(self._size):
            self._free.release()  # whoever still waits is to see that it is closed

    async def _acquire(self) -> Link:
        if self._free.locked():
            try:
                async with asyncio.timeout(self._wait):
                    await self._free.acquire()
            except TimeoutError as error:
                raise StoreUnavailable(
                    f"all {self._size} connections to {self._where} were in use for {self._wait:g} s; "
                    "allow more with ?connections=, or a longer wait with ?pool_timeout="
                ) from error
        else:
            await self._free.acquire()
        try:
            return await self._idle_or_new()
        except BaseException:
            self._free.release()
            raise

    async def _idle_or_new(self) -> Link:
        pauses = FULL.begin(self._wait)
        while True:
            while self._idle and not self._closed:
                link = self._idle.pop()
                try:
                    await read_news(link.connection._transport)  # type: ignore[attr-defined] # asyncpg types what is public
                except BaseException:
                    self._drop(link)
                    raise
                if link.is_usable():
                    return link
                self._drop(link)
            if self._closed:
                raise StoreClosed
            try:
                link = await self._connect()
            except asyncpg.TooManyConnectionsError:
                if not await pauses.wait():
                    raise
            else:
                self._all.add(link)
                return link

    def _release(self, link: Link) -> None:
        if self._closed or link.connection.is_closed():
            self._drop(link)
        else:
            link.used = time.monotonic()
            self._idle.append(link)
            while not self._idle[0].is_usable():
                self._drop(self._idle.popleft())
        self._free.release()

    async def _settle(self, link: Link) -> None:
        """Wait until the connection is as before, or drop it. The driver has asked the server to give up by now."""
        with suppress(Exception):  # whatever hinders it, the connection is dropped then
            if not link.connection.is_closed():
                async with asyncio.timeout(SETTLE_SECONDS):
                    await link.connection.execute("")
                self._release(link)
                return
        self._drop(link)
        self._free.release()

    def _drop(self, link: Link) -> None:
        self._all.discard(link)
        link.connection.terminate()
