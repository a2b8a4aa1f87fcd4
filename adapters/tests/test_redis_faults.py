"""Faults of the server and of the wire while a Redis store commits (laws 2, 3, 4, 6)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

import pytest
import servers
from faults import FAULTS, check, cutting, endure, killing
from proxy import Proxy
from redis_server import REDIS, REDIS_CLUSTER
from servers import Kind, Server

KILLS: Final = max(1, FAULTS // 5)
CLUSTER_KILLS: Final = max(1, FAULTS // 10)
"""A cluster takes seconds to agree that it is whole again."""

OPTIONS: Final = "?timeout=10&connect_timeout=5"


@pytest.fixture(scope="module", params=[REDIS, REDIS_CLUSTER], ids=lambda kind: kind.name)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    kind: Kind = request.param
    private = servers.private(kind)
    yield private
    private.stop()


@pytest.mark.timeout(60 + 10 * FAULTS)
def test_what_was_acknowledged_is_there_once_and_whole_after_cut_connections(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a single server: a cluster tells its clients where its nodes are, which is past the proxy."""
    server = servers.private(REDIS)
    with Proxy(server.host, server.port) as proxy:
        through = REDIS.url("127.0.0.1", proxy.port) + OPTIONS
        endured = asyncio.run(endure(through, cutting(proxy, seed=1), FAULTS - KILLS))
    asyncio.run(check(server.url + OPTIONS, endured))
    server.stop()
    # Cuts after the request and in the answer hide commits that happened, so that repetitions meet them.
    assert endured.unknown > 0
    with capsys.disabled():
        print(f"\nredis, connections cut: {endured}")


@pytest.mark.timeout(60 + 10 * FAULTS)
def test_what_was_acknowledged_is_there_once_and_whole_after_sigkill_of_the_server(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the settings that the store's page names: appendonly yes, appendfsync always."""
    kills = KILLS if server.kind is REDIS else CLUSTER_KILLS
    endured = asyncio.run(endure(server.url + OPTIONS, killing(server, seed=2), kills))
    asyncio.run(check(server.url + OPTIONS, endured))
    with capsys.disabled():
        print(f"\n{server.kind.name}, server killed: {endured}")
