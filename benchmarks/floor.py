"""The floor: what loading and appending cost when written by hand, for one table, with nothing checked.

Messages are ordered, appended atomically, and their ids are unique in their thread. One thread hop per operation.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    resource_id TEXT NOT NULL, thread_id TEXT NOT NULL, position INTEGER NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (resource_id, thread_id, position), UNIQUE (resource_id, thread_id, id)
)"""
LAST = "SELECT position, id, body FROM messages WHERE resource_id = ? AND thread_id = ? ORDER BY position DESC LIMIT ?"
NEWEST = "SELECT max(position) FROM messages WHERE resource_id = ? AND thread_id = ?"
ADD = "INSERT INTO messages VALUES (?, ?, ?, ?, ?)"


class Floor:
    """Messages are dicts with an "id". With `parse` False they stay JSON text: (id, text) pairs go in and come out."""

    def __init__(self, path: Path, synchronous: str, *, parse: bool = True) -> None:
        self.parse = parse
        self._pool = ThreadPoolExecutor(1)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA synchronous = {synchronous}")
        self._connection.execute(SCHEMA)

    async def last(self, resource_id: str, thread_id: str, count: int) -> list[Any]:
        """The newest messages, oldest first."""
        return await self._hop(lambda: self._last(resource_id, thread_id, count))

    async def append(self, resource_id: str, thread_id: str, messages: Sequence[Any]) -> None:
        """Append all of them or none."""
        await self._hop(lambda: self._append(resource_id, thread_id, messages))

    def close(self) -> None:
        """Let go of the thread and the file."""
        self._pool.shutdown()
        self._connection.close()

    async def _hop(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _last(self, resource_id: str, thread_id: str, count: int) -> list[Any]:
        rows = self._connection.execute(LAST, (resource_id, thread_id, count)).fetchall()
        rows.reverse()
        return [json.loads(body) for _, _, body in rows] if self.parse else rows

    def _append(self, resource_id: str, thread_id: str, messages: Sequence[Any]) -> None:
        pairs = [(message["id"], json.dumps(message)) for message in messages] if self.parse else messages
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            ((newest,),) = execute(NEWEST, (resource_id, thread_id)).fetchall()
            first = (newest or 0) + 1
            self._connection.executemany(
                ADD, [(resource_id, thread_id, place, id, body) for place, (id, body) in enumerate(pairs, first)]
            )
            execute("COMMIT")
        except BaseException:
            execute("ROLLBACK")
            raise
