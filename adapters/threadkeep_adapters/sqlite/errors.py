"""What errors of SQLite mean here, by its result codes (https://sqlite.org/rescode.html)."""

from __future__ import annotations

import sqlite3
from typing import Final

from threadkeep.errors import StoreDamaged, StoreFull, StoreNotWritable, StoreUnavailable, ThreadkeepError

_MEANINGS: Final[dict[int, type[ThreadkeepError]]] = {
    sqlite3.SQLITE_BUSY: StoreUnavailable,
    sqlite3.SQLITE_LOCKED: StoreUnavailable,
    sqlite3.SQLITE_PROTOCOL: StoreUnavailable,
    sqlite3.SQLITE_INTERRUPT: StoreUnavailable,
    sqlite3.SQLITE_NOMEM: StoreUnavailable,
    sqlite3.SQLITE_FULL: StoreFull,
    sqlite3.SQLITE_READONLY: StoreNotWritable,
    sqlite3.SQLITE_PERM: StoreNotWritable,
    sqlite3.SQLITE_AUTH: StoreNotWritable,
    sqlite3.SQLITE_CANTOPEN: StoreNotWritable,
    sqlite3.SQLITE_CORRUPT: StoreDamaged,
    sqlite3.SQLITE_NOTADB: StoreDamaged,
    sqlite3.SQLITE_FORMAT: StoreDamaged,
}


def meaning(error: Exception) -> ThreadkeepError | None:
    """What a driver's error means."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    said = f"{error} ({getattr(error, 'sqlite_errorname', code)})"
    if code == sqlite3.SQLITE_IOERR_SHMSIZE:
        # What a full disk makes of the index of the log, which is a file too.
        return StoreFull(said)
    kind = _MEANINGS.get(code & 0xFF)
    return None if kind is None else kind(said)


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code without its extension, 0 for an error of the driver's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


ERRORS: Final = ((sqlite3.Error, meaning),)
"""The table of the store."""
