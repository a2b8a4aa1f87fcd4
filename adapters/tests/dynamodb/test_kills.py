"""A client that dies before each of its requests in turn: all of a call is there, or nothing (laws 4, 6, 10)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import killed_calls
import pytest
import servers
from dynamodb_server import DYNAMODB, REGION
from killed_calls import (
    BODY,
    MOST,
    Victims,
    count_down,
    killed_at_each_request,
    left_in,
    new_user,
    opened,
    records,
    thread_of,
)

from threadkeep.errors import TailMoved
from threadkeep.port import MISSING, Changes, Guard, Receipt, Record, Resource, Thread
from threadkeep_adapters.dynamodb import connections
from threadkeep_adapters.dynamodb.connections import session_of

pytestmark = pytest.mark.slow


def watch() -> None:
    """In the process of `Victims`: count the requests of every child."""
    session = session_of()
    session.events.register("before-send.dynamodb", count_down)
    # To read the description of the service takes longer than most calls, so that children have it from their parent.
    session.client("dynamodb", region_name=REGION).close()
    os.register_at_fork(after_in_child=lambda: connections._sessions.update({(os.getpid(), None): session}))


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    with Victims(Path(__file__)) as victims:
        yield victims


def _many(first: int, size: int = 0) -> tuple[Record, ...]:
    return records(*(f"n{number}" for number in range(first, first + 100)), size=size)


async def prepare(store: Guard, user: str) -> None:
    """As for every store, and more messages than a transaction holds."""
    await killed_calls.prepare(store, user)
    await store.commit(thread_of(user), Changes(2, "-", _many(0)))


async def _append_much(store: Guard, user: str) -> None:
    """More items than a transaction holds, and more bytes than an item."""
    await store.commit(thread_of(user), Changes(3, "late", (*records("giant", size=900_000), *_many(100, 5000)[1:])))


async def _delete_small(store: Guard, user: str) -> None:
    await store.delete(Thread(user, "other"))


@pytest.fixture
def url() -> str:
    return servers.shared(DYNAMODB).url


SCENARIOS: Final = {**killed_calls.SCENARIOS, "append_much": _append_much, "delete_small": _delete_small}


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_a_client_killed_before_any_of_its_requests_leaves_all_of_a_call_or_nothing(
    url: str, scenario: str, victims: Victims
) -> None:
    _, users = asyncio.run(killed_at_each_request(url, victims, scenario, SCENARIOS[scenario], prepare))
    assert not left_in(url, *users, BODY)


async def test_a_large_thread_whose_deletion_died_is_swept_when_its_resource_is_erased(
    url: str, victims: Victims
) -> None:
    """The thread is in no list any more, and nobody commits to it or deletes it again."""
    swept = 0
    async with opened(url) as store:
        for requests in range(MOST):
            user = new_user()
            await prepare(store, user)
            ended = await victims.call(url, "delete", requests, user)
            is_deleted = not (await store.load(thread_of(user))).tail.epoch
            swept += is_deleted and bool(left_in(url, "n50"))
            await store.delete(Thread(user, "other"))
            await store.delete(Resource(user))
            assert not left_in(url, user, BODY)
            if ended:
                break
    assert swept > 0


async def test_who_held_a_thread_whose_resource_is_erased_cannot_write_into_what_is_gone(
    url: str, victims: Victims
) -> None:
    """The writer has not looked since, and whoever looks sees an erasure that is done or not begun."""
    refused = 0

    async def check(writer: Guard, reader: Guard, requests: int, user: str) -> bool:
        nonlocal refused
        thread = Thread(user, "other")
        await prepare(writer, user)
        held = (await writer.load(thread)).tail
        ended = await victims.call(url, "erase", requests, user)
        seen = (await reader.load(thread)).tail
        assert seen in (held, MISSING)
        # What an erasure has come to before this commit, the commit may finish, but not undo.
        late = writer.commit(thread, Changes(5, "late", records("late"), if_tail=held))
        (outcome,) = await asyncio.gather(late, return_exceptions=True)
        found = (await reader.load(thread)).tail
        if isinstance(outcome, Receipt):
            assert (seen, found) == (held, outcome.tail)
        else:
            refused += 1
            assert (type(outcome), found) == (TailMoved, MISSING)
        await writer.commit(thread, Changes(6, "anew", records("anew")))
        await writer.delete(Resource(user))
        return ended

    async with opened(url) as writer, opened(url) as reader:
        for requests in range(MOST):
            if await check(writer, reader, requests, new_user()):
                break
    assert refused > 1


async def test_what_a_dead_client_left_of_a_truncation_is_swept_by_the_next_commit(url: str, victims: Victims) -> None:
    """Dropped messages are not to lie about until the thread happens to be truncated again."""
    left = 0
    async with opened(url) as store:
        for requests in range(MOST):
            user = new_user()
            await prepare(store, user)
            ended = await victims.call(url, "truncate", requests, user)
            if (await store.load(thread_of(user))).tail.position > 103:
                left += bool(left_in(url, "n50"))
                await store.commit(thread_of(user), Changes(4, "next", records("next")))
                assert not left_in(url, "n50")
            await store.delete(Resource(user))
            if ended:
                break
    assert left > 0
