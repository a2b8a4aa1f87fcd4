"""Opening MongoDB stores: places of others, other versions, races, no server, and lists over several collections."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import servers
from mongodb_server import FERRETDB, MONGO_JAVA_SERVER, client
from servers import Server, free_port

from threadkeep.errors import InvalidURL, StoreDamaged, StoreTooNew, StoreUnavailable
from threadkeep.guard import Guard
from threadkeep.registry import open_store, store_exists
from threadkeep.store import Changes, Put, Record, Resource, Thread, Window


@pytest.fixture(params=[FERRETDB, MONGO_JAVA_SERVER], ids=lambda kind: kind.name)
def server(request: pytest.FixtureRequest) -> Server:
    return servers.shared(request.param)


@pytest.fixture
def place(server: Server) -> Iterator[tuple[str, Any]]:
    """The URL of an empty database, and the database by the bare driver."""
    name = f"opening{secrets.token_hex(4)}"
    bare = client(f"mongodb://{server.host}:{server.port}")
    yield f"mongodb://{server.host}:{server.port}/{name}", bare[name]
    bare.drop_database(name)
    bare.close()


def _open(url: str) -> None:
    async def run() -> None:
        store = open_store(url)
        try:
            await store.open()
        finally:
            await store.close()

    asyncio.run(run())


def test_a_store_is_made_once_and_its_indexes_are_those_of_its_page(place: tuple[str, Any]) -> None:
    url, database = place
    assert store_exists(url) is False
    assert database.list_collection_names() == []
    _open(f"{url}?buckets=2")
    assert store_exists(url) is True
    for name in ("threadkeep.commits00", "threadkeep.commits01"):
        indexes = database[name].index_information()
        assert set(indexes) == {
            *("_id_", "next", "resource", "thread", "created", "active", "record", "ordinal", "position")
        }
        assert indexes["next"]["unique"]
    _open(url)
    _open(f"{url}?buckets=2")
    with pytest.raises(InvalidURL, match="buckets=2"):
        _open(f"{url}?buckets=3")


def test_a_newer_store_is_refused_and_untouched(place: tuple[str, Any]) -> None:
    url, database = place
    database["threadkeep.meta"].insert_one({"_id": "threadkeep", "version": 2, "buckets": 1})
    with pytest.raises(StoreTooNew):
        _open(url)
    assert database.list_collection_names() == ["threadkeep.meta"]
    assert database["threadkeep.meta"].find_one() == {"_id": "threadkeep", "version": 2, "buckets": 1}


@pytest.mark.parametrize("name", ["threadkeep.meta", "threadkeep.resources", "threadkeep.commits00"])
def test_a_collection_of_another_program_is_refused_and_untouched(place: tuple[str, Any], name: str) -> None:
    url, database = place
    database[name].insert_one({"_id": 1, "theirs": True})
    with pytest.raises(StoreDamaged, match=f"{name} belongs to another program; choose another prefix"):
        _open(url)
    assert list(database[name].find()) == [{"_id": 1, "theirs": True}]
    assert database.list_collection_names() == [name]
    _open(f"{url}?prefix=ours")


def test_a_store_without_a_version_is_damaged(place: tuple[str, Any]) -> None:
    url, database = place
    database["threadkeep.meta"].insert_one({"_id": "threadkeep", "version": "one"})
    with pytest.raises(StoreDamaged, match=r"threadkeep\.meta"):
        _open(url)


def test_no_server_is_unavailable_within_the_time_given() -> None:
    async def run() -> None:
        store = open_store(f"mongodb://127.0.0.1:{free_port()}/?serverSelectionTimeoutMS=300")
        try:
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(store.load(Resource("user")), 5)
        finally:
            await store.close()

    asyncio.run(run())


def test_resources_of_several_collections_are_one_list(place: tuple[str, Any]) -> None:
    async def run() -> None:
        store = open_store(f"{place[0]}?buckets=8")
        names = ["a", "a\x00", "a/", "a0", "aa", "b", "\uffff", "\U0001f9f5", "é", "e\u0301", "Z"]
        try:
            for name in names:
                await store.commit(Thread(name, "t"), Changes(1, "e", (Record("m", "d", "1"),)))
            await store.commit(Thread("gone", "t"), Changes(1, "e"))
            await store.delete(Thread("gone", "t"))
            seen: list[str] = []
            while page := await store.resources(seen[-1] if seen else None, 3):
                seen += page
            assert seen == sorted(names)
        finally:
            await store.close()

    asyncio.run(run())


def test_what_a_writer_left_behind_that_lost_is_passed_over(place: tuple[str, Any]) -> None:
    """Records of a commit that never came, in the places and under the ids of those that did."""
    url, database = place

    async def run(store: Guard) -> None:
        thread = Thread("user", "thread")
        first = tuple(Record(f"m{number}", "d", f"{number}") for number in range(3))
        await store.commit(thread, Changes(1, "e", first))
        commits = database["threadkeep.commits00"]
        for record in list(commits.find({"p": {"$exists": True}})):
            orphan = {**record, "_id": f"x{record['_id']}", "n": f"x{record['_id']}", "z": "x", "body": '"orphan"'}
            commits.insert_one(orphan)
            commits.insert_one({**orphan, "_id": f"y{record['_id']}", "n": f"y{record['_id']}", "o": record["o"] + 3})
        for window in (Window(before=9), Window(2, 9, 9), Window("m1", 9, 9), Window(3, 9, 9)):
            assert [stored.body for stored in (await store.load(thread, window)).records] == ["0", "1", "2"]
        receipt = await store.commit(thread, Changes(2, "e", (*first, Record("m3", "d", "3")), (Put("w", "1"),)))
        assert receipt.positions == [1, 2, 3, 4]
        await store.commit(thread, Changes(3, "e", drop_after=2))
        assert [stored.body for stored in (await store.load(thread, Window(before=9))).records] == ["0", "1"]
        assert [stored.body for stored in (await store.load(thread, Window(4, 9, 9))).records] == ["0", "1"]

    async def main() -> None:
        store = open_store(url)
        try:
            await run(store)
        finally:
            await store.close()

    asyncio.run(main())
