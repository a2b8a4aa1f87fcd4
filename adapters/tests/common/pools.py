"""What the connections of every store on a server outlast: slow answers, cancelled calls, event loops that end."""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

from opening import ALL, THREAD

from threadkeep.port import Changes, Guard, Record, Thread
from threadkeep_contract.faults.proxy import Proxy

LOOPS: Final = 5
AT_ONCE: Final = 5


def change(name: str, **fields: Any) -> Changes:
    """What adds one message, that is told by its name, and whatever else is given."""
    return Changes(at=1, epoch="e", append=(Record(name, name, f'"{name}"'),), **fields)


async def ids(store: Guard, thread: Thread = THREAD) -> list[str]:
    """The names of all messages, in their order."""
    return [record.id for record in (await store.load(thread, ALL)).records]


async def comes_to_none(count: Callable[[], int | Awaitable[int]]) -> bool:
    """Whether all connections come to be closed: who counts them needs a moment to notice."""
    deadline = time.monotonic() + 10
    while True:
        left = count()
        if not (await left if isinstance(left, Awaitable) else left):
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)


async def wait_for_a_slow_server(store: Guard, proxy: Proxy, threads: Sequence[Thread], delay: float = 0.1) -> None:
    """Assert that commits to some threads at once, some of them perhaps the same, are all done; and close the store."""
    await store.open()
    proxy.delay = delay
    await asyncio.gather(*(store.commit(thread, change(f"{number}")) for number, thread in enumerate(threads)))
    done = await asyncio.gather(*(ids(store, thread) for thread in threads))
    for thread, found in zip(threads, done, strict=True):
        assert sorted(found) == sorted(f"{number}" for number, other in enumerate(threads) if other == thread)
    await store.close()


async def cancel(works: Iterable[Awaitable[object]], moment: Awaitable[object]) -> None:
    """Begin some works, cancel them after a moment, and assert that none ended in an error."""
    tasks = [asyncio.ensure_future(work) for work in works]
    await moment
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(not isinstance(result, Exception) for result in results), results


def use_in_loops_that_end(store: Guard, none_left: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    """Assert that each event loop takes its connections along, and nothing warns of it; and close the store."""

    async def use(number: int) -> None:
        await asyncio.gather(*(store.commit(THREAD, change(f"{number}.{one}")) for one in range(AT_ONCE)))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(LOOPS):
            asyncio.run(use(number))
            gc.collect()
            assert asyncio.run(none_left())
        found = asyncio.run(ids(store))
        asyncio.run(store.close())
        gc.collect()
        assert asyncio.run(none_left())
    assert [str(warning.message) for warning in caught] == []
    assert sorted(found) == [f"{number}.{one}" for number in range(LOOPS) for one in range(AT_ONCE)]
    assert [name.partition(".")[0] for name in found] == [
        f"{number}" for number in range(LOOPS) for _ in range(AT_ONCE)
    ]
