"""Every query of the MongoDB store goes by an index that it creates, and its page names them all (laws 8, 13).

FerretDB scans for almost every query, and mongo-java-server explains none. So the commands that the store sends
are checked against its indexes here; a MongoDB, where there is one, is asked for its plans too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
import servers
from mongodb_server import MONGO_JAVA_SERVER, MONGOD, client
from pymongo import monitoring
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from servers import Kind

from threadkeep.port import Changes, Guard, Put, Record, Resource, Thread, Window, open_store
from threadkeep_adapters.mongo.schema import INDEXES

BIG: Final = f'"{"b" * 20_000}"'
PREFIX: Final = "queries"
KEYS: Final = {"_id": ("_id",), **{str(index.document["name"]): tuple(index.document["key"]) for index in INDEXES}}
"""Index -> its fields, of a collection of commits."""

KINDS: Final[list[Kind]] = [MONGO_JAVA_SERVER]
if MONGOD.find() is not None or servers.docker_answers():
    KINDS.append(MONGOD)


class Listener(CommandListener):
    """Keeps the filters of all commands that have any, with their collections and orders."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = []

    def started(self, event: CommandStartedEvent) -> None:
        command = event.command
        name = str(command.get(event.command_name, ""))
        if not name.startswith(PREFIX):
            return
        filters = [command["filter"]] if "filter" in command else []
        filters += [each["q"] for each in (*command.get("deletes", ()), *command.get("updates", ()))]
        self.seen += [(name, query, command.get("sort") or {}) for query in filters]

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """What counts is what was sent."""

    def failed(self, event: CommandFailedEvent) -> None:
        """What counts is what was sent."""


async def everything(store: Guard) -> None:
    """Each verb in each of its ways: known records, truncations, large documents, gaps, deletions, lists."""
    ann = Thread("ann", "one")
    puts = (Put("small", "1"), Put("big", BIG))
    for turn in range(3):
        records = tuple(Record(f"m{number}", "d", "1") for number in range(8 * (turn + 1)))
        await store.commit(ann, Changes(turn, "e", records, puts, puts))
        await store.commit(Thread("ann", f"other{turn}"), Changes(turn, "e", records[:2]))
        await store.commit(Resource("bob"), Changes(turn, puts=puts))
    await store.commit(ann, Changes(9, "e", (Record("new", "d", "1"),), drop_after=5))
    await store.commit(ann, Changes(10, "e", (Record("newer", "d", "1"),)))
    for anchor in (None, 3, 9, "m1", "new", "nobody"):
        await store.load(ann, Window(anchor, 3, 3))
    await store.load(Thread("ann", "missing"), Window(before=3))
    await store.load(Resource("bob"))
    page = await store.threads(Resource("ann"), limit=2, slots=("small", "big"))
    assert len(page) == 2
    await store.threads(Resource("ann"), limit=2, order="active", slots=("big",))
    assert await store.resources(None, 1) == ["ann"]
    assert await store.resources("ann", 5) == ["bob"]
    for scope in (ann, ann, Resource("bob"), Resource("bob"), Resource("ann")):
        await store.delete(scope)
    await store.commit(ann, Changes(11, "e2", (Record("m0", "d", "1"),)))
    await store.delete(Resource("ann"))


def branches(query: Mapping[str, Any]) -> list[set[str]]:
    """The fields of each branch of a query, every one of which needs an index."""
    fields = {name for name in query if not name.startswith("$")}
    if "$or" not in query:
        assert fields == set(query), f"what does {query} search by?"
        return [fields]
    assert not fields
    return [fields for branch in query["$or"] for fields in branches(branch)]


def index_for(fields: set[str]) -> str | None:
    """An index that begins with all the fields but those that narrow what it finds, of which there is at most one."""
    for name, keys in KEYS.items():
        if fields and keys[0] in fields and len(fields - set(keys)) <= 1:
            return name
    return None


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def sent(request: pytest.FixtureRequest) -> Iterator[tuple[Kind, Listener]]:
    """What a store sends in `everything`, but for what it sends when it is opened."""
    kind: Kind = request.param
    server = servers.shared(kind)
    listener = Listener()
    # There is no way to unregister; a fresh list is all that is taken away afterwards.
    before = list(monitoring._LISTENERS.command_listeners)
    monitoring.register(listener)
    base = server.url.partition("?")[0]

    async def run() -> None:
        store = open_store(f"{base}?prefix={PREFIX}")
        await store.open()
        listener.seen.clear()
        await everything(store)
        await store.close()

    try:
        asyncio.run(run())
        yield kind, listener
    finally:
        monitoring._LISTENERS.command_listeners[:] = before
        with client(base) as bare:
            database = bare.get_default_database()
            for name in database.list_collection_names():
                if name.startswith(PREFIX):
                    database.drop_collection(name)


def test_no_query_goes_without_an_index(sent: tuple[Kind, Listener]) -> None:
    kind, listener = sent
    used = set()
    for name, query, order in listener.seen:
        for fields in branches(query):
            index = "_id" if name.endswith(".resources") and fields == {"_id"} else index_for(fields)
            assert index is not None, f"no index of {name} serves {query}"
            # An order that the index does not have would sort all that was found.
            assert not order or tuple(order) == KEYS[index][-len(order) :]
            used.add(index)
    # `next` is there for inserts alone.
    assert used == set(KEYS) - {"next"}
    if kind is MONGOD:
        with client(servers.shared(kind).url) as bare:
            for name, query, order in listener.seen:
                plan = bare.get_default_database().command("explain", {"find": name, "filter": query, "sort": order})
                assert "COLLSCAN" not in str(plan["queryPlanner"]["winningPlan"])


def test_an_index_is_found_for_what_has_one_only() -> None:
    assert index_for({"r", "t", "o", "w"}) == "ordinal"
    assert index_for({"h"}) == "resource"
    assert index_for({"z"}) is None
    assert index_for({"o"}) is None
    assert index_for({"h", "w", "z"}) is None
    assert branches({"$or": [{"h": 1}, {"t": 1, "p": 2}]}) == [{"h"}, {"t", "p"}]
