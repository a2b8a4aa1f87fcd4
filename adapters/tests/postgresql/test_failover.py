"""A primary that only reads from now on, behind one address (laws 6 and 12)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import servers
from opening import ALL, THREAD
from pools import change
from postgresql_server import POSTGRESQL, connect
from servers import Server

from threadkeep.errors import StoreUnavailable
from threadkeep.port import open_store
from threadkeep_contract.faults.proxy import Proxy

pytestmark = pytest.mark.slow


@pytest.fixture
def pair() -> Iterator[tuple[Server, Server]]:
    """A primary, and the server that will take its place."""
    made = [servers.private(POSTGRESQL) for _ in range(2)]
    yield made[0], made[1]
    for server in made:
        server.stop()


async def test_after_a_failover_writing_goes_on_over_new_connections(pair: tuple[Server, Server]) -> None:
    old, new = pair
    with Proxy(old.host, old.port) as proxy:
        url = old.url.replace(f":{old.port}/", f":{proxy.port}/")
        store = open_store(url)
        await asyncio.gather(*(store.commit(THREAD, change(f"m{number}")) for number in range(5)))
        taking_over = open_store(new.url)
        await taking_over.commit(THREAD, change("later"))
        await taking_over.close()
        admin = await connect(old.url)
        await admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await admin.execute("SELECT pg_reload_conf()")
        while await admin.fetchval("SHOW default_transaction_read_only") != "on":  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        with pytest.raises(StoreUnavailable, match=r"25006.*connect to the primary server"):
            await store.commit(THREAD, change("refused"))
        proxy.lead_to(new.host, new.port)
        await asyncio.gather(*(store.commit(THREAD, change(f"n{number}")) for number in range(5)))
        kept = {record.id for record in (await store.load(THREAD, ALL)).records}
        assert kept == {"later", *(f"n{number}" for number in range(5))}
        await admin.close()
        await store.close()
