"""A Memory: the conversations of one store, and the way to its resources."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Self

from threadkeep.handles.access import Access
from threadkeep.handles.admin import Admin
from threadkeep.handles.resource import ResourceHandle
from threadkeep.handles.thread import ThreadHandle
from threadkeep.port.guard import Guard
from threadkeep.port.registry import open_store
from threadkeep.port.store import Store


class Memory:
    """The conversations of one store.

    `store` is a URL such as "sqlite:///support.db", a Store, or None: then the environment's THREADKEEP_URL, else the
    SQLite file threadkeep.db in the working directory. `clock` gives aware datetimes and is the source of every
    `created_at`, `updated_at` and `stored_at`; order never comes from it.

    The store is opened by the first call that needs it. Close it with `close`, or use `async with`.
    Raises InvalidURL and its kinds, and PluginError.
    """

    def __init__(
        self, store: str | Store | Guard | None = None, *, clock: Callable[[], datetime] | None = None
    ) -> None:
        if isinstance(store, Store):
            store = Guard(store)
        self.store = store if isinstance(store, Guard) else open_store(store)
        self.access = Access(self.store, clock)

    def now(self) -> int:
        """The time by this memory's clock, in microseconds since 1970 UTC.

        Raises InvalidInput if the clock's datetimes have no time zone.
        """
        return self.access.now()

    async def open(self) -> Self:
        """Open the store now, and so learn now whether it can be. Safe to repeat."""
        await self.store.open()
        return self

    async def close(self) -> None:
        """Close the store. Safe to repeat; any other use afterwards is StoreClosed."""
        await self.store.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def resource(self, resource_id: str, *, read_only: bool = False) -> ResourceHandle:
        """The handle of a resource: the user or entity that owns threads. It need not exist yet.

        Raises InvalidId, LimitExceeded.
        """
        return ResourceHandle(self.access, resource_id, read_only=read_only)

    def thread(self, resource_id: str, thread_id: str, *, read_only: bool = False) -> ThreadHandle:
        """The handle of a thread, short for `resource(resource_id).thread(thread_id)`."""
        return self.resource(resource_id, read_only=read_only).thread(thread_id)

    @property
    def admin(self) -> Admin:
        """The only door that sees across resources."""
        return Admin(self.access)
