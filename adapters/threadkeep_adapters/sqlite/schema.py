"""The schema of an SQLite file: telling whose the file is, and making the schema where there is none."""

from __future__ import annotations

import sqlite3
import time
from typing import Final

from threadkeep.errors import StoreDamaged, StoreError, StoreNotWritable
from threadkeep.port import check_schema_version
from threadkeep_adapters.sql import tables
from threadkeep_adapters.sqlite import errors
from threadkeep_adapters.sqlite.connections import transact
from threadkeep_adapters.sqlite.file import StoreFile, check_log_has_file
from threadkeep_adapters.sqlite.statements import WRITE_SCHEMA, ddl, text

OLDEST_SQLITE: Final = (3, 35, 0)
"""The first SQLite with RETURNING (https://sqlite.org/lang_returning.html)."""

LOCK_INTERVAL: Final = 0.01
"""Seconds between two looks whether others have let go of the file."""


def open_first(file: StoreFile) -> tuple[sqlite3.Connection, bool]:
    """A connection to a file that has the schema, which is made where there is none, and whether the file is sealed.

    Sealed is a file beside which nobody can write, such as on a read-only medium; it must be opened anew to be read.
    Raises StoreTooNew, StoreTooOld and StoreDamaged with nothing touched, StoreError, sqlite3.Error.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(str(part) for part in OLDEST_SQLITE)
        raise StoreError(f"SQLite {oldest} or newer is needed, and this Python has {sqlite3.sqlite_version}")
    place = file.place
    place.check()
    check_log_has_file(place)
    try:
        return _open_writable(file), False
    except sqlite3.OperationalError as error:
        no_access = errors.primary_code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
        if no_access and place.is_sealed():
            return _open_sealed(file), True
        raise


def _open_writable(file: StoreFile) -> sqlite3.Connection:
    connection = file.connect(create=True)
    try:
        _prepare(connection, found_version(connection), file.place.timeout)
        file.check()
        file.note_log()
    except BaseException:
        connection.close()
        raise
    return connection


def _open_sealed(file: StoreFile) -> sqlite3.Connection:
    connection = file.connect(sealed=True)
    try:
        if found_version(connection) is None:
            raise StoreNotWritable(f"{file.place.path} is empty, and cannot be written")
    except BaseException:
        connection.close()
        raise
    return connection


def found_version(connection: sqlite3.Connection) -> int | None:
    """The schema version, None in an empty file. Reads and nothing else.

    Raises StoreTooNew, StoreTooOld, and StoreDamaged where the file is another program's or no database.
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
    check_schema_version(version, tables.SCHEMA_VERSION)
    return int(version)


def _prepare(connection: sqlite3.Connection, found: int | None, timeout: float) -> None:
    if found is not None and connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
        return
    _switch_to_wal(connection, timeout)
    transact(connection, _create)


def _switch_to_wal(connection: sqlite3.Connection, timeout: float) -> None:
    """Keep a log beside the file. For the lock that this takes SQLite does not wait by itself, whatever its timeout."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if errors.primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(LOCK_INTERVAL)


def _create(connection: sqlite3.Connection) -> None:
    if found_version(connection) is not None:
        return
    for statement in ddl():
        connection.execute(statement)
    connection.execute(text(WRITE_SCHEMA), {"version": tables.SCHEMA_VERSION})
