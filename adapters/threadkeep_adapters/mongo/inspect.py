"""A deployment without an event loop: whether there is a store, everything in its database, and its version."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from bson import BSON
from pymongo import MongoClient

from threadkeep_adapters.mongo.layout import Document
from threadkeep_adapters.mongo.schema import NAME, meta_name
from threadkeep_adapters.mongo.url import Place


def _client(place: Place) -> MongoClient[Document]:
    options: dict[str, Any] = {"appname": "threadkeep", **place.options}
    return MongoClient(place.url, **options)


def exists(place: Place) -> bool:
    """Whether there is a store. Raises PyMongoError."""
    with closing(_client(place)) as client:
        return client[place.database][meta_name(place)].find_one({"_id": NAME}) is not None


def shift(place: Place, by: int) -> None:
    """Write another schema version into the document about the store."""
    with closing(_client(place)) as client:
        client[place.database][meta_name(place)].update_one({"_id": NAME}, {"$inc": {"version": by}})


def scan(place: Place) -> Iterator[bytes]:
    """Every document of the database, and not of the store's collections only."""
    with closing(_client(place)) as client:
        database = client[place.database]
        for name in database.list_collection_names():
            for document in database[name].find():
                yield bytes(BSON.encode(document))
