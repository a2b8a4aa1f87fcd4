"""The store's collections and indexes, and the document that says which version they are of."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from pymongo import ASCENDING, IndexModel
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError, PyMongoError

from threadkeep.errors import InvalidURL, StoreDamaged
from threadkeep.port import check_schema_version
from threadkeep_adapters.mongo.layout import SCHEMA_VERSION, Document
from threadkeep_adapters.mongo.url import Place

NAME: Final = "threadkeep"

_MAKING: Final = "making"
"""The `_id` of what the opener that makes the store leaves for the others to see, with its name in `by`."""

MAKING_SECONDS: Final = 30.0
"""For how long other openers wait for the one that makes the store; then it has died, and one of them makes it."""
POLL_SECONDS: Final = 0.05
"""How long they wait before they look again."""

INDEXES: Final = (
    IndexModel([("n", ASCENDING)], name="next", unique=True),
    IndexModel([("h", ASCENDING)], name="resource", sparse=True),
    IndexModel([("s", ASCENDING)], name="thread", sparse=True),
    IndexModel([("lc", ASCENDING)], name="created", sparse=True),
    IndexModel([("la", ASCENDING)], name="active", sparse=True),
    IndexModel([("k", ASCENDING)], name="record", sparse=True),
    IndexModel([("r", ASCENDING), ("t", ASCENDING), ("o", ASCENDING)], name="ordinal", sparse=True),
    IndexModel([("t", ASCENDING), ("p", ASCENDING)], name="position", sparse=True),
)
"""Of each collection of commits. docs/stores/mongodb.md says which query uses which."""


def meta_name(place: Place) -> str:
    """The name of the collection with the document about the store."""
    return f"{place.prefix}.meta"


def registry_name(place: Place) -> str:
    """The name of the collection of resources."""
    return f"{place.prefix}.resources"


def log_names(place: Place, buckets: int) -> list[str]:
    """The names of the collections of commits."""
    return [f"{place.prefix}.commits{number:02x}" for number in range(buckets)]


async def prepare(database: AsyncDatabase[Document], place: Place, opener: str) -> int:
    """Make the store where there is none; the number of its collections of commits.

    `opener` is a name that no other opener has; after a failure, the same one goes on without waiting. Raises
    StoreTooNew, StoreTooOld, StoreDamaged where a collection belongs to another program, and InvalidURL where the URL
    wants another number of collections than the store was made with.
    """
    found = await _find(database, place)
    if found is None:
        found = await _make(database, place, opener)
    version, buckets = found.get("version"), found.get("buckets")
    if not isinstance(version, int) or not isinstance(buckets, int) or version < 0:
        raise StoreDamaged(f"{meta_name(place)} does not say a version of this library's; choose another prefix")
    check_schema_version(version, SCHEMA_VERSION)
    if place.buckets is not None and place.buckets != buckets:
        raise InvalidURL(f"the store was made with buckets={buckets}, which stays; leave the option out")
    return buckets


async def _make(database: AsyncDatabase[Document], place: Place, opener: str) -> Document:
    """Make the store, or wait for another opener that does. The document about it."""
    buckets = place.buckets or 1
    names = (meta_name(place), registry_name(place), *log_names(place, buckets))
    for name in names:
        other = await database[name].find_one({"_id": {"$nin": [NAME, _MAKING]}}, {"_id": 1})
        if other is not None and await _find(database, place) is None:
            raise StoreDamaged(f"the collection {name} belongs to another program; choose another prefix")
    made = await _wait_for_maker(database, place, opener)
    if made is not None:
        return made
    try:
        for name in log_names(place, buckets):
            there = await database[name].index_information()
            # FerretDB 1.24 panics at a list of which some are there, which is what a death in the making leaves.
            missing = [index for index in INDEXES if index.document["name"] not in there]
            if missing:
                await database[name].create_indexes(missing)
        # Written last, so that whoever finds it finds the indexes.
        with suppress(DuplicateKeyError):
            await database[meta_name(place)].insert_one({"_id": NAME, "version": SCHEMA_VERSION, "buckets": buckets})
    finally:
        with suppress(PyMongoError):
            await database[meta_name(place)].delete_one({"_id": _MAKING, "by": opener})
    found = await _find(database, place)
    if found is None:
        raise StoreDamaged(f"{meta_name(place)} loses what is written to it; nobody else may delete from it")
    return found


async def _find(database: AsyncDatabase[Document], place: Place) -> Document | None:
    return await database[meta_name(place)].find_one({"_id": NAME})


async def _wait_for_maker(database: AsyncDatabase[Document], place: Place, opener: str) -> Document | None:
    """None where this opener is to make the store, else the document about it, made by another.

    Nothing rests on there being one: all make the same. It keeps them from making one index at the same moment.
    """
    loop = asyncio.get_running_loop()
    maker, since = "", loop.time()
    while True:
        elected = await _elected(database, place, opener)
        if elected == opener:
            return None
        if elected != maker:
            maker, since = elected, loop.time()
        elif loop.time() - since > MAKING_SECONDS:
            await database[meta_name(place)].delete_one({"_id": _MAKING, "by": maker})
        await asyncio.sleep(POLL_SECONDS)
        found = await _find(database, place)
        if found is not None:
            return found


async def _elected(database: AsyncDatabase[Document], place: Place, opener: str) -> str:
    """The name of the opener that makes the store, which is this one where there was none."""
    try:
        await database[meta_name(place)].insert_one({"_id": _MAKING, "by": opener})
    except DuplicateKeyError:
        found = await database[meta_name(place)].find_one({"_id": _MAKING})
        return "" if found is None else str(found.get("by"))
    return opener
