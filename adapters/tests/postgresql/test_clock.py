"""A server whose clock jumps (law 6): PostgreSQL under libfaketime, judged by the contract's own check.

Debian's redis-server does not run under libfaketime, and the others are not tried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final

import pytest
import servers
from postgresql_server import Postgresql, connect
from servers import Run, Server

from threadkeep.port import Store, clock, hookimpl, open_store, register
from threadkeep_contract.harness import Harness
from threadkeep_contract.laws.durability import Durability
from threadkeep_contract.profiles import PROFILES

pytestmark = pytest.mark.slow

DAY: Final = 86_400
LIBRARIES: Final = "*/faketime/libfaketime.so.1"


class Clocked(Postgresql):
    """A server whose clock is as far ahead as a file says."""

    name = "postgresql-clocked"
    variable = "THREADKEEP_TEST_POSTGRESQL_CLOCKED_URL"
    image = ""
    package = "postgresql faketime"
    ahead: ClassVar[Path]

    def find(self) -> Path | None:
        return super().find() if self._library() else None

    def _library(self) -> Path | None:
        return next(iter(Path("/usr/lib").glob(LIBRARIES)), None)

    def prepare(self, folder: Path, run: Run) -> None:
        super().prepare(folder, run)
        type(self).ahead = folder / "ahead"
        set_clock(self.ahead, 0)

    def command(self, program: Path, folder: Path, port: int) -> Sequence[str]:
        settings = {
            "LD_PRELOAD": self._library(),
            "FAKETIME_TIMESTAMP_FILE": self.ahead,
            "FAKETIME_NO_CACHE": 1,
            "DONT_FAKE_MONOTONIC": 1,
        }
        return [
            "env",
            *(f"{name}={value}" for name, value in settings.items()),
            *super().command(program, folder, port),
        ]


def set_clock(file: Path, seconds: float) -> None:
    """Write how far a clock is ahead, as libfaketime reads it."""
    file.write_text(f"{seconds:+.0f}\n")


class Plugin:
    """PostgreSQL's store, whose server has such a clock."""

    @hookimpl
    def open_store(self, url: str) -> Store:
        return open_store(url.replace("clocked", "postgresql", 1)).store

    @hookimpl
    def clock(self, url: str, seconds: float) -> bool:
        set_clock(Clocked.ahead, seconds)
        return True


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    private = servers.private(Clocked())
    yield private
    private.stop()


def test_the_clock_of_a_server_changes_no_answer(server: Server) -> None:
    register("clocked", Plugin())
    url = server.url.replace("postgresql", "clocked", 1)

    async def now() -> float:
        connection = await connect(server.url)
        try:
            moment: float = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
            return moment
        finally:
            await connection.close()

    before = asyncio.run(now())
    assert clock(url, 40 * DAY)
    assert asyncio.run(now()) > before + 39 * DAY
    harness = Harness(url, PROFILES["quick"], check="test_a_servers_clock_changes_no_answer")
    try:
        Durability().test_a_servers_clock_changes_no_answer(harness)
        harness.settle(Durability.test_a_servers_clock_changes_no_answer)
        assert not harness.declined
    finally:
        harness.close()
    assert asyncio.run(now()) < before + DAY
