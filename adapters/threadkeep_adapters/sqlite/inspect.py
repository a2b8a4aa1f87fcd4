"""An SQLite file from outside: whether there is a store, all that it holds, its version, another in its place."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from threadkeep_adapters.sql import tables
from threadkeep_adapters.sqlite.url import Place

_PRINT_FILE: Final = "import shutil, sys; shutil.copyfileobj(open(sys.argv[1], 'rb'), sys.stdout.buffer)"


def exists(place: Place) -> bool:
    """Whether there is a store, or something that opening will say more about."""
    try:
        # SQLite itself takes an empty file for a database that nobody has written to yet.
        return Path(place.path).stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # something is there, and opening it tells what is wrong


def shift(place: Place, by: int) -> None:
    """Write another schema version into the file."""
    with closing(sqlite3.connect(place.path)) as connection, connection:
        connection.execute(f"UPDATE {tables.schema.name} SET version = version + ?", (by,))


def replace(place: Place, by: Place | None) -> None:
    """Remove the file and its log, as for a new beginning, or as whoever puts a backup in their place."""
    for part in ("", "-wal", "-shm"):
        Path(place.path + part).unlink(missing_ok=True)
    if by is not None:
        Path(by.path).rename(place.path)


def scan(place: Place) -> Iterator[bytes]:
    """The file and its log, as they are."""
    for part in (place.path, place.path + "-wal"):
        if Path(part).exists():
            # Another process reads: closing the file in this one would drop SQLite's locks on it (howtocorrupt, 2.2).
            yield subprocess.run(
                [sys.executable, "-S", "-c", _PRINT_FILE, part], check=True, capture_output=True
            ).stdout
