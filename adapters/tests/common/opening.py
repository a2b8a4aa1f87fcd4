"""Works on a store that is opened for them, and the errors in which they end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from threadkeep.errors import ThreadkeepError
from threadkeep.port import Changes, Guard, Put, Record, Thread, Window, open_store

THREAD = Thread("alice", "support")
ALL = Window(before=10_000)
ONE = Changes(at=1, epoch="e", append=(Record("m1", "d1", '"hello"'),), puts=(Put("work", "1"),))


def run(url: str, *works: Callable[[Guard], Awaitable[Any]]) -> Any:
    """What the last of some works on one store gives; without any, the store is made and closed, not opened."""

    async def main() -> Any:
        store = open_store(url)
        result = None
        try:
            for work in works:
                result = await work(store)
            return result
        finally:
            await store.close()

    return asyncio.run(main())


def commit(store: Guard) -> Awaitable[Any]:
    return store.commit(THREAD, ONE)


def load(store: Guard) -> Awaitable[Any]:
    return store.load(THREAD, ALL)


def opened(store: Guard) -> Awaitable[None]:
    return store.open()


def refused(kind: type[ThreadkeepError], url: str, *works: Callable[[Guard], Awaitable[Any]]) -> str:
    """The text of the error that the works end in, or that the URL itself meets."""
    with pytest.raises(kind) as caught:
        run(url, *works)
    assert type(caught.value) is kind
    return str(caught.value)
