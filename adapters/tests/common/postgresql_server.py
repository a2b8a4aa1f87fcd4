"""PostgreSQL, and PgBouncer before it, as kinds of servers for tests."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

import asyncpg
from newest import asked_for
from servers import Kind, Run, Server

USER: Final = "threadkeep"
PASSWORD: Final = "kept:thread/word"
_QUOTED: Final = "kept%3Athread%2Fword"

_NEWEST: Final = asked_for("postgresql")


class Postgresql(Kind):
    """A server whose default collation is a language's, so that nothing can rest on C by chance."""

    name = _NEWEST.name if _NEWEST else "postgresql"
    variable = "THREADKEEP_TEST_POSTGRES_URL"
    image = _NEWEST.image if _NEWEST else "postgres:17"
    image_port = 5432
    image_environment = {
        "POSTGRES_USER": USER,
        "POSTGRES_PASSWORD": PASSWORD,
        "POSTGRES_DB": "postgres",
        "POSTGRES_INITDB_ARGS": "--locale-provider=icu --icu-locale=en-US",
    }
    image_command = ("-c", "max_connections=200")
    package = "" if _NEWEST else "postgresql"
    user = "postgres"

    def find(self) -> Path | None:
        if _NEWEST:
            return _NEWEST.find()
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: _number(path.parts[4]))
        if versions:
            return versions[-1]
        found = shutil.which("postgres")
        return Path(found).resolve() if found and Path(found).resolve().with_name("initdb").exists() else None

    def prepare(self, folder: Path, run: Run) -> None:
        program = self.find()
        if program is None:
            raise FileNotFoundError("postgres")
        secret = folder / "password"
        secret.write_text(PASSWORD)
        run.own(secret)
        run(
            str(program.with_name("initdb")),
            f"--pgdata={folder / 'data'}",
            f"--username={USER}",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--locale-provider=icu",
            "--icu-locale=en-US",
            cwd=folder,
        )

    def command(self, program: Path, folder: Path, port: int) -> Sequence[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 200,
            "port": port,
        }
        return [
            str(program),
            "-D",
            str(folder / "data"),
            *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
        ]

    def url(self, host: str, port: int) -> str:
        return f"postgresql://{USER}:{_QUOTED}@{host}:{port}/postgres"

    def answers(self, host: str, port: int) -> bool:
        return _answers(self.url(host, port))


class Pgbouncer(Kind):
    """A pooling proxy in transaction mode, before a server."""

    name = "pgbouncer"
    variable = "THREADKEEP_TEST_PGBOUNCER_URL"
    package = "pgbouncer"
    user = "postgres"

    pool: ClassVar[int] = 4
    """Connections to the server, fewer than any store opens to the proxy."""

    def __init__(self, server: Server) -> None:
        self._parts = urlsplit(server.url)

    def find(self) -> Path | None:
        found = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
        return Path(found) if found else None

    def prepare(self, folder: Path, run: Run) -> None:
        (folder / "users.txt").write_text(f'"{USER}" "{PASSWORD}"\n')
        run.own(folder / "users.txt")

    def command(self, program: Path, folder: Path, port: int) -> Sequence[str]:
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            f"""[databases]
* = host={self._parts.hostname} port={self._parts.port} user={USER} password='{PASSWORD}'
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder / "users.txt"}
pool_mode = transaction
default_pool_size = {self.pool}
max_client_conn = 500
ignore_startup_parameters = extra_float_digits
"""
        )
        return [str(program), str(settings)]

    def url(self, host: str, port: int) -> str:
        return f"postgresql://{USER}:{_QUOTED}@{host}:{port}{self._parts.path}"

    def answers(self, host: str, port: int) -> bool:
        return _answers(self.url(host, port))


POSTGRESQL: Final = Postgresql()


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _answers(url: str) -> bool:
    try:
        asyncio.run(_ask(url))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    return True


async def _ask(url: str) -> None:
    connection = await asyncpg.connect(url, timeout=5, statement_cache_size=0)
    await connection.close(timeout=5)


async def connect(url: str, **options: Any) -> asyncpg.Connection[asyncpg.Record]:
    """A connection of the bare driver, to look behind a store's back."""
    return await asyncpg.connect(url, timeout=10, **options)
