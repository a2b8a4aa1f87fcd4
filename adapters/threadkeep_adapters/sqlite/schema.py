"""An SQLite file: connecting to it, telling whose it is, making the schema, and keeping a transaction whole."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Final, TypeVar

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from threadkeep.errors import (
    OutcomeUnknown,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreNotWritable,
    StoreTooNew,
    StoreUnavailable,
    ThreadkeepError,
)
from threadkeep_adapters.sql import tables
from threadkeep_adapters.sql.rows import sql_text
from threadkeep_adapters.sqlite.url import Place

T = TypeVar("T")

OLDEST_SQLITE: Final = (3, 35, 0)
"""The first SQLite with RETURNING (https://sqlite.org/lang_returning.html)."""

_DIALECT: Final = sqlite.dialect(paramstyle="named")


@cache
def text(statement: tables.Statement) -> str:
    """The SQL text of a statement, made once."""
    return sql_text(statement, _DIALECT)


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
    """What a driver's error means, by SQLite's result code (https://sqlite.org/rescode.html)."""
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


def open_first(place: Place) -> tuple[sqlite3.Connection, bool]:
    """A connection to a file that has the schema, which is made where there is none, and whether the file is sealed.

    Sealed is a file beside which nobody can write, such as on a read-only medium; it must be opened anew to be read.
    Raises StoreTooNew and StoreDamaged with nothing touched, StoreError, sqlite3.Error.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(str(part) for part in OLDEST_SQLITE)
        raise StoreError(f"SQLite {oldest} or newer is needed, and this Python has {sqlite3.sqlite_version}")
    place.check()
    try:
        return _open_writable(place), False
    except sqlite3.OperationalError as error:
        no_access = primary_code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
        if no_access and place.is_sealed():
            return _open_sealed(place), True
        raise


def _open_writable(place: Place) -> sqlite3.Connection:
    connection = connect(place, create=True)
    try:
        _prepare(connection, found_version(connection), place.timeout)
    except BaseException:
        connection.close()
        raise
    return connection


def _open_sealed(place: Place) -> sqlite3.Connection:
    connection = connect(place, sealed=True)
    try:
        if found_version(connection) is None:
            raise StoreNotWritable(f"{place.path} is empty, and cannot be written")
    except BaseException:
        connection.close()
        raise
    return connection


def found_version(connection: sqlite3.Connection) -> int | None:
    """The schema version, None in an empty file. Reads and nothing else.

    Raises StoreTooNew, and StoreDamaged where the file is another program's or no database.
    """
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master").fetchall()}
    if not names:
        return None
    if tables.schema.name not in names:
        raise StoreDamaged("this SQLite file belongs to another program: it has tables, and none is threadkeep's")
    versions = connection.execute(text(tables.READ_SCHEMA)).fetchall()
    if len(versions) != 1:
        raise StoreDamaged(f"{tables.schema.name} must hold one version, and holds {len(versions)}")
    ((version,),) = versions
    if version > tables.SCHEMA_VERSION:
        raise StoreTooNew(version, tables.SCHEMA_VERSION)
    return int(version)


def _prepare(connection: sqlite3.Connection, found: int | None, timeout: float) -> None:
    if found is not None and connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
        return
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            # For this lock SQLite does not wait by itself, whatever the timeout.
            if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    transact(connection, _create)


def _create(connection: sqlite3.Connection) -> None:
    if found_version(connection) is not None:
        return
    for table in tables.metadata.sorted_tables:
        connection.execute(str(CreateTable(table).compile(dialect=_DIALECT)))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            connection.execute(str(CreateIndex(index).compile(dialect=_DIALECT)))
    connection.execute(text(tables.WRITE_SCHEMA), {"version": tables.SCHEMA_VERSION})


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
        if primary_code(error) == sqlite3.SQLITE_IOERR:
            raise OutcomeUnknown(f"the commit was not confirmed: {error}") from error
        raise
    return result


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
