"""The nodes of a Redis Cluster, as one event loop sees them: which one has a slot, and where a slot has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from redis.crc import key_slot
from redis.exceptions import AskError, BusyLoadingError, ClusterDownError, MovedError, ResponseError, TryAgainError

from threadkeep.errors import StoreUnavailable
from threadkeep.port import Meter
from threadkeep_adapters.redis.connections import Connections
from threadkeep_adapters.redis.errors import LostError, NotSentError, is_readonly
from threadkeep_adapters.redis.url import Place
from threadkeep_adapters.retry import RetryPolicy

T = TypeVar("T")

Node = tuple[str, int]
"""Host and port."""

CHANGING: Final = RetryPolicy(first=0.02, largest=0.5)
"""Between tries while the cluster is changing, for as long as the URL's timeout."""


class Cluster:
    """Sends a command to the node that has its key, and follows where the cluster points.

    redis-py's own cluster client is not used for the reason given in `Connections`: it sends a command again when a
    connection is lost, and a write must not be sent twice. Here a command is sent again only where the answer to the
    first says that it was not executed, or where there was no connection to send it by.
    """

    def __init__(self, place: Place, meter: Meter) -> None:
        self._place = place
        self._meter = meter
        self._nodes: dict[Node, Connections] = {}
        self._slots: list[tuple[int, int, Node]] = []
        self._learning: asyncio.Task[None] | None = None
        self._closed = False

    async def call(self, key: bytes, *command: Any) -> Any:
        """The answer of the node that has the key's slot. Raises as `Connections.call`."""
        slot = key_slot(key)
        pauses = CHANGING.begin(self._place.timeout)
        node: Node | None = None
        asking = is_stale = False
        while True:
            try:
                if node is None:
                    if is_stale:
                        await self._relearn()
                    node = await self._node_of(slot)
                return await self._connections(node).call(*command, asking=asking)
            except AskError as error:
                asked_host = "" if node is None else node[0]
                node = (error.host or asked_host, error.port)
                is_moved = isinstance(error, MovedError)
                asking = not is_moved
                if is_moved:
                    self._slots.insert(0, (slot, slot, node))
                    self._learn()
                if pauses.is_over:
                    raise StoreUnavailable(f"the cluster is moving slot {slot}: {error}") from error
            except (TryAgainError, ClusterDownError, BusyLoadingError, NotSentError):
                if self._closed or not await pauses.wait():
                    raise
                node, asking, is_stale = None, False, True

    async def read(self, key: bytes, *command: Any) -> Any:
        """As `call`. A replica of a cluster sends whoever asks to its master."""
        return await self.call(key, *command)

    async def each_master(self, commands: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """The answers of every master to the same commands, as `Connections.pipeline`."""
        await self._relearn()
        masters = sorted({node for _, _, node in self._slots})
        return list(await asyncio.gather(*(self._connections(node).pipeline(commands) for node in masters)))

    async def each_key(self, asked: Sequence[tuple[bytes, Sequence[Any]]]) -> list[Any]:
        """The answers to commands on keys of any slots: a pipeline to each node, then what has moved one by one."""
        by_node: dict[Node, list[int]] = {}
        for number, (key, _) in enumerate(asked):
            by_node.setdefault(await self._node_of(key_slot(key)), []).append(number)
        answers: list[Any] = [None] * len(asked)

        async def ask(node: Node, numbers: Sequence[int]) -> None:
            found = await self._connections(node).pipeline([asked[number][1] for number in numbers])
            for number, answer in zip(numbers, found, strict=True):
                if isinstance(answer, ResponseError):
                    key, command = asked[number]
                    answer = await self.call(key, *command)
                answers[number] = answer

        await asyncio.gather(*(ask(node, numbers) for node, numbers in by_node.items()))
        return answers

    async def close(self) -> None:
        """See `Connections.close`."""
        self._closed = True
        await asyncio.gather(*(connections.close() for connections in self._nodes.values()))
        if self._learning is not None:
            # Not cancelled, since that would cancel whoever shares it; without connections it ends.
            await asyncio.wait([self._learning])

    def _connections(self, node: Node) -> Connections:
        if self._closed:
            raise NotSentError("the store is being closed")
        if node not in self._nodes:
            self._nodes[node] = Connections(self._place, *node, self._meter)
        return self._nodes[node]

    async def _node_of(self, slot: int) -> Node:
        for _ in range(2):
            for first, last, node in self._slots:
                if first <= slot <= last:
                    return node
            await self._relearn()
        raise StoreUnavailable(f"no node of the cluster has slot {slot}; see CLUSTER INFO")

    def _learn(self) -> asyncio.Task[None]:
        """Read the map of slots; whoever asks meanwhile shares the answer."""
        if self._learning is None or self._learning.done():
            self._learning = asyncio.ensure_future(self._read_slots())
            # Whoever waits sees its error; where nobody does, the old map goes on.
            self._learning.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._learning

    async def _relearn(self) -> None:
        await asyncio.shield(self._learn())

    async def _read_slots(self) -> None:
        problems: list[Exception] = []
        for node in dict.fromkeys([*(node for _, _, node in self._slots), *self._place.seeds]):
            try:
                found = await self._connections(node).call("CLUSTER", "SLOTS")
            except (NotSentError, LostError, ClusterDownError, BusyLoadingError) as error:
                problems.append(error)
                continue
            slots = [(first, last, _address(master, node)) for first, last, master, *_ in found]
            if slots:
                self._slots = slots
                return
            problems.append(StoreUnavailable("the cluster has no slots assigned yet"))
        raise NotSentError(f"no node tells how the cluster is laid out: {problems[0]}") from problems[0]


def _address(master: Sequence[Any], asked: Node) -> Node:
    """A node's address; one without a host has that of the node which was asked."""
    host = master[0].decode() if master[0] else ""
    return (host if host not in ("", "?") else asked[0], int(master[1]))


async def once_more(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer, if need be to a second try: a replica has written nothing, its connections are let go, and a new one
    may lead to the server that has taken its place."""
    try:
        return await ask()
    except ResponseError as error:
        if not is_readonly(error):
            raise
    return await ask()


class Single:
    """One server, with the surface of `Cluster`."""

    def __init__(self, place: Place, meter: Meter) -> None:
        ((host, port),) = place.seeds
        self._connections = Connections(place, host, port, meter)

    async def call(self, key: bytes, *command: Any) -> Any:
        """See `Connections.call`; the key tells a single server nothing."""
        return await once_more(lambda: self._connections.call(*command))

    async def read(self, key: bytes, *command: Any) -> Any:
        """As `call`, for what only reads: refused by a replica.

        A primary that has become a replica behind the same address would be read for ever, and lags behind. PERSIST is
        a write, so that a replica refuses it; it changes nothing, since the store's keys do not expire.
        """

        async def ask() -> Any:
            writable, answer = await self._connections.pipeline((("PERSIST", key), command))
            for found in (writable, answer):
                if is_readonly(found) or (found is answer and isinstance(found, Exception)):
                    raise found
            return answer

        return await once_more(ask)

    async def each_master(self, commands: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """See `Cluster.each_master`."""
        return [await self._connections.pipeline(commands)]

    async def each_key(self, asked: Sequence[tuple[bytes, Sequence[Any]]]) -> list[Any]:
        """See `Cluster.each_key`."""
        return await self._connections.pipeline([command for _, command in asked])

    async def close(self) -> None:
        """See `Connections.close`."""
        await self._connections.close()


Server = Single | Cluster


def connect(place: Place, meter: Meter) -> Server:
    """The server or cluster of a place, for the event loop that is running; nothing is connected yet."""
    return Cluster(place, meter) if place.cluster else Single(place, meter)
