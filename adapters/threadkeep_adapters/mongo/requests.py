"""The requests of the store, each one round trip unless it says more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from threadkeep.errors import StoreUnavailable
from threadkeep.port import KIB, MIB, Scope
from threadkeep_adapters.mongo.errors import DUPLICATE_KEY, LOST
from threadkeep_adapters.mongo.layout import (
    INLINE_TOTAL,
    RESOURCE_FIELDS,
    THREAD_FIELDS,
    Cut,
    Document,
    Found,
    ThreadState,
    commit_id,
    commit_of,
    happened,
    number_of,
    possible_records,
    read_found,
    record_key,
    registry_id,
    scope_keys,
)

RECORD_BYTES: Final = 2 * KIB
"""What a record takes beside its body, its id of at most 512 bytes included."""

REPLY_BYTES: Final = 16 * MIB
"""How large a reply may be; MongoDB itself begins another one there, other servers do not."""

NEAREST: Final = 8
"""How many records are read at once to find the newest up to a position, since some may not count."""

SCHEMA_CHANGED: Final = "database schema has changed"
"""What FerretDB on SQLite answers to a query while another client makes a collection; the next one is answered."""


async def _fetch(cursor: AsyncCursor[Document]) -> list[Document]:
    """All that a query finds. A connection that was lost, or a server that is busy, means that nothing was written."""
    try:
        return await cursor.to_list()
    except LOST as error:
        raise StoreUnavailable(str(error)) from error
    except OperationFailure as error:
        if SCHEMA_CHANGED in str(error):
            raise StoreUnavailable(str(error)) from error
        raise


async def read_registry(registry: AsyncCollection[Document], after: str, limit: int) -> list[Document]:
    """The first entries of the list of all resources after a place, in order."""
    found = registry.find({"_id": {"$gt": after}}, batch_size=limit + 1, limit=limit)
    return await _fetch(found.sort("_id", 1))


class Requests:
    """What is asked about one scope: of the collection that has its commits, and of the list of all resources."""

    def __init__(self, scope: Scope, commits: AsyncCollection[Document], registry: AsyncCollection[Document]) -> None:
        self.resource_id = scope.resource_id
        self.resource, self.thread = scope_keys(scope)
        self.commits = commits
        self._registry = registry

    async def find(
        self, query: Document, projection: Document | None = None, *, largest: int = INLINE_TOTAL
    ) -> list[Document]:
        """All that matches, of documents that have about so many bytes at most. One more round trip every 16 MiB."""
        found = self.commits.find(query, projection, batch_size=max(2, REPLY_BYTES // (largest + RECORD_BYTES)))
        return await _fetch(found)

    async def page(
        self, query: Document, key: str, limit: int, *, falling: bool, projection: Document | None = None
    ) -> list[Document]:
        """The first that match, in the order of a key."""
        found = self.commits.find(query, projection, batch_size=limit + 1, limit=limit)
        return await _fetch(found.sort(key, -1 if falling else 1))

    def record_keys(self, ids: Iterable[str]) -> list[str]:
        """The keys of the thread's records that have some ids."""
        return [record_key(self.thread, each) for each in ids]

    async def look(self, keys: Sequence[str] = (), position: int | None = None) -> Found:
        """The newest states of resource and thread, with the records of some keys, or at a position, without bodies.

        No instant: the parts of the query may be answered at different moments, in any order.
        """
        wanted: list[Document] = [{"h": self.resource}]
        if self.thread:
            wanted.append({"s": self.thread})
        if keys:
            wanted.append({"k": {"$in": list(keys)}})
        if position is not None:
            wanted.append({"t": self.thread, "p": position})
        query = {"$or": wanted} if len(wanted) > 1 else wanted[0]
        return read_found(await self.find(query, {"body": 0}, largest=0), self.resource, self.thread)

    async def valid(self, records: Sequence[Document]) -> list[Document]:
        """Those records whose commits happened."""
        if not records:
            return []
        ids = sorted({commit_of(record, self.resource) for record in records})
        found = await self.find({"_id": {"$in": ids}}, {"z": 1}, largest=0)
        return happened(records, self.resource, found)

    async def confirmed(
        self, thread: ThreadState, keys: Sequence[str], hints: Sequence[Document] = ()
    ) -> list[Document]:
        """Those of the thread's records that have some keys, asked for after its state was read, without bodies.

        `hints` are records that are expected; one more round trip for others.
        """
        commits = sorted({commit_of(each, self.resource) for each in hints})
        query: Document = {"k": {"$in": list(keys)}}
        if commits:
            query = {"$or": [query, {"_id": {"$in": commits}}]}
        found = await self.find(query, {"body": 0, "hd": 0, "sd": 0}, largest=0)
        records = possible_records(found, thread)
        others = [each for each in records if commit_of(each, self.resource) not in commits]
        return [*happened(records, self.resource, found), *await self.valid(others)]

    async def newest_until(self, thread: ThreadState, position: int) -> Document | None:
        """The thread's newest record up to a position, without its body. Two round trips where it is near."""
        while position > 0:
            query = {"t": self.thread, "p": {"$gt": 0, "$lte": position}}
            found = await self.page(query, "p", NEAREST, falling=True, projection={"body": 0})
            own = await self.valid(possible_records(found, thread))
            if own:
                return max(own, key=lambda record: int(record["p"]))
            if len(found) < NEAREST:
                return None
            # Never the same page again, where all on it have one position.
            position = min(int(found[-1]["p"]), position - 1)
        return None

    async def register(self, generation: int) -> None:
        """Put the resource on the list, in a generation of it that may never come to be."""
        entry = {
            "_id": registry_id(self.resource_id, generation),
            "i": self.resource_id,
            "k": self.resource,
            "g": generation,
        }
        with suppress(DuplicateKeyError):
            await self._registry.insert_one(entry)

    async def is_registered(self, generation: int) -> bool:
        """Whether the resource is on the list in a generation."""
        found = self._registry.find({"_id": registry_id(self.resource_id, generation)}, {"_id": 1})
        return bool(await _fetch(found))

    async def unregister(self, *, below: int) -> None:
        """Take the resource's generations before one from the list."""
        bounds = {"$gte": registry_id(self.resource_id, 0), "$lt": registry_id(self.resource_id, below)}
        await self._registry.delete_many({"_id": bounds})

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

    async def supersede(self, seen: Found, number: int) -> None:
        """Take from commits before `number` that a look found the states that are not the newest any more."""
        updates = []
        for commit in seen.documents:
            fields: list[str] = []
            if commit.get("h") == self.resource:
                fields += RESOURCE_FIELDS
            if self.thread and commit.get("s") == self.thread:
                fields += THREAD_FIELDS
            if fields and number_of(commit) < number:
                updates.append(UpdateOne({"_id": commit["_id"]}, {"$unset": dict.fromkeys(fields, "")}))
        if updates:
            await self.commits.bulk_write(updates, ordered=False)

    async def forget_bodies(self, places: Sequence[str]) -> None:
        """Remove texts of documents that no state names any more."""
        if places:
            await self.commits.delete_many({"_id": {"$in": list(places)}})

    async def sweep_cut(self, cut: Cut) -> None:
        """Remove what a truncation dropped."""
        await self.commits.delete_many(
            {"r": self.resource, "t": self.thread, "o": {"$gte": cut.ordinal}, "w": {"$lt": cut.number}}
        )

    async def sweep_thread(self, seen: Found, number: int) -> None:
        """Remove what a thread held until the commit `number`, which deleted it. Three round trips."""
        await self.commits.delete_many({"r": self.resource, "t": self.thread, "w": {"$lte": number}})
        await self.supersede(seen, number)
        await self.commits.update_one({"_id": commit_id(self.resource, number)}, {"$unset": {"su": ""}})

    async def sweep_resource(self, number: int) -> None:
        """Remove what the resource held until the commit `number`, which erased it. Four round trips."""
        await self.commits.delete_many({"r": self.resource, "w": {"$lte": number}})
        below = {"_id": {"$gte": commit_id(self.resource, 0), "$lt": commit_id(self.resource, number)}}
        await self.commits.update_many(below, {"$unset": dict.fromkeys([*RESOURCE_FIELDS, *THREAD_FIELDS], "")})
        await self.unregister(below=number)
        await self.commits.update_one({"_id": commit_id(self.resource, number)}, {"$unset": {"hu": ""}})
