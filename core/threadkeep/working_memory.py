"""The working memory of a thread or of a resource: a versioned record of its own (law 9)."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

from threadkeep.errors import InvalidContent, ReadOnly, TailMoved, ThreadNotFound, VersionMoved
from threadkeep.limits import canonical_json
from threadkeep.messages import new_id
from threadkeep.store import Changes, Put, Scope, Thread, Window
from threadkeep.views import WORKING_MEMORY, WorkingMemory, read_memory

if TYPE_CHECKING:
    from threadkeep.memory import Memory

MAX_ATTEMPTS: Final = 1000
"""How often a merge patch is tried anew. Each failure means that another writer got through, so this bounds a wait
that would otherwise end only with the competition."""


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

    def __init__(self, memory: Memory, scope: Scope, *, read_only: bool) -> None:
        self._memory = memory
        self._scope = scope
        self._read_only = read_only

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
        for attempt in range(MAX_ATTEMPTS):
            now, epoch = await self._load()
            try:
                return await self._write("patch", merge_patch(now.value, patch), now.version, epoch)
            except (VersionMoved, TailMoved):
                if attempt == MAX_ATTEMPTS - 1:
                    raise
                # Losers that come back in step would lose again together.
                await asyncio.sleep(random.uniform(0, 0.001 * min(attempt, 20)))
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _load(self) -> tuple[WorkingMemory, str | None]:
        snapshot = await self._memory.store.load(self._scope, Window())
        if isinstance(self._scope, Thread):
            if self._read_only and not snapshot.tail.epoch:
                raise ThreadNotFound(self._scope.thread_id)
            return read_memory(snapshot.docs), snapshot.tail.epoch
        return read_memory(snapshot.resource_docs), None

    async def _write(self, verb: str, value: Any, if_version: int | None, if_epoch: str | None) -> WorkingMemory:
        if self._read_only:
            raise ReadOnly(verb)
        body = None if value is None else canonical_json(value, "working memory")
        changes = Changes(at=self._memory.now(), puts=(Put(WORKING_MEMORY, body, if_version),))
        if isinstance(self._scope, Thread):
            changes = Changes(at=changes.at, puts=changes.puts, epoch=new_id(), if_epoch=if_epoch)
        receipt = await self._memory.store.commit(self._scope, changes)
        return WorkingMemory(version=receipt.versions[0], value=value)
