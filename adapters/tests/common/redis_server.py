"""Redis, or Valkey, alone and as a cluster of three masters, as kinds of servers for tests."""

from __future__ import annotations

import shlex
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Final

import redis
from newest import asked_for
from servers import Kind, free_port

PASSWORD: Final = "kept:thread/word"
_QUOTED: Final = "kept%3Athread%2Fword"

DURABLE: Final = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
"""The settings that docs/stores/redis.md names for the strictest durability."""


def client(host: str, port: int, **options: Any) -> Any:
    """A `redis.Redis`, to look behind a store's back. As Any, since half of its methods have no types."""
    given = {"password": PASSWORD, "socket_timeout": 5, "socket_connect_timeout": 5, "protocol": 2, **options}
    return redis.Redis(host=host, port=port, **given)


_NEWEST: Final = asked_for("redis")
_IMAGE: Final = _NEWEST.image if _NEWEST else "redis:7"
_PROGRAM: Final = Path(_NEWEST.path).name if _NEWEST else "redis-server"
"""What an image calls it."""
_PACKAGE: Final = "" if _NEWEST else "redis-server"


def _program() -> Path | None:
    if _NEWEST:
        return _NEWEST.find()
    found = shutil.which("redis-server")
    return Path(found) if found else None


class Redis(Kind):
    """A server that asks for a password and writes down all that it acknowledges."""

    name = _NEWEST.name if _NEWEST else "redis"
    variable = "THREADKEEP_TEST_REDIS_URL"
    image = _IMAGE
    image_port = 6379
    image_command: ClassVar[Sequence[str]] = (_PROGRAM, *DURABLE, "--requirepass", PASSWORD)
    package = _PACKAGE

    settings: ClassVar[Sequence[str]] = DURABLE

    def find(self) -> Path | None:
        return _program()

    def command(self, program: Path, folder: Path, port: int) -> Sequence[str]:
        return [str(program), *_common(str(folder), "127.0.0.1", port), *self.settings]

    def url(self, host: str, port: int) -> str:
        return f"redis://:{_QUOTED}@{host}:{port}"

    def answers(self, host: str, port: int) -> bool:
        return _ping(host, port)


class Cache(Redis):
    """A server as caches are set up: no file, and what is used least goes first."""

    name = f"{Redis.name}-cache"
    variable = "THREADKEEP_TEST_REDIS_CACHE_URL"
    settings = ("--appendonly", "no", "--save", "", "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
    image_command = (_PROGRAM, *settings, "--requirepass", PASSWORD)


class RedisCluster(Kind):
    """Three masters that share the slots. One process group, or one container, so that they are killed and started
    together."""

    # The scripts are those that a single server runs, and are judged there in depth.
    profile = "quick"
    name = f"{Redis.name}-cluster"
    variable = "THREADKEEP_TEST_REDIS_CLUSTER_URL"
    image = _IMAGE
    package = _PACKAGE
    stop_signal = signal.SIGKILL
    """To the whole group: the shell that starts the three would keep any other to itself."""

    def __init__(self) -> None:
        self._ports: dict[int, list[tuple[int, int]]] = {}

    def find(self) -> Path | None:
        return _program()

    def nodes(self, port: int) -> list[tuple[int, int]]:
        """The ports of the three, for clients and for each other; the first is that of the server."""
        if port not in self._ports:
            self._ports[port] = [(port, free_port()), (free_port(), free_port()), (free_port(), free_port())]
        return self._ports[port]

    def command(self, program: Path, folder: Path, port: int) -> Sequence[str]:
        return self._command(str(program), str(folder), "127.0.0.1", port)

    def published(self, port: int) -> Mapping[int, int]:
        # Nodes tell clients each other's ports, which have to be the same inside.
        return {own: own for own, _ in self.nodes(port)}

    def image_arguments(self, host: str, port: int) -> Sequence[str]:
        seen = ("--cluster-announce-hostname", host, "--cluster-preferred-endpoint-type", "hostname")
        return self._command(_PROGRAM, "/data", "0.0.0.0", port, *seen)

    def _command(self, program: str, folder: str, bind: str, port: int, *more: str) -> Sequence[str]:
        lines = []
        for number, (own, bus) in enumerate(self.nodes(port)):
            data = f"{folder}/{number}"
            cluster = ("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "2000")
            node = [program, *_common(data, bind, own), *DURABLE, *cluster, "--masterauth", PASSWORD, *more]
            lines.append(f"mkdir -p {shlex.quote(data)} && {shlex.join(node)}")
        return ["/bin/sh", "-c", " & ".join([*lines, "wait"])]

    def url(self, host: str, port: int) -> str:
        return f"redis+cluster://:{_QUOTED}@{host}:{port}"

    def answers(self, host: str, port: int) -> bool:
        ports = self.nodes(port)
        if not all(_ping(host, own) for own, _ in ports):
            return False
        with closing(client(host, port)) as first:
            if first.execute_command("CLUSTER INFO")["cluster_slots_assigned"] == "0":
                self._join(host, ports)
        return all(_is_complete(host, own) for own, _ in ports)

    def _join(self, host: str, ports: Sequence[tuple[int, int]]) -> None:
        bounds = [0, 5461, 10923, 16384]
        for number, (own, _) in enumerate(ports):
            with closing(client(host, own)) as node:
                node.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
                for other, bus in ports:
                    if other != own:
                        node.execute_command("CLUSTER", "MEET", "127.0.0.1", other, bus)


REDIS: Final = Redis()
CACHE: Final = Cache()
REDIS_CLUSTER: Final = RedisCluster()


def _common(folder: str, bind: str, port: int) -> list[str]:
    own = ["--bind", bind, "--port", str(port), "--dir", folder, "--requirepass", PASSWORD]
    return [*own, "--daemonize", "no", "--enable-debug-command", "yes"]


def _ping(host: str, port: int) -> bool:
    try:
        with closing(client(host, port)) as asked:
            return bool(asked.ping())
    except redis.RedisError:
        return False


def _is_complete(host: str, port: int) -> bool:
    with closing(client(host, port)) as node:
        said: dict[str, str] = node.execute_command("CLUSTER INFO")
    wanted = {"cluster_state": "ok", "cluster_known_nodes": "3", "cluster_slots_ok": "16384"}
    return wanted.items() <= said.items()
