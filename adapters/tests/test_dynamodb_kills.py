"""A client that dies before each of its requests in turn: all of a call is there, or nothing (laws 4, 6, 10)."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from typing import Any, Final

import killed_calls
import pytest
import servers
from dynamodb_server import DYNAMODB
from killed_calls import BODY, look, records, thread_of

from threadkeep.errors import TailMoved
from threadkeep.guard import Guard
from threadkeep.registry import open_store, scan_backend
from threadkeep.store import MISSING, Changes, Receipt, Record, Resource, Thread

VICTIM: Final = """
import asyncio, os, signal, sys
import test_dynamodb_kills as tests
from threadkeep_adapters.dynamodb.client import session_of

async def call(scenario, user):
    store = tests.open_store(sys.argv[1])
    await store.open()
    tests.kill_in(tests.REQUESTS)
    await tests.SCENARIOS[scenario](store, user)

for line in sys.stdin:
    scenario, requests, user = line.split()
    pid = os.fork()
    if pid == 0:
        tests.REQUESTS = int(requests)
        session_of().events.register("before-send.dynamodb", tests.count_down)
        asyncio.run(call(scenario, user))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
"""Forks a child for each line, which dies before its request of that number; imports take longer than all the rest."""

REQUESTS = 0
_left: float = float("inf")


def kill_in(requests: int) -> None:
    """In a victim: die before the request that comes after so many others."""
    global _left
    _left = requests


def count_down(**_: Any) -> None:
    """In a victim, before each request."""
    global _left
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    _left -= 1


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


SCENARIOS: Final = {**killed_calls.SCENARIOS, "append_much": _append_much, "delete_small": _delete_small}

ANEW: Final = frozenset({"delete", "delete_small", "erase"})
"""Calls of which a second comes to the same as the first."""


class Victims:
    """A process that makes calls which are killed."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", VICTIM, url],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Victims:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    async def call(self, scenario: str, requests: int, user: str) -> bool:
        """Make a call and kill it before its request of that number; whether it lived to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{scenario} {requests} {user}\n")
        self._process.stdin.flush()
        ended = int(await asyncio.to_thread(self._process.stdout.readline))
        assert ended in (0, -signal.SIGKILL)
        return ended == 0


def new_user() -> str:
    return f"victim-{secrets.token_hex(8)}"


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_a_client_killed_before_any_of_its_requests_leaves_all_of_a_call_or_nothing(scenario: str) -> None:
    url = servers.shared(DYNAMODB).url

    async def check(victims: Victims, requests: int, user: str) -> tuple[bool, bool]:
        """Whether the victim lived to its end, and whether its call was done."""
        store, model = open_store(url), open_store("memory://kills")
        try:
            await prepare(store, user)
            await prepare(model, user)
            before = await look(model, user)
            assert await look(store, user) == before
            ended = await victims.call(scenario, requests, user)
            seen = await look(store, user)
            await SCENARIOS[scenario](model, user)
            after = await look(model, user)
            assert seen in (before, after)
            assert not ended or seen == after
            # Whoever comes next finds nothing in the way.
            if seen == before or scenario in ANEW:
                await SCENARIOS[scenario](store, user)
                assert await look(store, user) == after
            await store.commit(thread_of(user), Changes(4, "next", records("next")))
            await model.commit(thread_of(user), Changes(4, "next", records("next")))
            assert await look(store, user) == await look(model, user)
            await store.delete(Resource(user))
            assert not [text for text in (user, BODY) if text.encode() in raw(url)]
            return ended, seen == after
        finally:
            await model.delete(Resource(user))
            await store.close()
            await model.close()

    outcomes = []
    with Victims(url) as victims:
        for requests in range(60):
            outcomes.append(asyncio.run(check(victims, requests, new_user())))
            if outcomes[-1][0]:
                break
    assert outcomes[-1] == (True, True)
    # It was killed before its effect at first.
    assert outcomes[0] == (False, False)


def raw(url: str) -> bytes:
    return b"".join(scan_backend(url) or ())


def test_a_large_thread_whose_deletion_died_is_swept_when_its_resource_is_erased() -> None:
    """The thread is in no list any more, and nobody commits to it or deletes it again."""
    url = servers.shared(DYNAMODB).url
    swept = 0

    async def check(victims: Victims, requests: int, user: str) -> bool:
        nonlocal swept
        store = open_store(url)
        try:
            await prepare(store, user)
            ended = await victims.call("delete", requests, user)
            is_deleted = not (await store.load(thread_of(user))).tail.epoch
            swept += is_deleted and b"n50" in raw(url)
            await store.delete(Thread(user, "other"))
            await store.delete(Resource(user))
            assert not [text for text in (user, BODY) if text.encode() in raw(url)]
            return ended
        finally:
            await store.close()

    with Victims(url) as victims:
        for requests in range(60):
            if asyncio.run(check(victims, requests, new_user())):
                break
    assert swept > 0


def test_who_held_a_thread_whose_resource_is_erased_cannot_write_into_what_is_gone() -> None:
    """The writer has not looked since, and whoever looks sees an erasure that is done or not begun."""
    url = servers.shared(DYNAMODB).url
    refused = 0

    async def check(victims: Victims, requests: int, user: str) -> bool:
        nonlocal refused
        writer, reader = open_store(url), open_store(url)
        thread = Thread(user, "other")
        try:
            await prepare(writer, user)
            held = (await writer.load(thread)).tail
            ended = await victims.call("erase", requests, user)
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
        finally:
            await writer.close()
            await reader.close()

    with Victims(url) as victims:
        for requests in range(60):
            if asyncio.run(check(victims, requests, new_user())):
                break
    assert refused > 1


def test_what_a_dead_client_left_of_a_truncation_is_swept_by_the_next_commit() -> None:
    """Dropped messages are not to lie about until the thread happens to be truncated again."""
    url = servers.shared(DYNAMODB).url
    left = 0

    async def check(victims: Victims, requests: int, user: str) -> bool:
        nonlocal left
        store = open_store(url)
        try:
            await prepare(store, user)
            ended = await victims.call("truncate", requests, user)
            if (await store.load(thread_of(user))).tail.position > 103:
                left += b"n50" in raw(url)
                await store.commit(thread_of(user), Changes(4, "next", records("next")))
                assert b"n50" not in raw(url)
            return ended
        finally:
            await store.delete(Resource(user))
            await store.close()

    with Victims(url) as victims:
        for requests in range(60):
            if asyncio.run(check(victims, requests, new_user())):
                break
    assert left > 0
