"""What AWS answers and DynamoDB Local never does: throttling, conflicts, failures, halves of batches (laws 2, 5, 6)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import servers
from dynamodb_gateway import (
    CANCELLED_CONFLICT,
    CANCELLED_THROTTLED,
    FAILED,
    FAILED_AFTER,
    GARBLED_AFTER,
    IN_PROGRESS,
    THROTTLED,
    TOO_FAST,
    Gateway,
    Refusal,
)
from dynamodb_server import DYNAMODB
from servers import Server

from threadkeep.errors import OutcomeUnknown, StoreError, StoreUnavailable
from threadkeep.port import Changes, Guard, Put, Record, Resource, Thread, Window, open_store

pytestmark = pytest.mark.slow

ALL = Window(before=1000)
MANY = 100


@pytest.fixture(scope="module")
def server() -> Server:
    return servers.shared(DYNAMODB)


@pytest.fixture
def gateway(server: Server) -> Iterator[Gateway]:
    with Gateway(server.host, server.port) as made:
        yield made


def change(number: int, *puts: Put) -> Changes:
    return Changes(at=number, epoch="e", append=(Record(f"m{number}", "d", '"hello"'),), puts=puts)


@asynccontextmanager
async def prepared(gateway: Gateway, options: str = "") -> AsyncIterator[tuple[Guard, Thread]]:
    """A store behind the gateway, and a thread of the test's own there that holds one message."""
    store = open_store(DYNAMODB.url("127.0.0.1", gateway.port) + options)
    try:
        thread = Thread(f"user-{secrets.token_hex(8)}", "t")
        await store.commit(thread, change(1))
        gateway.operations.clear()
        yield store, thread
    finally:
        await store.close()


async def ids(gateway: Gateway, thread: Thread) -> list[str]:
    """What a store finds that is in no hurry."""
    store = open_store(DYNAMODB.url("127.0.0.1", gateway.port))
    try:
        return [record.id for record in (await store.load(thread, ALL)).records]
    finally:
        await store.close()


@pytest.mark.parametrize("refusal", [THROTTLED, TOO_FAST, CANCELLED_THROTTLED, CANCELLED_CONFLICT, IN_PROGRESS])
async def test_a_throttled_commit_is_tried_again_until_it_is_done_once(gateway: Gateway, refusal: Refusal) -> None:
    async with prepared(gateway) as (store, thread):
        gateway.refuse("TransactWriteItems", refusal, times=4)
        receipt = await store.commit(thread, change(2, Put("slot", "1")))
        assert (receipt.positions, receipt.versions) == ([2], [1])
        assert gateway.operations == ["TransactWriteItems"] * 5
        assert await ids(gateway, thread) == ["m1", "m2"]


@pytest.mark.parametrize("refusal", [THROTTLED, TOO_FAST, CANCELLED_THROTTLED])
async def test_a_commit_that_stays_throttled_is_named_and_has_written_nothing(
    gateway: Gateway, refusal: Refusal
) -> None:
    async with prepared(gateway, "&timeout=1") as (store, thread):
        gateway.refuse("TransactWriteItems", refusal)
        with pytest.raises(StoreUnavailable, match=r"gave up after 1 s.*Th") as caught:
            await store.commit(thread, change(2))
        assert caught.value.retryable
        gateway.forward()
        assert await ids(gateway, thread) == ["m1"]


@pytest.mark.parametrize("refusal", [THROTTLED, TOO_FAST, CANCELLED_THROTTLED, CANCELLED_CONFLICT, FAILED])
async def test_reads_that_are_refused_for_a_while_are_tried_again(gateway: Gateway, refusal: Refusal) -> None:
    async with prepared(gateway) as (store, thread):
        resource = Resource(thread.resource_id)
        gateway.refuse("TransactGetItems Query BatchGetItem", refusal, times=6)
        assert await ids(gateway, thread) == ["m1"]
        gateway.refuse("TransactGetItems Query BatchGetItem", refusal, times=6)
        assert [row.thread_id for row in await store.threads(resource)] == ["t"]


async def test_a_load_that_stays_throttled_is_named(gateway: Gateway) -> None:
    async with prepared(gateway, "&timeout=1") as (store, thread):
        gateway.refuse("*", THROTTLED)
        for reading in (store.load(thread, ALL), store.threads(Resource(thread.resource_id)), store.resources()):
            with pytest.raises(StoreUnavailable, match="throughput"):
                await reading
        with pytest.raises(StoreUnavailable, match="throughput"):
            await store.delete(thread)


@pytest.mark.parametrize("refusal", [FAILED, FAILED_AFTER, GARBLED_AFTER])
async def test_a_failure_that_does_not_say_whether_it_was_done_is_repeated_and_done_once(
    gateway: Gateway, refusal: Refusal
) -> None:
    """The repetition has the token of the first try, which DynamoDB does once only."""
    async with prepared(gateway) as (store, thread):
        gateway.refuse("TransactWriteItems", refusal, times=2)
        receipt = await store.commit(thread, change(2, Put("slot", "1")))
        assert (receipt.positions, receipt.versions) == ([2], [1])
        found = await store.load(thread, ALL)
        assert ([record.id for record in found.records], found.docs["slot"].version) == (["m1", "m2"], 1)


@pytest.mark.parametrize("refusal", [FAILED, FAILED_AFTER])
async def test_a_failure_that_stays_is_an_unknown_outcome_and_a_repetition_is_safe(
    gateway: Gateway, refusal: Refusal
) -> None:
    async with prepared(gateway, "&timeout=1") as (store, thread):
        gateway.refuse("TransactWriteItems", refusal)
        with pytest.raises(OutcomeUnknown):
            await store.commit(thread, change(2))
        gateway.forward()
        assert (await store.commit(thread, change(2))).positions == [2]
        assert await ids(gateway, thread) == ["m1", "m2"]


async def test_a_refusal_after_a_lost_answer_is_still_an_unknown_outcome(gateway: Gateway) -> None:
    """Throttled at the second try, the store knows no more than after the first of what became of it."""
    async with prepared(gateway, "&timeout=1") as (store, thread):
        answers = [FAILED_AFTER]

        def judge(operation: str, body: dict[str, Any]) -> Refusal | None:
            if operation != "TransactWriteItems":
                return None
            return answers.pop() if answers else THROTTLED

        gateway.judge = judge
        with pytest.raises(OutcomeUnknown):
            await store.commit(thread, change(2))
        gateway.forward()
        assert await ids(gateway, thread) == ["m1", "m2"]


async def test_batches_that_are_answered_in_part_are_asked_for_the_rest(gateway: Gateway) -> None:
    async with prepared(gateway) as (store, thread):
        names = [f"t{number:03}" for number in range(MANY)]
        large = Put("large", '"' + "x" * 5000 + '"')
        await asyncio.gather(
            *(store.commit(Thread(thread.resource_id, name), change(1, large)) for name in names),
        )
        gateway.halved = True
        rows = await store.threads(Resource(thread.resource_id), limit=MANY + 1, slots=("large",))
        assert sorted(row.thread_id for row in rows) == ["t", *names]
        assert all(row.docs["large"].body == large.body for row in rows if row.thread_id != "t")
        assert gateway.operations.count("BatchGetItem") > 8


async def test_pages_of_a_query_are_all_read(gateway: Gateway) -> None:
    """DynamoDB ends a page at 1 MB, whatever was asked for."""
    async with prepared(gateway) as (store, thread):
        body = '"' + "x" * 200_000 + '"'
        for number in range(5):
            records = tuple(Record(f"{number}.{part}", "d", body) for part in range(5))
            await store.commit(thread, Changes(at=2, epoch="e", append=records))
        gateway.operations.clear()
        found = await store.load(thread, ALL)
        assert [record.id for record in found.records] == ["m1", *(f"{n}.{p}" for n in range(5) for p in range(5))]
        assert gateway.operations.count("Query") > 4
        last = await store.load(thread, Window(before=1))
        assert [record.id for record in last.records] == ["4.4"]


async def test_an_error_that_nobody_expected_is_named_with_its_code(gateway: Gateway) -> None:
    async with prepared(gateway) as (store, thread):
        strange = Refusal(400, {"__type": "com.amazonaws.dynamodb.v20120810#NewException", "message": "what is new"})
        gateway.refuse("*", strange)
        with pytest.raises(StoreError, match="NewException: what is new"):
            await store.load(thread, ALL)
        with pytest.raises(StoreError, match="NewException: what is new"):
            await store.commit(thread, change(2))
