"""Faults that law 6, durability and unknown outcomes, must find."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Final

from threadkeep.errors import OutcomeUnknown, StoreUnavailable, ThreadkeepError
from threadkeep.port import Changes, Receipt, Scope, Thread
from threadkeep_contract.saboteurs.base import DictStore, Row
from threadkeep_contract.saboteurs.file import FileStore
from threadkeep_contract.saboteurs.wire import WireStore, server

WRITE_BEHIND: Final = 0.05
"""Seconds for which an acknowledged commit waits in memory."""

MONTH: Final = 30 * 86_400

LOCK_SECONDS: Final = 1.0
"""Seconds for which a commit waits for the lock that another one holds."""


class AcknowledgedBeforeWritten(FileStore):
    """A commit is acknowledged while it is in this process's memory only, and written a moment later."""

    fault = "acknowledged-before-written"
    caught_by = 6
    seen_in = "write-behind buffers; Redis with appendfsync everysec"
    waiting: ClassVar[dict[str, list[tuple[Scope, Changes]]]] = {}
    waiting_lock: ClassVar[threading.RLock] = threading.RLock()

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.trips += 1
        await asyncio.sleep(0)
        with self.waiting_lock:
            with self.transaction("IMMEDIATE") as connection:
                connection.execute("SAVEPOINT rehearsal")
                self.check(connection, scope, changes)
                receipt = self.write(connection, scope, changes)
                connection.execute("ROLLBACK TO rehearsal")
            self.waiting.setdefault(self.path, []).append((scope, changes))
        asyncio.get_running_loop().call_later(WRITE_BEHIND, self.write_down)
        return receipt

    @contextmanager
    def transaction(self, mode: str) -> Iterator[sqlite3.Connection]:
        self.write_down()
        with super().transaction(mode) as connection:
            yield connection

    def write_down(self) -> None:
        if self._connection is None:
            return
        with self.waiting_lock:
            for scope, changes in self.waiting.pop(self.path, []):
                with suppress(ThreadkeepError), super().transaction("IMMEDIATE") as connection:
                    self.check(connection, scope, changes)
                    self.write(connection, scope, changes)

    async def close(self) -> None:
        self.write_down()
        await super().close()


class IdsRememberedLater(FileStore):
    """Which ids are known is written in a second transaction: after a kill between the two a repeat is stored again."""

    fault = "ids-remembered-in-a-second-transaction"
    caught_by = 6
    seen_in = "OpenAI Agents, LangGraph: a retry stores the user's message again"

    def set_up(self, connection: sqlite3.Connection) -> None:
        super().set_up(connection)
        connection.executescript(
            "CREATE TABLE IF NOT EXISTS seen (resource_id TEXT, thread_id TEXT, id TEXT, position INTEGER,"
            " digest TEXT, PRIMARY KEY (resource_id, thread_id, id));"
            " CREATE TRIGGER IF NOT EXISTS forget AFTER DELETE ON records BEGIN DELETE FROM seen WHERE"
            " resource_id = old.resource_id AND thread_id = old.thread_id AND id = old.id; END;"
        )

    def known(self, connection: sqlite3.Connection, thread: Thread, record_id: str) -> tuple[int, str] | None:
        found: tuple[int, str] | None = connection.execute(
            "SELECT position, digest FROM seen WHERE resource_id = ? AND thread_id = ? AND id = ?",
            (thread.resource_id, thread.thread_id, record_id),
        ).fetchone()
        return found

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        receipt = await super().commit(scope, changes)
        if isinstance(scope, Thread):
            with self.transaction("IMMEDIATE") as connection:
                connection.executemany(
                    "INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?, ?)",
                    [
                        (scope.resource_id, scope.thread_id, record.id, position, record.digest)
                        for record, position in zip(changes.append, receipt.positions, strict=True)
                    ],
                )
        return receipt


class LockOutlivesHolder(FileStore):
    """Commits take turns by a row that says who is writing: who is killed while writing locks everybody out."""

    fault = "lock-outlives-its-holder"
    caught_by = 6
    seen_in = "locks in Redis and lock files without an expiry"

    def set_up(self, connection: sqlite3.Connection) -> None:
        super().set_up(connection)
        connection.execute("CREATE TABLE IF NOT EXISTS held (it INTEGER PRIMARY KEY)")

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        deadline = time.monotonic() + LOCK_SECONDS
        while not self.take():
            if time.monotonic() > deadline:
                raise StoreUnavailable("another writer holds the lock")
            await asyncio.sleep(0.001)
        try:
            return await super().commit(scope, changes)
        finally:
            with self.transaction("IMMEDIATE") as connection:
                connection.execute("DELETE FROM held")

    def take(self) -> bool:
        with self.transaction("IMMEDIATE") as connection:
            return connection.execute("INSERT OR IGNORE INTO held VALUES (1)").rowcount == 1


class ResourceListWrittenLater(FileStore):
    """A resource goes into the list of resources in a transaction behind its first commit: after a kill between the
    two it is never listed, however much it holds."""

    fault = "resource-listed-in-a-second-transaction"
    caught_by = 6
    seen_in = "registries of users written after the first message: Redis SADD behind the script"

    def set_up(self, connection: sqlite3.Connection) -> None:
        super().set_up(connection)
        connection.execute("CREATE TABLE IF NOT EXISTS registry (resource_id TEXT PRIMARY KEY) WITHOUT ROWID")
        for table in ("threads", "docs"):
            connection.execute(
                f"CREATE TRIGGER IF NOT EXISTS unlist_{table} AFTER DELETE ON {table} BEGIN"
                " DELETE FROM registry WHERE resource_id = old.resource_id"
                " AND NOT EXISTS (SELECT 1 FROM threads WHERE resource_id = old.resource_id)"
                " AND NOT EXISTS (SELECT 1 FROM docs WHERE resource_id = old.resource_id); END"
            )

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.trips += 1
        await asyncio.sleep(0)
        with self.transaction("IMMEDIATE") as connection:
            is_first = not connection.execute(
                "SELECT EXISTS (SELECT 1 FROM threads WHERE resource_id = ?1)"
                " OR EXISTS (SELECT 1 FROM docs WHERE resource_id = ?1)",
                (scope.resource_id,),
            ).fetchone()[0]
            self.check(connection, scope, changes)
            receipt = self.write(connection, scope, changes)
        if is_first:
            with self.transaction("IMMEDIATE") as connection:
                connection.execute("INSERT OR IGNORE INTO registry VALUES (?)", (scope.resource_id,))
        return receipt

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        self.meter.trips += 1
        await asyncio.sleep(0)
        with self.transaction("DEFERRED") as connection:
            rows = connection.execute(
                "SELECT resource_id FROM registry WHERE resource_id > ? ORDER BY resource_id LIMIT ?",
                (after or "", limit),
            )
            return [resource_id for (resource_id,) in rows]


class LostCommitSentAgain(WireStore):
    """A write whose answer is lost is sent again, as a reading may be: its documents count two versions."""

    fault = "wire-lost-commit-sent-again"
    caught_by = 6
    seen_in = "retries around every call, whatever it does"

    async def exchange(self, verb: str, *args: Any) -> Any:
        try:
            return await super().exchange(verb, *args)
        except OutcomeUnknown:
            return await super().exchange(verb, *args)


class LostAnswerToldAsOutage(WireStore):
    """A lost connection is StoreUnavailable, which says that nothing was written, although the server may have done
    what it was asked."""

    fault = "wire-lost-answer-told-as-outage"
    caught_by = 6
    seen_in = "one `except ConnectionError` around connecting, sending and reading"

    def lost(self, verb: str, error: Exception) -> ThreadkeepError:
        return StoreUnavailable(f"the connection was lost: {error}")


class Expiring(DictStore):
    """A store that forgets threads to which nobody has written for a month, by the clock of its machine."""

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def touch(self, thread: Thread, changes: Changes) -> Row:
        self.values[("touched", *self.ids(thread))] = self.now()
        return super().touch(thread, changes)

    def remove_thread(self, thread: Thread) -> None:
        super().remove_thread(thread)
        self.values.pop(("touched", *self.ids(thread)), None)

    async def request(self) -> None:
        await super().request()
        with self.lock:
            for row in self.rows():
                thread = Thread(row.resource_id, row.thread_id)
                if self.now() - self.values[("touched", *self.ids(thread))] > MONTH:
                    self.remove_thread(thread)


class ThreadsExpireByTheClock(Expiring):
    """Threads to which nobody has written for a month are gone: a clock that is set wrong for a moment empties it."""

    fault = "threads-expire-by-the-clock"
    caught_by = 6
    seen_in = "a default time to live: Redis chat histories, DynamoDB TTL attributes"


class ExpiringServer(Expiring):
    """What such a store is on a server."""

    def now(self) -> float:
        return server().time


class ThreadsExpireOnTheServer(WireStore):
    """The server forgets threads to which nobody has written for a month, by its own clock."""

    fault = "wire-threads-expire-on-the-server"
    caught_by = 6
    seen_in = "TTL indexes of MongoDB, EXPIRE of Redis"
    held = ExpiringServer
