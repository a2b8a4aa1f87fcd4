"""Connections to an SQLite file: the one that writes, and those that read."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from threadkeep.errors import OutcomeUnknown
from threadkeep_adapters.sql.rows import Rows
from threadkeep_adapters.sqlite import errors
from threadkeep_adapters.sqlite.file import StoreFile

T = TypeVar("T")


class Writer:
    """The connection that writes. Whoever uses it holds `taken`."""

    def __init__(self, file: StoreFile) -> None:
        self.taken = threading.Lock()
        self.connection: sqlite3.Connection | None = None
        self.file = file
        self._busy_timeout = file.place.timeout

    def connected(self) -> sqlite3.Connection:
        """The connection; after an error that left it in doubt, a new one."""
        if self.connection is None:
            connection = self.file.connect()
            try:
                # A first reading opens the log.
                connection.execute("PRAGMA schema_version").fetchall()
                self.file.note_log()
            except BaseException:
                connection.close()
                raise
            self.connection = connection
            self._busy_timeout = self.file.place.timeout
        return self.connection

    def wait_at_most(self, seconds: float) -> None:
        """From now on, let a statement wait for other writers of the file for about so many seconds."""
        if abs(seconds - self._busy_timeout) > 0.1:
            self.connected().execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
            self._busy_timeout = seconds

    def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As `transact`, if the file is in its place; StoreDamaged else, and nothing is written. A connection in doubt
        is closed."""
        connection = self.connected()

        def work_and_look(connection: sqlite3.Connection) -> T:
            result = work(connection)
            self.file.check_all()
            return result

        try:
            return transact(connection, work_and_look)
        except BaseException:
            if connection.in_transaction:
                self.connection = None
                self.file.forget_log()
                connection.close()
            raise


class Readers:
    """The connections that read, as many as there are threads that use them."""

    def __init__(self, file: StoreFile) -> None:
        self.idle: deque[sqlite3.Connection] = deque()
        self.is_sealed = False
        """Whether nobody can write to the file; then each statement opens it anew."""
        self._file = file

    def fetch(self, sql: str, given: Any) -> Rows:
        """The rows of a statement, of the file that is in its place."""
        return self._file.read(lambda: self._fetch(sql, given))

    def _fetch(self, sql: str, given: Any) -> Rows:
        is_new = False
        try:
            connection = self.idle.pop()
        except IndexError:
            is_new = True
            connection = self._file.connect(sealed=self.is_sealed)
        try:
            rows: Rows = connection.execute(sql, given).fetchall()
            if is_new:
                # It has opened the log just now.
                self._file.check_all()
        except BaseException:
            connection.close()
            raise
        if self.is_sealed:
            connection.close()
        else:
            self.idle.append(connection)
        return rows

    def close(self) -> None:
        """Close all that are idle."""
        while self.idle:
            self.idle.pop().close()


def transact(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """What `work` returns, and all that it wrote, or nothing of it. Where the rollback fails too, the connection stays
    in_transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
    except BaseException:
        _roll_back(connection)
        raise
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        _roll_back(connection)
        if errors.primary_code(error) == sqlite3.SQLITE_IOERR:
            raise OutcomeUnknown(f"the commit was not confirmed: {error}") from error
        raise
    return result


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
