"""What the tests of core share: every test of a handle runs on each store that needs no server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from fixtures import Before

from threadkeep import Memory


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store."""
    return f"memory://{uuid.uuid4().hex}" if request.param == "memory" else f"sqlite:///{tmp_path / 'threads.db'}"


@pytest.fixture
async def memory(url: str) -> AsyncIterator[Memory]:
    """A Memory on an empty store, open, and closed afterwards."""
    async with Memory(url) as memory:
        yield memory


@pytest.fixture
def before() -> Before:
    """Lets an action run right before the nth call of a verb reaches the store: `before(memory, verb, n, action)`."""

    def arrange(memory: Memory, verb: str, nth: int, action: Callable[[], Awaitable[object]]) -> None:
        store = memory.store.store
        call = getattr(store, verb)
        count = 0

        async def watched(*arguments: object) -> object:
            nonlocal count
            count += 1
            if count == nth:
                await action()
            return await call(*arguments)

        setattr(store, verb, watched)

    return arrange
