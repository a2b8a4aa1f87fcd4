"""Connections that end while nobody uses them, and answers that make no sense, on every kind of server (law 12)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import pytest
import store_urls
from pools import change, ids

from threadkeep.errors import OutcomeUnknown, StoreError, StoreUnavailable
from threadkeep.port import Thread, open_store, proxied
from threadkeep_contract.faults.proxy import Proxy

pytestmark = pytest.mark.slow

AT_ONCE: Final = 4

SCHEMES: Final = [
    pytest.param(scheme, marks=kind.left_behind)
    for scheme, kind in store_urls.KINDS.items()
    if scheme != "redis+cluster"  # it tells its clients where its nodes are, which is past the proxy
]


@pytest.fixture(params=SCHEMES)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Proxy]]:
    """The URL of a store whose connections go through a proxy, and that."""
    with ExitStack() as opened:
        proxies: list[Proxy] = []

        def through(host: str, port: int) -> tuple[str, int]:
            proxies.append(opened.enter_context(Proxy(host, port)))
            return "127.0.0.1", proxies[-1].port

        url = proxied(store_urls.ready(request.param, tmp_path), through)
        assert url is not None
        (proxy,) = proxies
        yield url, proxy


async def test_the_end_of_an_idle_connection_is_known_before_anything_is_sent(way: tuple[str, Proxy]) -> None:
    """The loop stands still meanwhile, as that of a suspended process; one that turns reads the end by itself."""
    url, proxy = way
    thread = Thread(f"idle-{time.time_ns()}", "t")
    expected: list[str] = []
    store = open_store(url)
    for turn in range(3):
        names = [f"{turn}.{number}" for number in range(AT_ONCE)]
        await asyncio.gather(*(store.commit(thread, change(name)) for name in names))
        expected += names
        proxy.drop_all()
        while proxy.open_connections:
            time.sleep(0.01)  # noqa: ASYNC251 - this loop is to stand still
        time.sleep(0.05)  # noqa: ASYNC251
    assert sorted(await ids(store, thread)) == expected
    await store.close()


@pytest.mark.parametrize("way", ["redis", "mongodb"], indirect=True)
async def test_an_answer_that_makes_no_sense_is_a_lost_connection(way: tuple[str, Proxy]) -> None:
    """On PostgreSQL's wire such bytes announce more of them, for which a driver waits as long as it may."""
    url, proxy = way
    thread = Thread(f"garbled-{time.time_ns()}", "t")
    store = open_store(url)
    await store.commit(thread, change("first"))
    await ids(store, thread)
    proxy.garble(1)
    with suppress(StoreUnavailable):
        assert await ids(store, thread) == ["first"]
    assert await ids(store, thread) == ["first"]
    proxy.garble(1)
    with suppress(OutcomeUnknown, StoreUnavailable):
        await store.commit(thread, change("second"))
    assert (await store.commit(thread, change("second"))).positions == [2]
    assert await ids(store, thread) == ["first", "second"]
    await store.close()


@pytest.mark.parametrize("way", ["redis"], indirect=True)
async def test_a_server_that_never_makes_sense_is_an_error_that_nobody_repeats(way: tuple[str, Proxy]) -> None:
    url, proxy = way
    store = open_store(url)
    await store.open()
    proxy.garble(1000)
    with pytest.raises(StoreError, match=r"no reply of Redis|no Redis server") as failed:
        await store.load(Thread("garbled", "t"))
    assert not failed.value.retryable
    proxy.garble(0)
    await store.close()
