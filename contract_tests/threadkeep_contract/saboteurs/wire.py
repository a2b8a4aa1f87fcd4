"""A small sound store on a server, for saboteurs that break on the way: `WireStore`.

The server is a thread of this process with a port of its own; it holds a `DictStore` for each URL. A call is a request
and an answer, each a length and a pickle. The sound client makes a connection for each call, and says of a lost one
what it knows: a reading is StoreUnavailable, a write that was sent OutcomeUnknown.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from threadkeep.errors import OutcomeUnknown, StoreUnavailable, ThreadkeepError
from threadkeep.port import (
    After,
    Changes,
    Clause,
    Order,
    Receipt,
    Resource,
    Scope,
    Snapshot,
    ThreadRow,
    Window,
)
from threadkeep_contract.saboteurs.base import DictStore, Saboteur

HOST: Final = "127.0.0.1"

WRITES: Final = ("commit", "delete")

LOST: Final = (OSError, EOFError)
"""What a lost connection raises."""


class Server:
    """Answers requests to stores that it holds for as long as this process lives."""

    ahead: float = 0.0
    """Seconds by which its clock is ahead of the machine's."""

    def __init__(self) -> None:
        self.port = 0
        self._started = time.time() - time.monotonic()
        self._stores: dict[tuple[type[DictStore], str], DictStore] = {}
        self._ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._main()), name="saboteurs' server", daemon=True).start()
        self._ready.wait()

    @property
    def time(self) -> float:
        """Seconds since 1970 by its clock, which is not that of its clients: only `ahead` sets it."""
        return self._started + time.monotonic() + self.ahead

    async def _main(self) -> None:
        listening = await asyncio.start_server(self._serve, HOST, 0)
        self.port = listening.sockets[0].getsockname()[1]
        self._ready.set()
        await listening.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                kind, url, verb, args = await receive(reader)
                store = self._stores.setdefault((kind, url), kind(url, ""))
                await store.open()
                try:
                    answer: object = await getattr(store, verb)(*args)
                except ThreadkeepError as error:
                    answer = error
                send(writer, answer)
                await writer.drain()
        except LOST:
            pass
        finally:
            writer.close()


@cache
def server() -> Server:
    """The server, started at first use."""
    return Server()


def send(writer: asyncio.StreamWriter, message: object) -> None:
    """Write a message."""
    data = pickle.dumps(message)
    writer.write(len(data).to_bytes(4, "big") + data)


async def receive(reader: asyncio.StreamReader) -> Any:
    """The next message. EOFError or OSError where the connection is lost."""
    size = int.from_bytes(await reader.readexactly(4), "big")
    return pickle.loads(await reader.readexactly(size))


class WireStore(Saboteur):
    """The sound store. Its URL may name the port of a proxy: `saboteur://FAULT:PORT/NAME`."""

    not_offered = {
        Clause.PROCESSES: "the server is a thread of each process",
        Clause.DURABILITY: "the server ends with its process",
    }
    held: ClassVar[type[DictStore]] = DictStore
    """What the server holds."""

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self._port = urlsplit(url).port

    @property
    def port(self) -> int:
        return self._port or server().port

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    # Calls.

    async def request(self, verb: str, *args: Any) -> Any:
        """One round trip: what the server answers, or raises."""
        self.meter.trips += 1
        return await self.exchange(verb, *args)

    async def exchange(self, verb: str, *args: Any) -> Any:
        """A request and its answer, on a connection of its own."""
        try:
            reader, writer = await asyncio.open_connection(HOST, self.port)
        except OSError as error:
            raise StoreUnavailable(str(error)) from error
        try:
            send(writer, self.message(verb, *args))
            await writer.drain()
            answer = await receive(reader)
        except LOST as error:
            raise self.lost(verb, error) from error
        finally:
            writer.close()
        return self.told(answer)

    def message(self, verb: str, *args: Any) -> object:
        return (self.held, key_of(self.url), verb, args)

    def told(self, answer: Any) -> Any:
        """What the server answered, or raises."""
        if isinstance(answer, ThreadkeepError):
            raise answer
        return answer

    def lost(self, verb: str, error: Exception) -> ThreadkeepError:
        """The error for a request that was sent and not answered."""
        kind = OutcomeUnknown if verb in WRITES else StoreUnavailable
        return kind(f"the connection was lost: {error}")

    # The verbs.

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        snapshot: Snapshot = await self.request("load", scope, window)
        self.meter.rows += len(snapshot.records) + len(snapshot.docs) + len(snapshot.resource_docs) + 1
        return snapshot

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.rows += len(changes.append) + len(changes.puts) + len(changes.resource_puts)
        receipt: Receipt = await self.request("commit", scope, changes)
        return receipt

    async def delete(self, scope: Scope) -> None:
        await self.request("delete", scope)

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        rows: Sequence[ThreadRow] = await self.request("threads", resource, after, limit, order, slots)
        self.meter.rows += len(rows)
        return rows

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        found: Sequence[str] = await self.request("resources", after, limit)
        return found

    @classmethod
    def scan(cls, url: str, path: str) -> Iterator[bytes]:
        """Every string that the server holds for a URL."""
        return cls.held.scan(key_of(url), path)


def key_of(url: str) -> str:
    """A URL without the port, by which the server knows a place."""
    parts = urlsplit(url)
    return f"saboteur://{parts.hostname}{parts.path}"
