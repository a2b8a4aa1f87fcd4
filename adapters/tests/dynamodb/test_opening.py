"""What a DynamoDB store looks at when it is opened, and what the service's refusals mean (laws 4, 5, 6, 12)."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import servers
from dynamodb_gateway import EXPIRED, FORBIDDEN, Gateway, Refusal
from dynamodb_server import DYNAMODB, client
from opening import ALL, ONE, THREAD, commit, load, opened, refused, run
from servers import Server

from threadkeep.errors import (
    InvalidURL,
    StoreDamaged,
    StoreNotWritable,
    StoreTooNew,
    StoreTooOld,
    StoreUnavailable,
    ThreadkeepError,
)
from threadkeep.port import Changes, Guard, Put, Record, Resource, Thread, open_store, scan_backend, store_exists
from threadkeep_adapters.dynamodb.layout import SCHEMA_KEY
from threadkeep_adapters.dynamodb.schema import KEYS
from threadkeep_contract.faults.proxy import Cut, Proxy

pytestmark = pytest.mark.slow

BARE = """
import asyncio, sys
from threadkeep.port import open_store
from threadkeep.errors import ThreadkeepError
async def main():
    store = open_store(sys.argv[1])
    try:
        await store.open()
    except ThreadkeepError as error:
        print(type(error).__name__, error)
    await store.close()
asyncio.run(main())
"""
"""Opens a store in a process of its own, since credentials are looked for once in a process."""


@pytest.fixture(scope="module")
def server() -> Server:
    return servers.shared(DYNAMODB)


@pytest.fixture
def table(server: Server) -> Iterator[str]:
    """The name of a table that is not there."""
    name = f"opening-{secrets.token_hex(6)}"
    yield name
    with client(server.url) as admin:
        if name in admin.list_tables()["TableNames"]:
            admin.delete_table(TableName=name)


@pytest.fixture
def url(server: Server, table: str) -> str:
    return server.url.replace("/threadkeep?", f"/{table}?")


@pytest.fixture
def admin(server: Server) -> Iterator[Any]:
    with client(server.url) as made:
        yield made


def alone(url: str, **environment: str) -> str:
    """What opening a store says in a process with no credentials but those given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nothing = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_CONFIG_FILE": os.devnull,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", BARE, url],
        env={**kept, **nothing, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_nobody_at_the_port_is_unavailable_and_says_where() -> None:
    port = servers.free_port()
    assert f"127.0.0.1:{port}" in refused(StoreUnavailable, DYNAMODB.url("127.0.0.1", port) + "&timeout=1", opened)


def test_a_host_that_has_no_address_is_unavailable() -> None:
    url = DYNAMODB.url("nowhere.invalid", 1) + "&timeout=1"
    assert "nowhere.invalid" in refused(StoreUnavailable, url, opened)


def test_a_server_that_is_no_dynamodb_is_named(server: Server) -> None:
    with Gateway(server.host, server.port) as gateway:
        gateway.refuse("*", Refusal(404, {"error": "who is there?"}))
        said = refused(StoreUnavailable, DYNAMODB.url("127.0.0.1", gateway.port) + "&timeout=0.5", opened)
    assert "no answer" in said
    assert "404" in said


def test_missing_credentials_are_named_with_where_they_may_be_given(url: str) -> None:
    said = alone(url)
    assert said.startswith("StoreNotWritable")
    assert "credentials" in said
    assert "profile" in said


def test_half_of_the_credentials_is_named(url: str) -> None:
    said = alone(url, AWS_ACCESS_KEY_ID="AKIAHALF")
    assert said.startswith("StoreNotWritable")
    assert "secret" in said.lower()


def test_wrong_credentials_are_named_without_the_secret(url: str) -> None:
    """DynamoDB Local takes any but those whose key has signs that no key has."""
    said = alone(url, AWS_ACCESS_KEY_ID="no-such-key", AWS_SECRET_ACCESS_KEY="s3cr3t-of-the-test")
    assert said.startswith("StoreNotWritable UnrecognizedClientException")
    assert "give AWS credentials" in said
    assert "s3cr3t" not in said


def test_a_profile_that_is_not_there_is_named(url: str) -> None:
    assert "no-such-profile" in refused(InvalidURL, f"{url}&profile=no-such-profile", opened)


@pytest.mark.parametrize(("refusal", "said"), [(FORBIDDEN, "allow the actions"), (EXPIRED, "give AWS credentials")])
def test_a_call_without_permission_is_named_and_writes_nothing(server: Server, refusal: Refusal, said: str) -> None:
    user = Thread(f"user-{secrets.token_hex(8)}", "t")
    with Gateway(server.host, server.port) as gateway:
        url = DYNAMODB.url("127.0.0.1", gateway.port)

        async def refuse(store: Guard) -> None:
            await store.open()
            gateway.refuse("*", refusal)

        assert said in refused(StoreNotWritable, url, refuse, lambda store: store.commit(user, ONE))
        gateway.forward()
        assert said in refused(StoreNotWritable, url, refuse, lambda store: store.load(user, ALL))
        gateway.forward()
        assert said in refused(StoreNotWritable, url, refuse, lambda store: store.delete(user))
        gateway.refuse("*", refusal)
        assert said in refused(StoreNotWritable, url, opened)
        gateway.forward()
        assert run(url, lambda store: store.load(user, ALL)).tail.epoch == ""


def test_a_user_who_may_only_read_reads(server: Server) -> None:
    user = Thread(f"user-{secrets.token_hex(8)}", "t")
    run(server.url, lambda store: store.commit(user, ONE))
    with Gateway(server.host, server.port) as gateway:
        url = DYNAMODB.url("127.0.0.1", gateway.port)
        gateway.refuse("TransactWriteItems PutItem UpdateItem DeleteItem BatchWriteItem CreateTable", FORBIDDEN)
        assert len(run(url, lambda store: store.load(user, ALL)).records) == 1
        refused(StoreNotWritable, url, lambda store: store.commit(user, Changes(at=9, epoch="e")))
        refused(StoreNotWritable, url, lambda store: store.delete(user))


def test_the_permissions_that_the_page_names_suffice(server: Server, url: str) -> None:
    """The operations that were asked for are among those that the page lists; all verbs are used."""
    with Gateway(server.host, server.port) as gateway:
        through = url.replace(f"{server.port}", f"{gateway.port}")
        large = Put("large", '"' + "x" * 5000 + '"')
        many = tuple(Record(f"n{number}", "d", '"x"') for number in range(100))
        run(through, commit, load, lambda store: store.commit(THREAD, Changes(2, "e", many, (large,))), load)
        run(through, lambda store: store.threads(Resource("alice"), slots=("large",)), lambda store: store.resources())
        run(through, lambda store: store.commit(THREAD, Changes(3, "e", drop_after=3)), load)
        run(through, lambda store: store.delete(THREAD), commit, lambda store: store.delete(Resource("alice")))
        assert set(gateway.operations) == {
            *("CreateTable", "DescribeTable", "GetItem", "PutItem", "Query", "BatchGetItem", "Scan"),
            *("TransactGetItems", "TransactWriteItems"),
        }


def test_opening_makes_the_table_and_waits_until_it_takes_requests(server: Server, url: str, admin: Any) -> None:
    """A new table is CREATING for some seconds at AWS, and not yet known everywhere before that."""
    with Gateway(server.host, server.port) as gateway:
        gone = Refusal(
            400,
            {
                "__type": "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException",
                "message": "Requested resource not found",
            },
        )
        creating = Refusal(
            200,
            {
                "Table": {
                    "TableStatus": "CREATING",
                    "KeySchema": [{"AttributeName": name, "KeyType": kind} for name, kind in KEYS.items()],
                    "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "B"} for name in KEYS],
                }
            },
        )
        answers = [gone, gone, creating, creating, creating]

        def judge(operation: str, body: dict[str, Any]) -> Refusal | None:
            return answers.pop(0) if operation == "DescribeTable" and answers else None

        gateway.judge = judge
        run(url.replace(f"{server.port}", f"{gateway.port}"), commit)
        assert not answers
        assert gateway.operations.count("CreateTable") == 1
        assert gateway.operations.count("DescribeTable") == 6
    assert len(run(url, load).records) == 1


@pytest.mark.parametrize("where", Cut)
def test_a_connection_that_is_cut_anywhere_while_the_store_is_made_is_no_error(server: Server, where: Cut) -> None:
    """Each request of opening is cut once: before the server has it, after that, or in the middle of the answer."""

    async def make(through: str) -> None:
        store = open_store(through)
        await store.open()
        await store.commit(THREAD, ONE)
        assert (await store.load(THREAD, ALL)).tail.position == 1
        await store.close()

    with client(server.url) as admin, Proxy(server.host, server.port) as proxy:
        for number in range(6):
            name = f"opening-{secrets.token_hex(6)}"
            through = DYNAMODB.url("127.0.0.1", proxy.port).replace("/threadkeep?", f"/{name}?")
            cut = proxy.cut_next(where, after=number)
            asyncio.run(make(through))
            assert cut.done()
            admin.delete_table(TableName=name)


def test_many_may_make_the_table_at_once_from_many_processes(url: str, admin: Any, table: str) -> None:
    code = BARE.replace("await store.open()", "await store.open(); print('open')")
    with ThreadPoolExecutor(6) as pool:
        outcomes = pool.map(
            lambda _: (
                subprocess.run(
                    [sys.executable, "-c", code, url],
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                    capture_output=True,
                    text=True,
                    check=True,
                    timeout=120,
                ).stdout
            ),
            range(6),
        )
        assert list(outcomes) == ["open\n"] * 6
    assert admin.scan(TableName=table)["Count"] == 1


def test_a_store_that_may_not_make_its_table_says_that_there_is_none(url: str, admin: Any, table: str) -> None:
    said = refused(StoreNotWritable, f"{url}&create=no", opened)
    assert table in said
    assert "create=no" in said
    assert table not in admin.list_tables()["TableNames"]
    run(url, opened)
    run(f"{url}&create=no", commit)


def test_looking_whether_a_store_exists_makes_nothing(url: str, admin: Any, table: str) -> None:
    assert not store_exists(url)
    assert table not in admin.list_tables()["TableNames"]
    run(url, opened)
    assert store_exists(url)


@pytest.mark.parametrize(
    "keys", [[("pk", "HASH", "S"), ("sk", "RANGE", "S")], [("pk", "HASH", "B")], [("id", "HASH", "B")]]
)
def test_a_table_with_other_keys_is_another_programs_and_is_left_alone(
    url: str, admin: Any, table: str, keys: list[tuple[str, str, str]]
) -> None:
    admin.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": name, "KeyType": role} for name, role, _ in keys],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name, _, kind in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    said = refused(StoreDamaged, url, commit)
    assert table in said
    assert "name another table" in said
    assert admin.scan(TableName=table)["Count"] == 0


def test_a_table_with_items_of_another_program_is_left_alone(url: str, admin: Any, table: str) -> None:
    run(url, opened)
    admin.delete_item(TableName=table, Key=SCHEMA_KEY)
    admin.put_item(TableName=table, Item={"pk": {"B": b"theirs"}, "sk": {"B": b"1"}})
    assert "another program" in refused(StoreDamaged, url, commit)
    assert admin.scan(TableName=table)["Items"] == [{"pk": {"B": b"theirs"}, "sk": {"B": b"1"}}]


def test_an_empty_table_with_these_keys_is_taken(url: str, admin: Any, table: str) -> None:
    """As an operator makes it whose programs may not."""
    run(url, opened)
    admin.delete_item(TableName=table, Key=SCHEMA_KEY)
    run(url, commit)
    assert len(run(url, load).records) == 1


@pytest.mark.parametrize(
    ("version", "kind", "said"),
    [
        ({"N": "2"}, StoreTooNew, "upgrade"),
        ({"N": "0"}, StoreTooOld, "export"),
        ({"N": "-1"}, StoreDamaged, "none that this library wrote"),
        ({"N": "1.5"}, StoreDamaged, "none that this library wrote"),
        ({"S": "1"}, StoreDamaged, "none that this library wrote"),
    ],
)
def test_a_store_of_another_version_is_refused_and_left_alone(
    url: str, admin: Any, table: str, version: dict[str, str], kind: type[ThreadkeepError], said: str
) -> None:
    run(url, opened)
    item = {**SCHEMA_KEY, "v": version}
    admin.put_item(TableName=table, Item=item)
    assert said in refused(kind, url, commit)
    assert admin.scan(TableName=table)["Items"] == [item]


def test_a_table_that_is_removed_while_the_store_is_open_is_named(url: str, admin: Any, table: str) -> None:
    async def remove(store: Guard) -> None:
        await asyncio.to_thread(admin.delete_table, TableName=table)

    assert "not there any more" in refused(StoreDamaged, url, commit, remove, load)


def test_two_tables_are_two_stores(server: Server, url: str, admin: Any, table: str) -> None:
    run(url, commit)
    assert run(url, lambda store: store.resources()) == ["alice"]
    try:
        assert run(url.replace(table, f"{table}.2"), lambda store: store.resources()) == []
    finally:
        admin.delete_table(TableName=f"{table}.2")


def test_a_raw_scan_sees_ids_and_contents_until_they_are_erased(url: str) -> None:
    run(url, commit)
    seen = b"".join(scan_backend(url) or ())
    assert all(text in seen for text in (b"alice", b"support", b"hello"))
    run(url, lambda store: store.delete(Resource("alice")))
    seen = b"".join(scan_backend(url) or ())
    assert not any(text in seen for text in (b"alice", b"support", b"hello", json.dumps("hello").encode()))
