"""Where the mutants of a target are judged: a new place for each, on a server that all of them share.

The servers are those of the tests, in adapters/tests/common.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import postgresql_server
import redis
import redis_server
import servers
from servers import Kind


class Places(ABC):
    """Makes places for one kind of store."""

    @abstractmethod
    def url(self, folder: Path) -> str:
        """The URL of a place where nothing is, for the mutant that has this folder."""

    def refuses(self, text: str) -> str:
        """Why the server does not even load the text of a file, "" where it does or nobody asks it before a check."""
        return ""

    def clear(self) -> None:  # noqa: B027 -- files go with their folder, and memory with its process
        """Remove all that a mutant left on the server, calls that still run as well."""


class Files(Places):
    """An SQLite file in the mutant's folder."""

    def url(self, folder: Path) -> str:
        return f"sqlite:///{folder / 'contract.db'}"


class Memory(Places):
    """The memory of the process that judges."""

    def url(self, folder: Path) -> str:
        return "memory://contract"


class Postgresql(Places):
    """A schema of a server. Functions are made with a schema, so that each mutant has functions of its own."""

    def __init__(self) -> None:
        self._server = servers.private(postgresql_server.POSTGRESQL)

    def url(self, folder: Path) -> str:
        return f"{self._server.url}?schema={folder.name.replace('-', '_').lower()}"

    def clear(self) -> None:
        asyncio.run(self._clear())

    async def _clear(self) -> None:
        connection = await postgresql_server.connect(self._server.url)
        # A function that never ends goes on without its client.
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        rows = await connection.fetch(
            "SELECT quote_ident(nspname) FROM pg_namespace "
            "WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public')"
        )
        for (name,) in rows:
            await connection.execute(f"DROP SCHEMA {name} CASCADE")
        await connection.close()


class Redis(Places):
    """A server, emptied between mutants."""

    kind: Kind = redis_server.REDIS

    def __init__(self) -> None:
        self._server = servers.private(self.kind)

    @property
    def _ports(self) -> Sequence[int]:
        """Of all nodes."""
        return [self._server.port]

    def url(self, folder: Path) -> str:
        return self._server.url

    def refuses(self, text: str) -> str:
        with closing(redis_server.client(self._server.host, self._server.port)) as asked:
            try:
                asked.script_load(text)
            except redis.ResponseError as error:
                return str(error)
        return ""

    def clear(self) -> None:
        try:
            self._flush()
        except redis.RedisError:
            # A script that never ends and has written can only be ended together with the server.
            self._server.kill()
            self._server.start()
            self._flush()

    def _flush(self) -> None:
        for port in self._ports:
            with closing(redis_server.client(self._server.host, port)) as asked:
                asked.script_flush()
                asked.flushall()


class RedisCluster(Redis):
    """A cluster of three nodes. Scripts do more there: they keep the registrations of resources."""

    kind = redis_server.REDIS_CLUSTER

    @property
    def _ports(self) -> Sequence[int]:
        return [own for own, _ in redis_server.REDIS_CLUSTER.nodes(self._server.port)]


PLACES: Final[dict[str, type[Places]]] = {
    "memory": Memory,
    "sqlite": Files,
    "postgresql": Postgresql,
    "redis": Redis,
    "redis+cluster": RedisCluster,
}
"""By the scheme of the store."""
