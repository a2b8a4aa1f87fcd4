"""Faults of the server and of the wire while a MongoDB store commits (laws 2, 3, 4, 6).

mongo-java-server is not killed: it acknowledges what it has not yet written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

import pytest
import servers
from faults import FAULTS, check, cutting, endure, killing
from mongodb_server import FERRETDB, MONGO_JAVA_SERVER, MONGOD, with_options
from proxy import Proxy
from servers import Kind, Server

KILLS: Final = max(1, FAULTS // 5)
OPTIONS: Final = "serverSelectionTimeoutMS=5000&socketTimeoutMS=5000"

DURABLE: Final[list[Kind]] = [FERRETDB]
if MONGOD.find() is not None or servers.docker_answers():
    DURABLE.append(MONGOD)


@pytest.fixture(scope="module", params=[*DURABLE, MONGO_JAVA_SERVER], ids=lambda kind: kind.name)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    private = servers.private(request.param)
    yield private
    private.stop()


@pytest.mark.timeout(60 + 10 * FAULTS)
def test_what_was_acknowledged_is_there_once_and_whole_after_cut_connections(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    with Proxy(server.host, server.port) as proxy:
        through = with_options(server.kind.url("127.0.0.1", proxy.port), OPTIONS)
        endured = asyncio.run(endure(through, cutting(proxy, seed=1), FAULTS - KILLS))
    asyncio.run(check(with_options(server.url, OPTIONS), endured))
    # Cuts after the request and in the answer hide commits that happened, so that repetitions meet them.
    assert endured.unknown > 0
    with capsys.disabled():
        print(f"\n{server.kind.name}, connections cut: {endured}")


@pytest.fixture(scope="module", params=DURABLE, ids=lambda kind: kind.name)
def durable(request: pytest.FixtureRequest) -> Iterator[Server]:
    private = servers.private(request.param)
    yield private
    private.stop()


@pytest.mark.timeout(60 + 10 * FAULTS)
def test_what_was_acknowledged_is_there_once_and_whole_after_sigkill_of_the_server(
    durable: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    endured = asyncio.run(endure(with_options(durable.url, OPTIONS), killing(durable, seed=2), KILLS))
    asyncio.run(check(with_options(durable.url, OPTIONS), endured))
    with capsys.disabled():
        print(f"\n{durable.kind.name}, server killed: {endured}")
