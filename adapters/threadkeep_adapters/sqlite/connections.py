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
from threadkeep_adapters.sqlite.url import Place

T = TypeVar("T")


def connect(place: Place, *, create: bool = False, sealed: bool = False) -> sqlite3.Connection:
    """A connection. It has written nothing yet, so that a file of another program is still as it was."""
    connection = sqlite3.connect(
        place.uri(create=create, sealed=sealed),
        timeout=place.timeout,
        isolation_level=None,
        check_same_thread=False,
        uri=True,
    )
    try:
        connection.execute(f"PRAGMA synchronous = {place.synchronous}")
        connection.execute("PRAGMA secure_delete = ON")
        if place.synchronous == "full":
            # Elsewhere than on macOS these two do nothing; there, a plain sync does not reach the disk.
            connection.execute("PRAGMA fullfsync = ON")
            connection.execute("PRAGMA checkpoint_fullfsync = ON")
    except BaseException:
        connection.close()
        raise
    return connection


class Writer:
    """The connection that writes. Whoever uses it holds `taken`."""

    def __init__(self, place: Place) -> None:
        self.taken = threading.Lock()
        self.connection: sqlite3.Connection | None = None
        self._place = place
        self._busy_timeout = place.timeout

    def connected(self) -> sqlite3.Connection:
        """The connection; after an error that left it in doubt, a new one."""
        if self.connection is None:
            self.connection = connect(self._place)
            self._busy_timeout = self._place.timeout
        return self.connection

    def wait_at_most(self, seconds: float) -> None:
        """From now on, let a statement wait for other writers of the file for about so many seconds."""
        if abs(seconds - self._busy_timeout) > 0.1:
            self.connected().execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
            self._busy_timeout = seconds

    def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As `transact`. A connection in doubt is closed."""
        connection = self.connected()
        try:
            return transact(connection, work)
        except BaseException:
            if connection.in_transaction:
                self.connection = None
                connection.close()
            raise


class Readers:
    """The connections that read, as many as there are threads that use them."""

    def __init__(self, place: Place) -> None:
        self.idle: deque[sqlite3.Connection] = deque()
        self.is_sealed = False
        """Whether nobody can write to the file; then each statement opens it anew."""
        self._place = place

    def fetch(self, sql: str, given: Any) -> Rows:
        """The rows of a statement."""
        if self.is_sealed:
            connection = connect(self._place, sealed=True)
        else:
            try:
                connection = self.idle.pop()
            except IndexError:
                connection = connect(self._place)
        try:
            rows: Rows = connection.execute(sql, given).fetchall()
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
