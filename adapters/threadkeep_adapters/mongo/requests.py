"""The requests of the store, each one round trip unless it says more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, ConnectionFailure, DuplicateKeyError

from threadkeep.errors import StoreUnavailable
from threadkeep.port import KIB, MIB
from threadkeep_adapters.mongo.errors import DUPLICATE_KEY
from threadkeep_adapters.mongo.layout import (
    INLINE_TOTAL,
    RESOURCE_FIELDS,
    THREAD_FIELDS,
    Cut,
    Document,
    ResourceState,
    ThreadState,
    commit_id,
    number_of,
    registry_id,
)

T = TypeVar("T")

RECORD_BYTES: Final = 2 * KIB
"""What a record takes beside its body, its id of at most 512 bytes included."""

REPLY_BYTES: Final = 16 * MIB
"""How large a reply may be; MongoDB itself begins another one there, other servers do not."""


async def reading(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer to what only reads: a lost connection means that nothing was written."""
    try:
        return await ask()
    except ConnectionFailure as error:
        raise StoreUnavailable(str(error)) from error


class Requests:
    """What is asked of one collection of commits, and of the list of resources."""

    def __init__(self, database: AsyncDatabase[Document], commits: str, registry: str) -> None:
        self.commits: AsyncCollection[Document] = database[commits]
        self.registry: AsyncCollection[Document] = database[registry]

    async def find(
        self, query: Document, projection: Document | None = None, *, largest: int = INLINE_TOTAL
    ) -> list[Document]:
        """All that matches, of documents that have about so many bytes at most. One more round trip every 16 MiB."""
        found = self.commits.find(query, projection, batch_size=max(2, REPLY_BYTES // (largest + RECORD_BYTES)))
        return await reading(found.to_list)

    async def page(
        self, query: Document, key: str, limit: int, *, falling: bool, projection: Document | None = None
    ) -> list[Document]:
        """The first that match, in the order of a key."""
        found = self.commits.find(query, projection, batch_size=limit + 1, limit=limit)
        return await reading(found.sort(key, -1 if falling else 1).to_list)

    async def valid(self, records: Sequence[Document], resource: str) -> list[Document]:
        """Those records whose commits happened."""
        if not records:
            return []
        ids = sorted({commit_id(resource, int(record["w"])) for record in records})
        found = await self.find({"_id": {"$in": ids}}, {"z": 1}, largest=0)
        return happened(records, resource, found)

    async def insert(self, documents: list[Document]) -> bool:
        """Insert in order, the commit last; False, with nothing left behind, where another commit came first.

        Two round trips where it lost.
        """
        try:
            await self.commits.insert_many(documents, ordered=True)
        except BulkWriteError as error:
            details: dict[str, Any] = dict(error.details or {})
            failed = details.get("writeErrors", [])
            if not failed or any(each.get("code") != DUPLICATE_KEY for each in failed):
                raise
            if len(documents) > 1:
                await self.commits.delete_many({"_id": {"$in": [each["_id"] for each in documents[:-1]]}})
            return False
        return True

    async def supersede(self, seen: Sequence[Document], resource: str, thread: str, number: int) -> None:
        """Take from commits before `number` the states that are not the newest any more."""
        updates = []
        for commit in seen:
            fields: list[str] = []
            if commit.get("h") == resource:
                fields += RESOURCE_FIELDS
            if thread and commit.get("s") == thread:
                fields += THREAD_FIELDS
            if fields and number_of(commit) < number:
                updates.append(UpdateOne({"_id": commit["_id"]}, {"$unset": dict.fromkeys(fields, "")}))
        if updates:
            await self.commits.bulk_write(updates, ordered=False)

    async def forget_bodies(self, places: Sequence[str]) -> None:
        """Remove texts of documents that no state names any more."""
        if places:
            await self.commits.delete_many({"_id": {"$in": list(places)}})

    async def sweep_cut(self, resource: str, thread: str, cut: Cut) -> None:
        """Remove what a truncation dropped."""
        await self.commits.delete_many(
            {"r": resource, "t": thread, "o": {"$gte": cut.ordinal}, "w": {"$lt": cut.number}}
        )

    async def sweep_thread(self, resource: str, thread: str, number: int, seen: Sequence[Document]) -> None:
        """Remove what a thread held until the commit `number`, which deleted it. Three round trips."""
        await self.commits.delete_many({"r": resource, "t": thread, "w": {"$lte": number}})
        await self.supersede(seen, resource, thread, number)
        await self.commits.update_one({"_id": commit_id(resource, number)}, {"$unset": {"su": ""}})

    async def sweep_resource(self, state: ResourceState, resource_id: str) -> None:
        """Remove what a resource held until the commit which erased it. Four round trips."""
        key, number = state.key, state.floor
        await self.commits.delete_many({"r": key, "w": {"$lte": number}})
        below = {"_id": {"$gte": commit_id(key, 0), "$lt": commit_id(key, number)}}
        await self.commits.update_many(below, {"$unset": dict.fromkeys([*RESOURCE_FIELDS, *THREAD_FIELDS], "")})
        await self.unregister(resource_id, below=number)
        await self.commits.update_one({"_id": commit_id(key, number)}, {"$unset": {"hu": ""}})

    async def register(self, resource_id: str, key: str, generation: int) -> None:
        """Put a resource on the list, in a generation of it that may never come to be."""
        entry = {
            "_id": registry_id(resource_id, generation),
            "i": resource_id,
            "k": key,
            "g": generation,
        }
        with suppress(DuplicateKeyError):
            await self.registry.insert_one(entry)

    async def unregister(self, resource_id: str, *, below: int) -> None:
        """Take the generations of a resource before one from the list."""
        bounds = {"$gte": registry_id(resource_id, 0), "$lt": registry_id(resource_id, below)}
        await self.registry.delete_many({"_id": bounds})


def look(resource: str, thread: str = "", records: Collection[str] = (), position: int | None = None) -> Document:
    """The query for the newest states of a resource and a thread, and for records by key or position."""
    wanted: list[Document] = [{"h": resource}]
    if thread:
        wanted.append({"s": thread})
    if records:
        wanted.append({"k": {"$in": list(records)}})
    if position is not None:
        wanted.append({"t": thread, "p": position})
    return {"$or": wanted} if len(wanted) > 1 else wanted[0]


def happened(records: Sequence[Document], resource: str, commits: Sequence[Document]) -> list[Document]:
    """Those records whose commits are among some that were read."""
    nonces = {commit["_id"]: commit["z"] for commit in commits}
    return [record for record in records if nonces.get(commit_id(resource, int(record["w"]))) == record["z"]]


def records_of(found: Sequence[Document], thread: ThreadState) -> list[Document]:
    """Documents that are records and may be the thread's own."""
    return [each for each in found if each.get("t") == thread.key and "p" in each and thread.holds(each)]
