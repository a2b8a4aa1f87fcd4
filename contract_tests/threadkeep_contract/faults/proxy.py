"""A TCP proxy on loopback, to count what goes over the wire and to cut it: between any client and any server.

    with Proxy(host, port) as proxy:
        store = open_store(f"acme://127.0.0.1:{proxy.port}/place")

It runs in a thread of its own, so that it serves whatever event loops its check uses.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, NoReturn, TypeVar

T = TypeVar("T")

_CHUNK: Final = 1 << 16


class Cut(StrEnum):
    """Where a connection is cut."""

    BEFORE_REQUEST = "before the request"
    """The server never sees it."""
    IN_REQUEST = "in the middle of the request"
    AFTER_REQUEST = "after the request"
    """The server has done it and answered; the client sees nothing of that."""
    IN_ANSWER = "in the middle of the answer"


@dataclass(slots=True)
class Order:
    """A cut that is to be made at the first turn above `turn`."""

    where: Cut
    turn: int
    done: Future[None] = field(default_factory=Future)


class Proxy:
    """Forwards to one server. `turns`, `connections` and `bytes` only ever grow; take differences."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self.port = 0
        self.turns = 0
        """Requests after which the client waited for an answer: a client's bytes after the server's, or at first."""
        self.connections = 0
        self.bytes = 0
        """Bytes that came from either side."""
        self.delay = 0.0
        """Seconds that each answer is held back."""
        self._garbled = 0
        self._armed: Order | None = None
        self._open: asyncio.Event | None = None
        self._loop = asyncio.new_event_loop()
        self._links: set[_Link] = set()
        self._thread = threading.Thread(target=self._main, name="proxy", daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def open_connections(self) -> int:
        """Connections that neither side has ended."""
        return len(self._links)

    def cut_next(self, where: Cut, after: int = 0) -> Future[None]:
        """Cut the connection of the next request, or of a later one: `after` so many others. Done when it is cut."""
        self._armed = Order(where, self.turns + after)
        return self._armed.done

    def garble(self, count: int) -> None:
        """Let so many of the next answers be other bytes, of the same number."""
        self._garbled = count

    def garbled(self, data: bytes) -> bytes:
        """What a client gets of an answer."""
        if not self._garbled:
            return data
        self._garbled -= 1
        return bytes(255 - byte for byte in data)

    def disarm(self) -> None:
        """Make no cut that has not been made yet."""
        self._call(self._disarm())

    def hold(self) -> None:
        """Let nothing through in either direction until `release`; connections stay open, and new ones hang."""
        self._call(self._hold(True))

    def release(self) -> None:
        """Let through again what was held."""
        self._call(self._hold(False))

    def drop_all(self) -> None:
        """Cut every connection there is."""
        self._call(self._drop_all())

    def forget_all(self) -> None:
        """Cut every connection there is when its client next sends something, and not before: as by a router that has
        dropped what was idle."""
        self._call(self._forget_all())

    def lead_to(self, host: str, port: int) -> None:
        """Forward new connections to another server, as an address does after a failover. Those there are stay."""
        self._server = (host, port)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _hold(self, held: bool) -> None:
        if self._open is not None:
            (self._open.clear if held else self._open.set)()

    async def _disarm(self) -> None:
        self._armed = None
        for link in self._links:
            link.order = None

    async def _drop_all(self) -> None:
        for link in list(self._links):
            link.cut()

    async def _forget_all(self) -> None:
        for link in self._links:
            link.forgotten = True

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        listening = self._loop.run_until_complete(self._listen())
        self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            listening.close()
            for link in list(self._links):
                link.cut()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.close()

    async def _listen(self) -> asyncio.Server:
        self._open = asyncio.Event()
        self._open.set()
        listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        return listening

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            from_server, to_server = await asyncio.open_connection(*self._server)
        except OSError:
            to_client.transport.abort()
            return
        link = _Link(self, to_client, to_server)
        self._links.add(link)
        try:
            await asyncio.gather(link.requests(from_client), link.answers(from_server))
        except (OSError, EOFError, asyncio.CancelledError):
            # Either side has gone, or the proxy ends.
            pass
        finally:
            link.cut()
            self._links.discard(link)
            if link.order is not None:
                # The connection ended by itself before it could be cut; the next one will do.
                self._armed = link.order

    async def opened(self) -> None:
        """Wait while nothing may pass."""
        if self._open is not None:
            await self._open.wait()

    def due(self) -> Order | None:
        """The cut that is due at the turn that has just begun, once."""
        if self._armed is None or self.turns <= self._armed.turn:
            return None
        order, self._armed = self._armed, None
        return order


class _Link:
    """One client's connection and the server's that belongs to it."""

    def __init__(self, proxy: Proxy, to_client: asyncio.StreamWriter, to_server: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._to_client = to_client
        self._to_server = to_server
        self._answered = True
        self.order: Order | None = None
        """The cut that has to happen in this turn."""
        self.forgotten = False

    async def requests(self, from_client: asyncio.StreamReader) -> None:
        while (data := await from_client.read(_CHUNK)) and not self.forgotten:
            self._proxy.bytes += len(data)
            if self._answered:
                self._answered = False
                self._proxy.turns += 1
                self.order = self._proxy.due()
            await self._proxy.opened()
            if self._is(Cut.BEFORE_REQUEST):
                self._end()
            if self._is(Cut.IN_REQUEST):
                self._to_server.write(data[: len(data) // 2])
                await self._to_server.drain()
                self._end()
            self._to_server.write(data)
            await self._to_server.drain()
        raise EOFError

    async def answers(self, from_server: asyncio.StreamReader) -> None:
        while data := await from_server.read(_CHUNK):
            self._proxy.bytes += len(data)
            self._answered = True
            if self._proxy.delay:
                await asyncio.sleep(self._proxy.delay)
            await self._proxy.opened()
            if self._is(Cut.AFTER_REQUEST):
                self._end()
            if self._is(Cut.IN_ANSWER):
                self._to_client.write(data[: len(data) // 2])
                await self._to_client.drain()
                self._end()
            self._to_client.write(self._proxy.garbled(data))
            await self._to_client.drain()
        raise EOFError

    def _is(self, where: Cut) -> bool:
        return self.order is not None and self.order.where is where

    def _end(self) -> NoReturn:
        if self.order is not None:
            self.order.done.set_result(None)
            self.order = None
        raise ConnectionAbortedError

    def cut(self) -> None:
        """End both connections; what was written before is still sent."""
        self._to_client.close()
        self._to_server.close()
