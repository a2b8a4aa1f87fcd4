"""Scripts of faults that show where calls are cancelled, killed or fail, or a place is opened again."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final
from unittest.mock import patch

from script_calls import ALICE, ALL, BOB, OF_ALICE, Open, Script, ended, ids, say

from threadkeep.port import Changes, Put, Resource, Thread
from threadkeep_contract.faults.waits import ERRORS, Fault, Way, fail_at
from threadkeep_contract.saboteurs import FileStore

# Cancelled, killed and opened again


async def _cancelled(call: Awaitable[object], turns: int) -> None:
    """Begin a call, let it have so many turns, and cancel it."""
    task = asyncio.ensure_future(call)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _half_a_commit(at: Open) -> object:
    store = at()
    await store.open()
    await _cancelled(say(store, ALICE, "a1", puts=(Put("title", "1"),)), 1)
    snapshot = await store.load(ALICE, ALL)
    return bool(snapshot.records) == bool(snapshot.docs)


async def _load_after_cancelled_load(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1")
    await say(store, BOB, "b1")
    await _cancelled(store.load(ALICE, ALL), 2)
    return await ids(store, BOB)


async def _load_after_cancelled_loads(at: Open) -> object:
    store = at()
    await store.open()
    for _ in range(8):
        await _cancelled(store.load(ALICE, ALL), 1)
    return await ended(store.load(ALICE, ALL))


async def _cancelled_when_its_turn_comes(at: Open) -> object:
    store = at()
    await store.open()

    async def first() -> None:
        await say(store, ALICE, "a1")
        second.cancel()

    leading = asyncio.ensure_future(first())
    await asyncio.sleep(0)
    second = asyncio.ensure_future(say(store, ALICE, "a2"))
    with suppress(asyncio.CancelledError):
        await asyncio.gather(leading, second)
    return await ended(say(store, ALICE, "a3"))


class _KilledError(Exception):
    """The process ends here."""


async def _killed_in_second_transaction(at: Open) -> object:
    store = at()
    await say(store, BOB, "b0")
    await say(store, ALICE, "a0")
    await store.delete(BOB)
    killed = store.store
    assert isinstance(killed, FileStore)
    begin, begun = killed.transaction, 0

    @contextmanager
    def transaction(mode: str) -> Iterator[sqlite3.Connection]:
        nonlocal begun
        begun += 1
        if begun % 2 == 0:
            raise _KilledError
        with begin(mode) as connection:
            yield connection

    with patch.object(killed, "transaction", transaction):
        for thread in (ALICE, BOB, Thread("alice", "other")):
            begun = 0
            await ended(say(store, thread, "x1", at=5))
    rows = [row for name in ("alice", "bob") for row in await store.threads(Resource(name))]
    return [(bool(row.tail.epoch), row.active) for row in rows], await store.resources()


async def _truncated_then_opened_again(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1", "a2")
    await say(store, ALICE, drop_after=1)
    await store.close()
    return (await say(at(), ALICE, "a3")).positions


async def _removed_then_opened_again(at: Open) -> object:
    store = at()
    await store.commit(OF_ALICE, Changes(1, puts=(Put("notes", "1"),)))
    await store.commit(OF_ALICE, Changes(1, puts=(Put("notes", None),)))
    await store.close()
    return (await at().commit(OF_ALICE, Changes(1, puts=(Put("notes", "2"),)))).versions


async def _snapshot_kept(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1", puts=(Put("title", "1"),), resource_puts=(Put("notes", "1"),))
    kept = await store.load(ALICE, ALL)
    await say(store, ALICE, "a2", puts=(Put("title", "2"),), resource_puts=(Put("notes", "2"),))
    return len(kept.records), {**kept.docs}, {**kept.resource_docs}


async def _made_anew_by_another(at: Open) -> object:
    one, other = at(), at()
    await say(one, ALICE, "a1")
    await ids(one, ALICE)
    await other.delete(ALICE)
    await say(other, ALICE, "a1", at=2)
    return (await one.load(ALICE, ALL)).tail


# Waits that fail


async def _failed(call: Callable[[], Awaitable[object]], kind: Way = "lost") -> str:
    """How a call ended whose first wait was failed by a reset connection, or how it was answered."""
    ending = await fail_at(call, Fault(kind, 1, ERRORS[0]))
    return type(ending.error or ending.result).__name__


async def _lost_put(at: Open) -> object:
    store = at()
    await store.open()
    await _failed(lambda: say(store, ALICE, puts=(Put("title", "1"),)))
    return [doc.version for doc in (await store.load(ALICE)).docs.values()]


async def _lost_commit(at: Open) -> object:
    store = at()
    await store.open()
    return await _failed(lambda: say(store, ALICE, "a1")), await ids(store, ALICE)


async def _commit_after_failed_commit(at: Open) -> object:
    store = at()
    await store.open()
    await _failed(lambda: say(store, ALICE, "a1"))
    return await ended(say(store, ALICE, "a2"))


async def _half_a_failed_commit(at: Open) -> object:
    store = at()
    await store.open()
    await _failed(lambda: say(store, ALICE, "a1", puts=(Put("title", "1"),)))
    snapshot = await store.load(ALICE, ALL)
    return bool(snapshot.records) == bool(snapshot.docs)


async def _failed_load(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1")
    return await _failed(lambda: store.load(ALICE, ALL))


async def _load_after_failed_load(at: Open) -> object:
    store = at()
    await say(store, ALICE, "a1")
    await say(store, BOB, "b1")
    await _failed(lambda: store.load(ALICE, ALL), "failed")
    return await ids(store, BOB)


SCRIPTS: Final[dict[str, Script]] = {
    "cancelled-commit-leaves-half": _half_a_commit,
    "list-entry-written-before-the-commit": _killed_in_second_transaction,
    "activity-written-after-the-commit": _killed_in_second_transaction,
    "resource-listed-in-a-second-transaction": _killed_in_second_transaction,
    "counters-forgotten-on-restart": _truncated_then_opened_again,
    "removed-documents-forgotten-on-restart": _removed_then_opened_again,
    "epoch-remembered-by-handle": _made_anew_by_another,
    "snapshot-changes-later": _snapshot_kept,
    "cancelled-answer-stays": _load_after_cancelled_load,
    "cancelled-load-keeps-its-connection": _load_after_cancelled_loads,
    "cancelled-waiter-loses-the-turn": _cancelled_when_its_turn_comes,
    "lost-acknowledgement-sent-again": _lost_put,
    "lost-acknowledgement-told-as-outage": _lost_commit,
    "error-keeps-the-lock": _commit_after_failed_commit,
    "broken-ever-after-an-error": _commit_after_failed_commit,
    "half-a-commit-kept-on-an-error": _half_a_failed_commit,
    "read-error-told-as-empty": _failed_load,
    "answer-stays-after-an-error": _load_after_failed_load,
}
