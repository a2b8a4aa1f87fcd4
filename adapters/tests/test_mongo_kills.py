"""A client that dies before each of its requests in turn: all of a call is there, or nothing (laws 4, 6, 10)."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import pytest
import servers
from mongodb_server import FERRETDB, MONGO_JAVA_SERVER

from threadkeep.guard import Guard
from threadkeep.registry import open_store, scan_backend
from threadkeep.store import Changes, Put, Record, Resource, Snapshot, Thread, ThreadRow, Window

ALL: Final = Window(before=1000)

VICTIM: Final = """
import asyncio, os, signal, sys
from pymongo.monitoring import CommandListener, register
import test_mongo_kills as tests

class Killer(CommandListener):
    left = int(sys.argv[3])
    def started(self, event):
        if Killer.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        Killer.left -= 1
    def succeeded(self, event): pass
    def failed(self, event): pass

async def main():
    register(Killer())
    store = tests.open_store(sys.argv[1])
    # Opening takes one request.
    Killer.left += 1
    await store.open()
    await tests.SCENARIOS[sys.argv[2]](store, sys.argv[4])

asyncio.run(main())
"""

_big: Final = "b" * 20_000


def _records(*names: str) -> tuple[Record, ...]:
    return tuple(Record(name, f"digest of {name}", f'"body of {name}"') for name in names)


def _thread(user: str) -> Thread:
    return Thread(user, "secret-thread")


async def prepare(store: Guard, user: str) -> None:
    """A resource with two threads, documents small and large, and messages."""
    puts = (Put("small", "1"), Put("large", f'"{_big}"'))
    await store.commit(_thread(user), Changes(1, f"epoch of {user}", _records("a", "b", "c"), puts, puts))
    await store.commit(Thread(user, "other"), Changes(2, "other epoch", _records("a")))


async def _append(store: Guard, user: str) -> None:
    puts = (Put("small", "2"), Put("large", f'"{_big}{_big}"'))
    await store.commit(_thread(user), Changes(3, "late", _records("b", "d", "e"), puts, puts))


async def _truncate(store: Guard, user: str) -> None:
    await store.commit(_thread(user), Changes(3, "late", _records("c", "d"), drop_after=1))


async def _create(store: Guard, user: str) -> None:
    await store.commit(Thread(user, "new"), Changes(3, "new epoch", _records("a"), (Put("small", "1"),)))


async def _delete(store: Guard, user: str) -> None:
    await store.delete(_thread(user))


async def _erase(store: Guard, user: str) -> None:
    await store.delete(Resource(user))


SCENARIOS: Final[dict[str, Callable[[Guard, str], Awaitable[None]]]] = {
    "append": _append,
    "truncate": _truncate,
    "create": _create,
    "delete": _delete,
    "erase": _erase,
}


async def _look(store: Guard, user: str) -> tuple[list[Snapshot], list[list[ThreadRow]], bool]:
    resource = Resource(user)
    snapshots = [await store.load(Thread(user, name), ALL) for name in ("secret-thread", "other", "new")]
    lists = [
        [*await store.threads(resource, order="created", slots=("small", "large"))],
        [*await store.threads(resource, order="active", slots=("small", "large"))],
    ]
    before = chr(ord(user[0]) - 1)
    return [*snapshots, await store.load(resource)], lists, user in await store.resources(before, 1000)


@pytest.mark.parametrize("kind", [FERRETDB, MONGO_JAVA_SERVER], ids=lambda kind: kind.name)
@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_a_client_killed_before_any_of_its_requests_leaves_all_of_a_call_or_nothing(
    kind: servers.Kind, scenario: str
) -> None:
    url = servers.shared(kind).url

    async def check(user: str) -> tuple[bool, bool]:
        """Whether the victim lived to its end, and whether its call was done."""
        store, model = open_store(url), open_store("memory://kills")
        try:
            await prepare(store, user)
            await prepare(model, user)
            assert await _look(store, user) == await _look(model, user)
            before = await _look(model, user)
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", VICTIM, url, scenario, user.rpartition("-")[2], user],
                env={"PYTHONPATH": ":".join(sys.path)},
                capture_output=True,
                check=False,
                timeout=60,
            )
            assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
            seen = await _look(store, user)
            await SCENARIOS[scenario](model, user)
            after = await _look(model, user)
            assert seen in (before, after)
            assert done.returncode or seen == after
            # Whoever comes next finds nothing in the way, and what the dead left is passed over.
            await SCENARIOS[scenario](store, user)
            await SCENARIOS[scenario](model, user)
            if seen == before or scenario in ("delete", "erase"):
                assert await _look(store, user) == after
            await store.delete(Resource(user))
            await store.delete(Resource(user))
            left = b"".join(scan_backend(url) or ())
            assert not [text for text in (user, "secret-thread", "body of") if text.encode() in left]
            return done.returncode == 0, seen == after
        finally:
            await model.delete(Resource(user))
            await store.close()
            await model.close()

    kind.tidy(url)
    outcomes = []
    for requests in range(40):
        outcomes.append(asyncio.run(check(f"victim-{scenario}-{requests}")))
        if outcomes[-1][0]:
            break
    assert outcomes[-1] == (True, True)
    # It was killed before its effect at first, and after it later.
    assert outcomes[0] == (False, False)
    assert (False, True) in outcomes
