"""Calls for a client to die in, what they are made on, and a look at what they left, for any store.

`prepare` fills a resource, a call of SCENARIOS changes it, and `look` sees all of it: before the call, or after it, and
never a part of it (laws 4, 6, 10).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from threadkeep.guard import Guard
from threadkeep.store import Changes, Put, Record, Resource, Snapshot, Thread, ThreadRow, Window

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


SCENARIOS: Final[dict[str, Callable[[Guard, str], Awaitable[None]]]] = {
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
