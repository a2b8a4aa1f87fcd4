"""Stores that go on when their file was deleted or replaced."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from threadkeep.errors import StoreDamaged
from threadkeep_contract.saboteurs.file import FileStore, file_at


class LostFileGoesOn(FileStore):
    """A file that was deleted or replaced is read and written on: what is acknowledged is gone with the last close."""

    fault = "lost-file-goes-on"
    caught_by = 12
    seen_in = "SQLite with a log: an open file outlives its name"

    def set_up(self, connection: sqlite3.Connection) -> None:
        super().set_up(connection)
        # With a rollback journal, SQLite looks itself before it writes.
        connection.execute("PRAGMA journal_mode=WAL")

    def check_file(self) -> None:
        pass


class LostFileKnownByName(LostFileGoesOn):
    """Whether the file was deleted is told by its name: one that has come back is taken for it."""

    fault = "lost-file-known-by-name"
    caught_by = 12
    seen_in = "`os.path.exists` before a call"

    def check_file(self) -> None:
        if not Path(self.path).exists():
            raise StoreDamaged("the file is gone")


class LostFileReadOn(FileStore):
    """Only what writes looks whether the file is still there: readings answer from one that was replaced."""

    fault = "lost-file-read-on"
    caught_by = 12
    seen_in = "SQLite with a rollback journal, whose look comes with the first page that is written"

    @contextmanager
    def transaction(self, mode: str) -> Iterator[sqlite3.Connection]:
        self._reading = mode == "DEFERRED"
        with super().transaction(mode) as connection:
            yield connection

    def check_file(self) -> None:
        if not self._reading:
            super().check_file()


class LostFileOpenedAnew(FileStore):
    """Where another file is there, it is opened and used in silence: a conversation goes on in an older backup, or in
    an empty file."""

    fault = "lost-file-opened-anew"
    caught_by = 12
    seen_in = "a connection for each call, pools that connect again after an error"

    def check_file(self) -> None:
        if file_at(self.path) == self.file or self._connection is None:
            return
        self._connection.close()
        self._connection = self.connect()
        self.file = file_at(self.path)
