"""The working memory of a thread or of a resource: a versioned record of its own (law 9)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Literal, TypeAlias

from threadkeep.errors import InvalidContent, ReadOnly, TailMoved, ThreadNotFound, VersionMoved
from threadkeep.handles.access import Access
from threadkeep.handles.views import WORKING_MEMORY, WorkingMemory, read_memory
from threadkeep.port.canonical import canonical_json
from threadkeep.port.ids import new_id
from threadkeep.port.store import Changes, Put, Resource, Scope, Thread, Window

MemoryScope: TypeAlias = Literal["thread", "resource"]
"""Whose working memory: the thread's own, or the one that all threads of the resource share."""

LOST_RACES: Final = 1000
"""How many races an update may lose. Each one means that another writer got through, so this bounds a wait that would
otherwise end only with the competition."""


def merge_patch(target: Any, patch: Any) -> Any:
    """A JSON merge patch applied (RFC 7396): objects are merged, null removes a key, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


class WorkingMemoryHandle:
    """The working memory of one scope. Taken from a resource or thread handle, never made by hand."""

    def __init__(
        self, access: Access, scope: Scope, *, read_only: bool, during: tuple[Thread, str] | None = None
    ) -> None:
        self._access = access
        self._scope = scope
        self._read_only = read_only
        self._during = during

    async def get(self) -> WorkingMemory:
        """The value and its version; version 0 and value None where nothing was ever put.

        Raises ThreadNotFound on a read-only handle of a thread that is not there.
        """
        return (await self._load())[0]

    async def put(self, value: Any, *, if_version: int | None = None) -> WorkingMemory:
        """Replace the value by any JSON value but None. With `if_version`, only if that is the version now.

        Raises VersionMoved, InvalidContent, LimitExceeded, ReadOnly. A thread that is not there is created.
        """
        if value is None:
            raise InvalidContent("None is no working memory; clear() removes what is there")
        return await self._write("put", value, if_version, None)

    async def clear(self, *, if_version: int | None = None) -> WorkingMemory:
        """Remove the value; the version goes on. Raises VersionMoved, ReadOnly."""
        return await self._write("clear", None, if_version, None)

    async def patch(self, patch: dict[str, Any]) -> WorkingMemory:
        """Apply a JSON merge patch (RFC 7396) as one atomic step, however many others patch at the same time.

        Raises InvalidContent (also for a patch that is no object: that would replace everything), LimitExceeded,
        ReadOnly; VersionMoved only after 1,000 lost races.
        """
        if self._read_only:
            raise ReadOnly("patch")
        canonical_json(patch, "patch")
        if not isinstance(patch, dict):
            raise InvalidContent(f"a patch must be a JSON object, not {type(patch).__name__}; put() replaces the value")
        return await self.update(lambda now: merge_patch(now.value, patch))

    async def update(self, change: Callable[[WorkingMemory], Any]) -> WorkingMemory:
        """Put what `change` makes of the value, as one atomic step: another writer in between, and it is asked again.

        `change` gets the value with its version, and gives any JSON value but None, without changing what it got;
        where it gives the very value that it got, nothing is written. What it raises is raised, with nothing written.
        Raises as `put`, but VersionMoved only after 1,000 lost races.
        """
        if self._read_only:
            raise ReadOnly("update")
        for lost in range(LOST_RACES):
            now, epoch = await self._load()
            value = change(now)
            if value is None:
                raise InvalidContent("None is no working memory; clear() removes what is there")
            if value is now.value:
                return now
            try:
                return await self._write("update", value, now.version, epoch)
            except (VersionMoved, TailMoved):
                if lost == LOST_RACES - 1:
                    raise
                # Losers that come back in step would lose again together.
                await asyncio.sleep(random.uniform(0, 0.001 * min(lost, 20)))
        raise AssertionError("unreachable: the last race is won, or its loss is raised")

    async def _load(self) -> tuple[WorkingMemory, str | None]:
        thread, epoch = self._during or (self._scope, None)
        snapshot = await self._access.store.load(thread, Window())
        if isinstance(thread, Thread) and (
            snapshot.tail.epoch != epoch if self._during else self._read_only and not snapshot.tail.epoch
        ):
            raise ThreadNotFound(thread.thread_id)
        if isinstance(self._scope, Thread):
            return read_memory(snapshot.docs), snapshot.tail.epoch
        return read_memory(snapshot.resource_docs), None

    async def _write(self, verb: str, value: Any, if_version: int | None, if_epoch: str | None) -> WorkingMemory:
        if self._read_only:
            raise ReadOnly(verb)
        put = Put(WORKING_MEMORY, None if value is None else canonical_json(value, "working memory"), if_version)
        thread, epoch = self._during or (self._scope, if_epoch)
        changes = Changes(at=self._access.now(), puts=(put,))
        if isinstance(thread, Thread):
            changes = replace(changes, epoch=new_id(), if_epoch=epoch)
        if thread != self._scope and isinstance(self._scope, Resource):
            changes = replace(changes, puts=(), resource_puts=(put,))
        try:
            receipt = await self._access.store.commit(thread, changes)
        except TailMoved:
            if self._during is None:
                raise
            raise ThreadNotFound(self._during[0].thread_id) from None
        version = receipt.versions[0] if changes.puts else receipt.resource_versions[0]
        return WorkingMemory(version=version, value=value)
