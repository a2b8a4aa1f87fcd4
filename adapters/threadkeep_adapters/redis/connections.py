"""Connections of one event loop to one server: a bounded pool with bounded waits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from hiredis import pack_command
from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError
from redis.exceptions import ConnectionError as DriverConnectionError
from redis.exceptions import TimeoutError as DriverTimeoutError

from threadkeep.port import Meter
from threadkeep_adapters.redis.errors import GARBLED, LostError, NotSentError, is_readonly
from threadkeep_adapters.redis.url import Place
from threadkeep_adapters.retry import FULL
from threadkeep_adapters.sockets import read_news

Command = Sequence[Any]

_NO_ROOM: Final = "max number of clients"
"""In what Redis and Valkey answer, https://redis.io/docs/latest/develop/reference/clients/."""


class _FullError(NotSentError):
    """The server has no connection left."""


class Connections:
    """At most `place.connections` connections to one server, taken in turn, the one used last first.

    redis-py's own pools are not used, since they cannot say whether a request that failed was ever sent, which is what
    tells StoreUnavailable from OutcomeUnknown, and since its retries may send a write twice.
    """

    def __init__(self, place: Place, host: str, port: int, meter: Meter) -> None:
        self.host = host
        self.port = port
        self._place = place
        self._meter = meter
        self._free = asyncio.Semaphore(place.connections)
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._closed = False

    async def call(self, *command: Any, asking: bool = False) -> Any:
        """The server's answer to one command.

        Raises NotSentError, ResponseError and its like for what the server refused, and LostError.
        """
        if asking:
            _, answer = await self.pipeline((("ASKING",), command))
        else:
            (answer,) = await self.pipeline((command,))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to several commands that are sent together; what the server refused is an error among them."""
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        pauses = FULL.begin(self._place.timeout)
        try:
            while True:
                try:
                    return await self._once(commands)
                except _FullError:
                    if not await pauses.wait():
                        raise
        finally:
            self._free.release()

    async def _once(self, commands: Sequence[Command]) -> list[Any]:
        connection = await self._connected()
        self._meter.trips += 1
        try:
            async with asyncio.timeout(self._place.timeout):
                answers = await self._exchange(connection, commands)
            if any(is_readonly(answer) for answer in answers):
                await self._let_go(connection)
            return answers
        except (AuthenticationError, BusyLoadingError):
            # The driver takes these answers for lost connections.
            raise
        except TimeoutError as error:
            raise LostError(f"no answer from {self.host}:{self.port} in {self._place.timeout:g} s") from error
        except GARBLED as error:
            raise LostError(f"what {self.host}:{self.port} answered is no reply of Redis: {error}") from error
        except (DriverConnectionError, DriverTimeoutError, OSError) as error:
            self._check_full(error)
            raise LostError(f"the connection to {self.host}:{self.port} was lost: {error}") from error
        finally:
            # What failed halfway has been disconnected, and connects again.
            self._idle.append(connection)

    def _check_full(self, error: Exception) -> None:
        """Raise _FullError where the server says that it has no connection left. It does nothing else that it is asked
        then."""
        if _NO_ROOM in str(error):
            raise _FullError(
                f"{self.host}:{self.port} has no connection left; allow fewer with ?connections=, a longer wait with "
                "?timeout=, or more by the server's maxclients"
            ) from error

    async def _exchange(self, connection: Connection, commands: Sequence[Command]) -> list[Any]:
        # Where something fails redis-py closes the connection, which with TLS waits for an answer that may never come.
        transport = connection._writer.transport if connection._writer is not None else None
        try:
            packed = [pack_command(tuple(command)) for command in commands]
            await connection.send_packed_command(packed, check_health=False)
            answers = []
            for _ in commands:
                try:
                    answers.append(await connection.read_response(disable_decoding=True))
                except ResponseError as error:
                    answers.append(error)
            return answers
        except BaseException:
            if transport is not None:
                transport.abort()
            await connection.disconnect(nowait=True)
            raise

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._place.timeout):
                await self._free.acquire()
        except TimeoutError:
            raise NotSentError(
                f"all {self._place.connections} connections to {self.host}:{self.port} were busy for "
                f"{self._place.timeout:g} s; allow more with ?connections="
            ) from None

    async def _connected(self) -> Connection:
        if self._closed:
            raise NotSentError("the store is being closed")
        connection = self._idle.pop() if self._idle else self._make()
        try:
            if connection._writer is not None:
                await read_news(connection._writer.transport)
            if connection.is_connected and await connection.can_read():
                # Nothing was asked, so that this is the end of the connection.
                await connection.disconnect(nowait=True)
            if not connection.is_connected:
                async with asyncio.timeout(self._place.connect_timeout):
                    await connection.connect()  # type: ignore[no-untyped-call] # redis-py has types for most methods only
                if self._closed:
                    raise NotSentError("the store is being closed")
        except (RedisError, OSError, TimeoutError) as error:
            await self._drop(connection)
            self._check_full(error)
            said = str(error) or f"no connection in {self._place.connect_timeout:g} s"
            raise NotSentError(f"{self.host}:{self.port} cannot be reached: {said}") from error
        except BaseException:
            await self._drop(connection)
            raise
        return connection

    async def _let_go(self, connection: Connection) -> None:
        """Let go of a connection to what has become a replica, and of the idle ones: new ones may lead elsewhere."""
        for old in (connection, *self._idle):
            await old.disconnect(nowait=True)

    def _make(self) -> Connection:
        place = self._place
        kind = SSLConnection if place.tls else Connection
        connection = kind(
            host=self.host,
            port=self.port,
            db=place.database,
            username=place.username,
            password=place.password,
            socket_connect_timeout=place.connect_timeout,
            # One timeout for the whole exchange is set above; redis-py's would start a task for each write.
            socket_timeout=None,
            protocol=2,
            **dict(place.tls_options),
        )
        self._all.add(connection)
        return connection

    async def _drop(self, connection: Connection) -> None:
        self._all.discard(connection)
        await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Let go of all connections; an exchange that is under way fails. Safe to repeat."""
        self._closed = True
        await asyncio.gather(*(self._leave(connection) for connection in self._all))

    async def _leave(self, connection: Connection) -> None:
        # Waited for, since a loop that ends before leaves the transport behind.
        with suppress(RedisError, OSError):
            await connection.disconnect()
