"""The first calls of a store, made at once: one opening for all of them, on every store (law 12)."""

from __future__ import annotations

import asyncio
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest
import servers
import store_urls
from postgresql_server import POSTGRESQL

from threadkeep.port import Guard, Thread, open_store

CALLS = 60
STORES = sorted(set(store_urls.SCHEMES) & set(store_urls.URLS))


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store, whose server is there."""
    return store_urls.ready(request.param, tmp_path)


async def load(guard: Guard, calls: int) -> None:
    await asyncio.gather(*(guard.load(Thread(f"user {number}", "t")) for number in range(calls)))


async def trips_of_loads(url: str, calls: int) -> tuple[int, int]:
    """Round trips of so many first loads at once, and of as many later ones."""
    guard = open_store(url)
    await load(guard, calls)
    first = guard.meter.trips
    await load(guard, calls)
    later = guard.meter.trips - first
    await guard.close()
    return first, later


async def test_first_calls_at_once_take_the_round_trips_of_one_opening(url: str) -> None:
    await trips_of_loads(url, 1)  # makes the place
    one, one_more = await trips_of_loads(url, 1)
    many, many_more = await trips_of_loads(url, CALLS)
    assert many - many_more <= one - one_more


def test_threads_whose_first_calls_meet_share_one_opening(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    guard, start = open_store(url), threading.Barrier(4)
    open_it, openings = guard.store.open, list[int]()

    async def counted() -> None:
        openings.append(threading.get_ident())
        await open_it()

    monkeypatch.setattr(guard.store, "open", counted)

    async def use() -> None:
        start.wait()
        await load(guard, 5)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(asyncio.run, (use() for _ in range(4))))
    assert len(openings) == 1
    asyncio.run(guard.close())


@pytest.mark.parametrize("opened", [False, True], ids=["not opened", "opened before"])
async def test_first_calls_at_once_have_no_more_connections_than_the_pool(opened: bool) -> None:
    server = servers.shared(POSTGRESQL).url
    name = f"first-{uuid.uuid4().hex[:8]}"
    guard = open_store(f"{server}?schema=first_calls&connections=5&application_name={name}")
    await trips_of_loads(f"{server}?schema=first_calls", 1)
    watcher = await asyncpg.connect(server)
    if opened:
        await guard.open()
    loading = asyncio.ensure_future(load(guard, CALLS))
    most = 0
    while not loading.done():
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
        most = max(most, await watcher.fetchval(count, name))
    await loading
    await guard.close()
    await watcher.close()
    assert 1 <= most <= 6  # the one that opened may still be ending when the pool has its five
