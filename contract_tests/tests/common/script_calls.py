"""What scripts of saboteurs call: short forms of the verbs, for two users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from threadkeep.errors import ThreadkeepError
from threadkeep.port import Changes, Guard, Record, Resource, Thread, Window

ALICE, BOB = Thread("alice", "t"), Thread("bob", "t")
OF_ALICE: Final = Resource("alice")
ALL: Final = Window(before=100_000)
TOGETHER: Final = 100
"""Records of one commit of many."""

Open: TypeAlias = Callable[[], Guard]
"""Opens one more handle on the place."""
Script: TypeAlias = Callable[[Open], Awaitable[object]]


def records(*ids: str) -> tuple[Record, ...]:
    return tuple(Record(name, f"digest of {name}", f'"{name}"') for name in ids)


async def say(store: Guard, thread: Thread, *ids: str, at: int = 1, **more: Any) -> Any:
    return await store.commit(thread, Changes(at, f"epoch {at}", records(*ids), **more))


async def say_many(store: Guard, thread: Thread, count: int) -> None:
    for first in range(0, count, TOGETHER):
        await say(store, thread, *(f"m{number}" for number in range(first, min(first + TOGETHER, count))))


async def ids(store: Guard, thread: Thread, window: Window = ALL) -> list[str]:
    return [stored.id for stored in (await store.load(thread, window)).records]


async def ended(call: Awaitable[object]) -> str:
    """How a call ended, in a word."""
    try:
        await call
    except ThreadkeepError as error:
        return type(error).__name__
    return "done"


async def docs_of(store: Guard, scope: Thread | Resource) -> object:
    snapshot = await store.load(scope, ALL)
    return {**snapshot.docs}, {**snapshot.resource_docs}
