"""Removing what deletions leave in an SQLite file and in its log."""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from typing import Final

from threadkeep.errors import OutcomeUnknown, StoreError
from threadkeep_adapters.sqlite.connections import Writer
from threadkeep_adapters.sqlite.file import StoreFile

READERS_SECONDS: Final = 0.5
"""How long a deletion waits for others' reads before it leaves the emptying of the log to the next write."""

READERS_INTERVAL: Final = 0.005
"""Seconds between two looks whether they have ended."""

_COMPACT_OWED: Final = 1
"""The file's user_version while an erasure has been committed and the file not yet been rewritten."""


class Sweeper:
    """Sweeps a file over the connection that writes; its methods are called by whoever holds that."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.is_owed = False
        """Whether the log may hold what was deleted."""

    def owe_compacting(self, connection: sqlite3.Connection) -> None:
        """Note, in the transaction of an erasure, that the file is to be written anew."""
        connection.execute(f"PRAGMA user_version = {_COMPACT_OWED}")

    def compact(self, connection: sqlite3.Connection) -> None:
        """Write the file anew, if that is owed.

        Deleted rows are overwritten, and yet copies of them may stand in the gaps of pages: SQLite moves rows from
        page to page as its trees grow and shrink, and does not clear where they stood.
        """
        try:
            if connection.execute("PRAGMA user_version").fetchone() != (_COMPACT_OWED,):
                return
            self.is_owed = True
            self._writer.file.check_all()
            connection.execute("VACUUM")
            connection.execute("PRAGMA user_version = 0")
        except (sqlite3.Error, StoreError) as error:
            raise OutcomeUnknown(
                "the resource is erased, but the file could not be rewritten and may still hold copies; "
                f"erase it again: {error}"
            ) from error

    def sweep(self, connection: sqlite3.Connection, seconds: float = 0.0, file: StoreFile | None = None) -> None:
        """If that is owed, copy the log into the file and empty it, so that neither holds what was deleted.

        Readers may delay that; after so many seconds it is left to the next call. `file` is that of a connection which
        the writer has let go of.
        """
        if not self.is_owed:
            return
        deadline = time.monotonic() + seconds
        if file is None:
            self._writer.wait_at_most(0)
            file = self._writer.file
        else:
            connection.execute("PRAGMA busy_timeout = 0")
        while True:
            # A log beside another file is that one's.
            with suppress(sqlite3.OperationalError, StoreError):
                file.check_all()
                ((busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                if not busy:
                    self.is_owed = False
                    return
            if time.monotonic() >= deadline:
                return
            time.sleep(READERS_INTERVAL)
