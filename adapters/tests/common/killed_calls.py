"""Calls for a client to die in, what they are made on, and a look at what they left, for any store.

`prepare` fills a resource, a call of SCENARIOS changes it, and `look` sees all of it: before the call, or after it, and
never a part of it (laws 4, 6, 10). Clients that die are children of `Victims`.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

from threadkeep.port import (
    Changes,
    Guard,
    Put,
    Record,
    Resource,
    Snapshot,
    Thread,
    ThreadRow,
    Window,
    open_store,
    scan_backend,
)

ALL: Final = Window(before=1000)

BODY: Final = "body of "
"""In every message, and in nothing else."""
_large: Final = "large document " * 1300


def records(*names: str, size: int = 0) -> tuple[Record, ...]:
    """A record of each name, its body `size` characters longer than need be."""
    return tuple(Record(name, f"digest of {name}", f'"{BODY}{name}{"." * size}"') for name in names)


def thread_of(user: str) -> Thread:
    """The thread that most calls are made on."""
    return Thread(user, "secret-thread")


async def prepare(store: Guard, user: str) -> None:
    """A resource with two threads, documents small and large, and messages."""
    puts = (Put("small", "1"), Put("large", f'"{_large}"'))
    await store.commit(thread_of(user), Changes(1, f"epoch of {user}", records("a", "b", "c"), puts, puts))
    await store.commit(Thread(user, "other"), Changes(2, "other epoch", records("a")))


async def _append(store: Guard, user: str) -> None:
    puts = (Put("small", "2"), Put("large", f'"{_large}{_large}"'))
    await store.commit(thread_of(user), Changes(3, "late", records("b", "d", "e"), puts, puts))


async def _truncate(store: Guard, user: str) -> None:
    await store.commit(thread_of(user), Changes(3, "late", records("c", "d"), drop_after=1))


async def _create(store: Guard, user: str) -> None:
    await store.commit(Thread(user, "new"), Changes(3, "new epoch", records("a"), (Put("small", "1"),)))


async def _delete(store: Guard, user: str) -> None:
    await store.delete(thread_of(user))


async def _erase(store: Guard, user: str) -> None:
    await store.delete(Resource(user))


Call: TypeAlias = Callable[[Guard, str], Awaitable[None]]
"""What is done with a store's resource."""

SCENARIOS: Final[dict[str, Call]] = {
    "append": _append,
    "truncate": _truncate,
    "create": _create,
    "delete": _delete,
    "erase": _erase,
}


async def look(store: Guard, user: str) -> tuple[list[Snapshot], list[list[ThreadRow]], bool]:
    """All that readers see of a resource: its threads, documents and lists, and whether it is in the list of all."""
    resource = Resource(user)
    snapshots = [await store.load(Thread(user, name), ALL) for name in ("secret-thread", "other", "new")]
    lists = [
        [*await store.threads(resource, order="created", slots=("small", "large"))],
        [*await store.threads(resource, order="active", slots=("small", "large"))],
    ]
    return [*snapshots, await store.load(resource)], lists, user in await store.resources(user[:-1], 1000)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Guard]:
    """A store, closed at the end."""
    store = open_store(url)
    try:
        yield store
    finally:
        await store.close()


def left_in(url: str, *texts: str) -> list[str]:
    """Which of the texts are anywhere in what the backend holds."""
    raw = b"".join(scan_backend(url) or ())
    return [text for text in texts if text.encode() in raw]


_left: float = float("inf")


def count_down(*_: Any, **__: Any) -> None:
    """In a victim, before each request: die where no other may be sent."""
    global _left
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    _left -= 1


async def _die(tests: ModuleType, url: str, scenario: str, requests: int, user: str) -> None:
    global _left
    store = open_store(url)
    await store.open()
    _left = requests
    await tests.SCENARIOS[scenario](store, user)


def serve(tests: ModuleType) -> None:
    """In the process of `Victims`: fork a child for each line, which dies before its request of that number.

    The module that tests has SCENARIOS, and `watch`, which makes the driver call `count_down` before each request.
    """
    tests.watch()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            asyncio.run(_die(tests, *json.loads(line)))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


class Victims:
    """A process whose children make calls that are killed: imports take longer than all the rest, and are made once."""

    def __init__(self, tests: Path) -> None:
        """`tests` is the file of the module that tests, which has SCENARIOS and `watch`."""
        module = tests.stem
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"import {module}, killed_calls; killed_calls.serve({module})"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), *sys.path])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Victims:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    async def call(self, url: str, scenario: str, requests: int, user: str) -> bool:
        """Make a call and kill it before its request of that number; whether it lived to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([url, scenario, requests, user]) + "\n")
        self._process.stdin.flush()
        ended = int(await asyncio.to_thread(self._process.stdout.readline))
        assert ended in (0, -signal.SIGKILL)
        return ended == 0


MOST: Final = 60
"""Requests that no call needs."""


def new_user() -> str:
    """A resource that nobody had."""
    return f"victim-{secrets.token_hex(8)}"


async def killed_at_each_request(
    url: str, victims: Victims, scenario: str, call: Call, prepared: Call
) -> tuple[list[tuple[bool, bool]], list[str]]:
    """Kill a call before its first request, its second and so on, until it lives to its end.

    For each death: whether it lived, and whether the call was done. And the resources that were made, and erased.
    """

    async def once(store: Guard, model: Guard, requests: int, user: str) -> tuple[bool, bool]:
        await prepared(store, user)
        await prepared(model, user)
        before = await look(model, user)
        assert await look(store, user) == before
        ended = await victims.call(url, scenario, requests, user)
        seen = await look(store, user)
        await call(model, user)
        after = await look(model, user)
        assert seen in (before, after)
        assert not ended or seen == after
        # Whoever comes next finds nothing in the way, and what the dead left is passed over.
        if seen == after:
            await call(model, user)
        await call(store, user)
        assert await look(store, user) == await look(model, user)
        for kept in (store, model):
            await kept.commit(thread_of(user), Changes(4, "next", records("next")))
        assert await look(store, user) == await look(model, user)
        for kept in (store, store, model):
            await kept.delete(Resource(user))
        return ended, seen == after

    outcomes, users = [], []
    async with opened(url) as store, opened("memory://kills") as model:
        for requests in range(MOST):
            users.append(new_user())
            outcomes.append(await once(store, model, requests, users[-1]))
            if outcomes[-1][0]:
                break
    assert outcomes[-1] == (True, True)
    # It was killed before its effect at first.
    assert outcomes[0] == (False, False)
    return outcomes, users
