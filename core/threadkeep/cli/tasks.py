"""Work shared out to several tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def share_out(items: Iterable[T], work: Callable[[T], Awaitable[None]], tasks: int) -> None:
    """Await `work` on every item, in so many tasks at once. The first error ends all of them and is raised."""
    left = iter(items)

    async def take() -> None:
        for item in left:
            await work(item)

    running = [asyncio.create_task(take()) for _ in range(tasks)]
    try:
        await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
