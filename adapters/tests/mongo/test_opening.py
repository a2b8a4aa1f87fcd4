"""Opening MongoDB stores: places of others, other versions, races, no server, and lists over several collections."""

from __future__ import annotations

import asyncio
import gc
import secrets
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import servers
from mongodb_server import FERRETDB, LEFT_SOCKETS, MONGO_JAVA_SERVER, client
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import AutoReconnect, BulkWriteError, OperationFailure
from servers import Server, free_port

from threadkeep.errors import (
    InvalidURL,
    MessageConflict,
    OutcomeUnknown,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreNotWritable,
    StoreTooNew,
    StoreUnavailable,
)
from threadkeep.port import Changes, Guard, Put, Record, Resource, Thread, Window, open_store, store_exists
from threadkeep_adapters.mongo import schema
from threadkeep_adapters.mongo.errors import ERRORS
from threadkeep_adapters.mongo.layout import Document
from threadkeep_adapters.mongo.requests import Requests

pytestmark = LEFT_SOCKETS


@pytest.fixture(autouse=True)
def _no_socket_is_left_for_others() -> Iterator[None]:
    """What the driver leaves is collected where it is known, and not in some test of another store."""
    yield
    gc.collect()


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


async def test_no_server_is_unavailable_within_the_time_given() -> None:
    store = open_store(f"mongodb://127.0.0.1:{free_port()}/?serverSelectionTimeoutMS=300")
    try:
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(store.load(Resource("user")), 5)
    finally:
        await store.close()


def test_a_refused_login_is_named_without_the_password() -> None:
    """FerretDB refuses all logins but plain ones, by the code by which MongoDB refuses a wrong password."""
    server = servers.shared(FERRETDB)
    url = f"mongodb://ann:geheim@{server.host}:{server.port}/chat"
    for work in (lambda store: store.open(), lambda store: store.load(Resource("user"))):
        with pytest.raises(StoreNotWritable) as refused:
            asyncio.run(_with(url, work))
        assert "correct user, password and authSource in the URL" in str(refused.value)
        assert "geheim" not in str(refused.value)
    assert store_exists(url) is True, "something may be there, and opening it tells what is wrong"


@pytest.fixture
def making(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many were making indexes when another began to, for each that began."""
    create = AsyncCollection.create_indexes
    under_way: list[int] = []
    at_once = 0

    async def counted(self: Any, *given: Any, **options: Any) -> Any:
        nonlocal at_once
        under_way.append(at_once)
        at_once += 1
        try:
            return await create(self, *given, **options)
        finally:
            at_once -= 1

    monkeypatch.setattr(AsyncCollection, "create_indexes", counted)
    return under_way


async def test_an_opener_that_died_is_followed_by_one_and_not_by_all(
    place: tuple[str, Any], making: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All would make the same, and at the same moment."""
    url, database = place
    monkeypatch.setattr(schema, "MAKING_SECONDS", 0.3)
    database["threadkeep.meta"].insert_one({"_id": "making", "by": "one that died"})

    stores = [open_store(f"{url}?buckets=2") for _ in range(5)]
    await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(store.close() for store in stores))
    assert making == [0, 0]
    assert [found["_id"] for found in database["threadkeep.meta"].find()] == ["threadkeep"]


def test_an_opener_that_failed_goes_on_and_does_not_wait_for_itself(
    place: tuple[str, Any], making: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is killed while the store is made leaves the sign that somebody makes it."""
    url, database = place
    monkeypatch.setattr(schema, "MAKING_SECONDS", 3600.0)
    insert, cut = AsyncCollection.insert_one, False

    async def cut_once(self: Any, document: Document, *given: Any, **options: Any) -> Any:
        nonlocal cut
        done = await insert(self, document, *given, **options)
        if document.get("_id") == "making" and not cut:
            cut = True
            raise AutoReconnect("the connection was lost")
        return done

    monkeypatch.setattr(AsyncCollection, "insert_one", cut_once)
    _open(url)
    assert cut
    assert making == [0]
    assert [found["_id"] for found in database["threadkeep.meta"].find()] == ["threadkeep"]


@pytest.mark.parametrize("number", range(len(schema.INDEXES) + 1))
def test_a_store_of_which_some_indexes_were_made_gets_the_others(place: tuple[str, Any], number: int) -> None:
    """FerretDB panics when it is told to make indexes of which some are there, and its connection is lost."""
    url, database = place
    if number:
        database["threadkeep.commits00"].create_indexes(list(schema.INDEXES[:number]))
    _open(url)
    names = {index.document["name"] for index in schema.INDEXES}
    assert set(database["threadkeep.commits00"].index_information()) == {"_id_", *names}


async def test_tasks_that_open_a_store_at_once_wait_for_the_first(place: tuple[str, Any], making: list[int]) -> None:
    url, _ = place

    store = open_store(url)
    await asyncio.gather(
        *(store.commit(Thread("user", f"t{number}"), Changes(1, "e", (Record("m", "d", "1"),))) for number in range(5))
    )
    await store.close()
    assert making == [0]


async def _with(url: str, work: Callable[[Guard], Awaitable[object]]) -> None:
    store = open_store(url)
    try:
        await work(store)
    finally:
        await store.close()


def test_a_host_that_has_no_address_is_unavailable_and_named() -> None:
    url = "mongodb://ann:geheim@nowhere.invalid/?serverSelectionTimeoutMS=300"
    with pytest.raises(StoreUnavailable, match=r"nowhere\.invalid") as refused:
        _open(url)
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (13, StoreNotWritable, "give the user the role readWrite on the database"),
        (18, StoreNotWritable, "correct user, password and authSource"),
        (64, OutcomeUnknown, ""),
        (86, StoreDamaged, "choose another prefix"),
        (14031, StoreFull, ""),
    ],
)
def test_what_a_server_refuses_is_an_error_of_threadkeep(code: int, kind: type[StoreError], said: str) -> None:
    """By MongoDB's codes, for those that no server here gives; in a bulk's answer too, where they lie deeper."""
    plain = OperationFailure("not so", code)
    deep = BulkWriteError({"writeErrors": [{"code": code, "errmsg": "not so"}], "writeConcernErrors": []})
    late = BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": code, "errmsg": "not so"}]})
    translate = next(meaning for error, meaning in ERRORS if error is OperationFailure)
    assert not isinstance(translate, type)
    for error in (plain, deep, late):
        found = translate(error)
        assert type(found) is kind
        assert "not so" in str(found)
        assert said in str(found)
    assert translate(OperationFailure("never heard of", 424242)) is None


async def test_a_look_that_saw_no_record_and_then_the_state_after_it_doubles_nothing(
    place: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One query is no instant: it may look for records, let another commit in, and look for states then."""
    find = Requests.find
    looks = []

    async def stale(requests: Requests, query: Document, *args: Any, **options: Any) -> list[Document]:
        found = await find(requests, query, *args, **options)
        if "$or" in query and any("k" in branch for branch in query["$or"]):
            looks.append(query)
            return [document for document in found if "k" not in document]
        return found

    store = open_store(place[0])
    try:
        thread = Thread("user", "thread")
        first = Changes(1, "e", (Record("m1", "d", "1"),))
        receipt = await store.commit(thread, first)
        monkeypatch.setattr(Requests, "find", stale)
        assert (await store.commit(thread, first)).positions == receipt.positions
        more = Changes(2, "e", (Record("m1", "d", "1"), Record("m2", "d", "2")))
        assert (await store.commit(thread, more)).positions == [1, 2]
        with pytest.raises(MessageConflict):
            await store.commit(thread, Changes(3, "e", (Record("m2", "other", "other"),)))
        assert len(looks) == 3
        monkeypatch.undo()
        assert [record.id for record in (await store.load(thread, Window(before=9))).records] == ["m1", "m2"]
    finally:
        await store.close()


async def test_resources_of_several_collections_are_one_list(place: tuple[str, Any]) -> None:
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


async def test_what_a_writer_left_behind_that_lost_is_passed_over(place: tuple[str, Any]) -> None:
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

    store = open_store(url)
    try:
        await run(store)
    finally:
        await store.close()
