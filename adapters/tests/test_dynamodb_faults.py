"""Faults of the server and of the wire while a DynamoDB store commits (laws 2, 3, 4, 6)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

import pytest
import servers
from dynamodb_server import DURABLE
from faults import FAULTS, check, cutting, endure, killing
from proxy import Proxy
from servers import Server

KILLS: Final = max(1, FAULTS // 10)
"""The server takes seconds to start."""

OPTIONS: Final = "&timeout=60&connect_timeout=5"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    private = servers.private(DURABLE)
    yield private
    private.stop()


@pytest.mark.timeout(60 + 10 * FAULTS)
def test_what_was_acknowledged_is_there_once_and_whole_after_cut_connections(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    with Proxy(server.host, server.port) as proxy:
        through = DURABLE.url("127.0.0.1", proxy.port) + OPTIONS
        endured = asyncio.run(endure(through, cutting(proxy, seed=1), FAULTS - KILLS))
    asyncio.run(check(server.url + OPTIONS, endured))
    # Requests are repeated until they are answered. What is unknown then is what another writer's commit has hidden.
    assert endured.unavailable == 0
    with capsys.disabled():
        print(f"\ndynamodb, connections cut: {endured}")


@pytest.mark.timeout(60 + 20 * FAULTS)
def test_what_was_acknowledged_is_there_once_and_whole_after_sigkill_of_the_server(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    endured = asyncio.run(endure(server.url + OPTIONS, killing(server, seed=2), KILLS))
    asyncio.run(check(server.url + OPTIONS, endured))
    with capsys.disabled():
        print(f"\ndynamodb, server killed: {endured}")
