"""The one door that sees across resources."""

from __future__ import annotations

from collections.abc import AsyncIterator

from threadkeep.handles.access import Access
from threadkeep.handles.cursors import make_cursor, read_cursor
from threadkeep.handles.resource import ResourceHandle
from threadkeep.handles.views import Page, ThreadInfo
from threadkeep.port.checks import MAX_PAGE, check_page
from threadkeep.port.store import Order


class Admin:
    """Administration across resources. It has to be asked for by name: `memory.admin`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def resources(self) -> AsyncIterator[str]:
        """The ids of all resources that have a thread or a working memory, by code point."""
        cursor = None
        while True:
            page = await self.resources_page(limit=MAX_PAGE, cursor=cursor)
            for resource_id in page.items:
                yield resource_id
            cursor = page.cursor
            if cursor is None:
                return

    async def resources_page(self, *, limit: int = 50, cursor: str | None = None) -> Page[str]:
        """A page of resource ids, at most `limit` (1 to 1,000). Raises InvalidCursor, InvalidInput."""
        check_page(limit)
        query = ("list of resources",)
        after = None if cursor is None else read_cursor(cursor, query, (str,))[0]
        asked = min(limit + 1, MAX_PAGE)
        ids = list(await self._access.store.resources(after, asked))
        more = len(ids) == asked
        return Page(items=ids[:limit], cursor=make_cursor(query, (ids[:limit][-1],)) if more else None)

    async def threads(self, *, order: Order = "created") -> AsyncIterator[ThreadInfo]:
        """All threads of all resources, resource by resource."""
        async for resource_id in self.resources():
            async for info in self.resource(resource_id).threads(order=order):
                yield info

    def resource(self, resource_id: str, *, read_only: bool = False) -> ResourceHandle:
        """The handle of any resource."""
        return ResourceHandle(self._access, resource_id, read_only=read_only)
