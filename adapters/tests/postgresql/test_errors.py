"""Bad input and bad places: each is named, with what to do, without the password, and nothing is harmed (law 12)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import servers
from postgresql_server import POSTGRESQL, USER, connect
from servers import Server, free_port

from threadkeep.errors import Action, StoreDamaged, StoreError, StoreNotWritable, StoreTooNew, StoreUnavailable
from threadkeep.port import Changes, Guard, Put, Record, Resource, Thread, Window, open_store, store_exists

HERE = Thread("ann", "t")
ADDED = Changes(1, "e", (Record("m", "d", '"x"'),), puts=(Put("work", "1"),), resource_puts=(Put("work", "1"),))


class Room:
    """A schema and a role of a test's own on the shared server."""

    def __init__(self, server: Server) -> None:
        self.name = f"room_{secrets.token_hex(6)}"
        self.plain = server.url
        self.url = f"{server.url}?schema={self.name}"

    def url_of(self, user: str, password: str, database: str = "postgres") -> str:
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{user}:{password}@{host}", path=f"/{database}"))

    def do(self, *statements: str) -> None:
        """Run SQL behind the store's back."""

        async def run() -> None:
            connection = await connect(self.plain)
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(run())


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room(servers.shared(POSTGRESQL))
    yield room
    room.do(
        f"DROP SCHEMA IF EXISTS {room.name} CASCADE",
        f"DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{room.name}') THEN"
        f" EXECUTE 'DROP OWNED BY {room.name}; DROP ROLE {room.name}'; END IF; END $$",
    )


def using(url: str, work: Callable[[Guard], Awaitable[object]]) -> object:
    async def run() -> object:
        store = open_store(url)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def opening(store: Guard) -> Awaitable[object]:
    return store.open()


def adding(store: Guard) -> Awaitable[object]:
    return store.commit(HERE, ADDED)


def loading(store: Guard) -> Awaitable[object]:
    return store.load(HERE, Window(before=5))


def refused(url: str, kind: type[StoreError], work: Callable[[Guard], Awaitable[object]] = opening) -> str:
    """The text of the error, which must be of this kind and hold no password."""
    with pytest.raises(StoreError) as raised:
        using(url, work)
    assert type(raised.value) is kind, repr(raised.value)
    password = urlsplit(url).password
    assert password is None or password not in str(raised.value)
    return str(raised.value)


def test_a_wrong_password_is_named(room: Room) -> None:
    said = refused(room.url_of(USER, "wrong-secret"), StoreNotWritable)
    assert f'"{USER}"' in said
    assert "password" in said


def test_an_unknown_database_is_named(room: Room) -> None:
    url = room.url_of(USER, urlsplit(room.url).password or "", "nowhere")
    assert '"nowhere"' in refused(url, StoreNotWritable)


def test_no_server_is_named_and_may_be_tried_again(room: Room) -> None:
    port = free_port()
    said = refused(f"postgresql://ann:secret-word@127.0.0.1:{port}/app", StoreUnavailable)
    assert f"127.0.0.1:{port}/app" in said
    assert "start it" in said
    assert StoreUnavailable.action is Action.REPEAT


def test_an_unknown_host_is_named() -> None:
    assert "nowhere.invalid" in refused("postgresql://ann:secret-word@nowhere.invalid/app", StoreUnavailable)


def test_a_server_that_wants_no_tls_is_named(room: Room) -> None:
    assert "SSL" in refused(f"{room.url}&sslmode=require", StoreUnavailable)


def test_a_certificate_that_is_not_there_is_named(room: Room) -> None:
    assert "/nowhere.pem" in refused(f"{room.url}&sslmode=verify-full&sslrootcert=/nowhere.pem", StoreError)


def test_who_may_create_nothing_is_told(room: Room) -> None:
    room.do(f"CREATE ROLE {room.name} LOGIN PASSWORD 'secret-word'")
    said = refused(room.url_of(room.name, "secret-word"), StoreNotWritable)
    assert "permission denied" in said
    assert not store_exists(room.url)


def test_who_may_create_nothing_uses_what_another_has_prepared(room: Room) -> None:
    using(room.url, adding)
    room.do(
        f"CREATE ROLE {room.name} LOGIN PASSWORD 'secret-word'",
        f"GRANT USAGE ON SCHEMA {room.name} TO {room.name}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {room.name} TO {room.name}",
    )
    url = room.url_of(room.name, "secret-word")
    using(url, lambda store: store.commit(Thread("bob", "t"), ADDED))
    assert using(url, lambda store: store.resources()) == ["ann", "bob"]


def test_who_may_only_read_reads_and_is_told_when_writing(room: Room) -> None:
    using(room.url, adding)
    room.do(
        f"CREATE ROLE {room.name} LOGIN PASSWORD 'secret-word'",
        f"GRANT USAGE ON SCHEMA {room.name} TO {room.name}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {room.name} TO {room.name}",
    )
    url = room.url_of(room.name, "secret-word")
    assert using(url, lambda store: store.resources()) == ["ann"]
    assert "permission denied" in refused(url, StoreNotWritable, adding)
    room.do(f"ALTER ROLE {room.name} SET default_transaction_read_only = on")
    assert "read-only" in refused(url, StoreUnavailable, adding)
    using(url, loading)


def test_a_store_of_a_newer_library_is_refused_and_left_untouched(room: Room) -> None:
    using(room.url, adding)
    room.do(f"UPDATE {room.name}.threadkeep_schema SET version = 99", f"DROP FUNCTION {room.name}.threadkeep_commit_1")
    assert "99" in refused(room.url, StoreTooNew)
    assert "99" in refused(room.url, StoreTooNew, adding)
    with pytest.raises(asyncpg.UndefinedFunctionError):
        room.do(f"DROP FUNCTION {room.name}.threadkeep_commit_1")


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        (("CREATE TABLE {0}.threadkeep_threads (mine text)",), "another program's"),
        (("CREATE TABLE {0}.threadkeep_schema (mine text)",), "another program's"),
        (("CREATE TABLE {0}.threadkeep_schema AS SELECT 'one' AS version",), "'one'"),
        (("CREATE TABLE {0}.threadkeep_schema (version int)",), "holds 0"),
        (("CREATE TABLE {0}.threadkeep_schema AS SELECT 1 AS version",), "lost"),
    ],
)
def test_tables_of_another_program_are_left_alone(room: Room, statements: tuple[str, ...], named: str) -> None:
    room.do(f"CREATE SCHEMA {room.name}", *(statement.format(room.name) for statement in statements))
    assert named in refused(room.url, StoreDamaged)
    kept = statements[0].split()[2].format(room.name)
    room.do(f"SELECT * FROM {kept}", f"DROP TABLE {kept}")


def test_a_schema_that_other_programs_use_is_shared_with_them(room: Room) -> None:
    room.do(f"CREATE SCHEMA {room.name}", f"CREATE TABLE {room.name}.invoices (number int)")
    assert not store_exists(room.url)
    using(room.url, adding)
    assert store_exists(room.url)
    room.do(f"SELECT * FROM {room.name}.invoices")


def test_a_schema_named_in_any_letters_is_that_schema(room: Room) -> None:
    url = f"{room.plain}?schema={room.name}%22%20;%20Ünï%27"
    try:
        using(url, adding)
        assert using(url, lambda store: store.resources()) == ["ann"]
    finally:
        room.do(f'DROP SCHEMA "{room.name}"" ; Ünï\'" CASCADE')


def test_two_schemas_of_one_database_are_two_stores(room: Room) -> None:
    using(room.url, adding)
    try:
        assert using(f"{room.url}_2", lambda store: store.resources()) == []
    finally:
        room.do(f"DROP SCHEMA {room.name}_2 CASCADE")


def test_an_encoding_that_cannot_hold_every_text_is_refused(room: Room) -> None:
    room.do(f"CREATE DATABASE {room.name} ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0")
    try:
        said = refused(room.url_of(USER, urlsplit(room.url).password or "", room.name), StoreError)
        assert "LATIN1" in said
    finally:
        room.do(f"DROP DATABASE {room.name}")


async def test_a_schema_that_is_removed_while_the_store_is_open_is_named(room: Room) -> None:
    store = open_store(room.url)
    await store.commit(HERE, ADDED)
    connection = await connect(room.plain)
    await connection.execute(f"DROP SCHEMA {room.name} CASCADE")
    await connection.close()
    with pytest.raises(StoreDamaged, match="removed while the store was open"):
        await store.load(HERE)
    with pytest.raises(StoreDamaged, match="removed while the store was open"):
        await store.commit(HERE, ADDED)
    await store.close()


def test_a_server_without_free_connections_is_named_and_may_be_tried_again(room: Room) -> None:
    room.do(f"CREATE ROLE {room.name} LOGIN PASSWORD 'secret-word' CONNECTION LIMIT 0")
    assert "too many connections" in refused(room.url_of(room.name, "secret-word"), StoreUnavailable)


async def test_ids_are_ordered_by_code_point_whatever_the_collation_is(room: Room) -> None:
    names = ["B", "a", "b", "Ä", "é", "\uffff", "\U0001f600", "a\0", "a\0b", "~"]

    store = open_store(room.url)
    for name in names:
        await store.commit(Thread(name, "t"), Changes(1, "e"))
        await store.commit(Thread("ann", name), Changes(1, "e"))
    assert await store.resources() == sorted([*names, "ann"])
    assert [row.thread_id for row in await store.threads(Resource("ann"))] == sorted(names)
    await store.close()
