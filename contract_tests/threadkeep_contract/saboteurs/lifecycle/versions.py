"""Places of other versions that are opened all the same, or are not left alone."""

from __future__ import annotations

import sqlite3

from threadkeep_contract.saboteurs.file import VERSION, FileStore


class NewerVersionOpened(FileStore):
    """What a newer version made is opened as if it were its own."""

    fault = "newer-version-opened"
    caught_by = 12
    seen_in = "CREATE TABLE IF NOT EXISTS as the only look at a schema"

    def check_version(self, connection: sqlite3.Connection, found: int) -> None:
        if found < VERSION:
            super().check_version(connection, found)


class OlderVersionMadeAnew(FileStore):
    """What an older version made is removed, and made anew in the layout of this one."""

    fault = "older-version-made-anew"
    caught_by = 12
    seen_in = "caches with a version in their key, Room's fallbackToDestructiveMigration"

    def check_version(self, connection: sqlite3.Connection, found: int) -> None:
        if found >= VERSION:
            super().check_version(connection, found)
            return
        for table in ("threads", "records", "docs"):
            connection.execute(f"DROP TABLE {table}")
        self.make(connection)


class OtherVersionWrittenOver(FileStore):
    """What another version made is refused, after the version was written over with its own."""

    fault = "other-version-written-over"
    caught_by = 12
    seen_in = "migration tools that stamp before they check"

    def check_version(self, connection: sqlite3.Connection, found: int) -> None:
        if found != VERSION:
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        super().check_version(connection, found)
