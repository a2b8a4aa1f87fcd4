"""The file of a store: that all its connections and calls work on one and the same, and on the one that others see.

SQLite goes on with a file that was deleted, renamed or replaced: what it writes then is seen by nobody, and a log
beside another file is taken for that one's (https://sqlite.org/howtocorrupt.html, 4).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from os import path, stat
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from threadkeep.errors import OutcomeUnknown, StoreDamaged, StoreNotWritable, ThreadkeepError
from threadkeep_adapters.sqlite.url import Place

T = TypeVar("T")

_Identity: TypeAlias = tuple[int, int]
"""What one file has and no other: the device and the number on it. No other gets the number while a connection holds
the file open."""

TRIES: Final = 10
"""How often a file that changes while it is opened is opened again."""


class StoreFile:
    """The file, which the first connection finds. Its methods may be called by several threads."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._own: _Identity | None = None
        self._log: dict[str, _Identity] = {}
        """The log and its index, by their paths."""

    def connect(self, *, create: bool = False, sealed: bool = False) -> sqlite3.Connection:
        """A connection to the file. It has written nothing yet, so that a file of another program is still as it was.

        Raises StoreDamaged where another file is there than the one of the first connection; that is not opened.
        """
        for _ in range(TRIES):
            before = _identity(self.place.path)
            if self._own is not None:
                self.check()
            connection = _connect(self.place, create=create, sealed=sealed)
            # A file that was made just now is opened again, since it might be another one by now.
            if before is not None and before == _identity(self.place.path) and self._own in (None, before):
                self._own = before
                return connection
            connection.close()
        raise StoreDamaged(f"{self.place.path} is replaced again and again while it is opened; stop what does that")

    def note_log(self) -> None:
        """Note the log and its index, which the writer's connection has opened by a first reading."""
        real = path.realpath(self.place.path)
        found = {f"{real}{part}": _identity(f"{real}{part}") for part in ("-wal", "-shm")}
        self._log = {part: identity for part, identity in found.items() if identity is not None}

    def forget_log(self) -> None:
        """The writer's connection is closed. If it was the last one, SQLite has removed the log, and makes another."""
        self._log = {}

    def release(self) -> StoreFile:
        """The file, for whoever closes the connections that there are; the next connection is a first one again."""
        before = StoreFile(self.place)
        before._own, before._log = self._own, self._log
        self._own, self._log = None, {}
        return before

    def check(self) -> None:
        """StoreDamaged where the file of the first connection is not in its place."""
        found = _identity(self.place.path)
        if found == self._own:
            return
        what = "is not there any more" if found is None else "is another file now"
        raise StoreDamaged(
            f"{self.place.path} {what}: it was deleted, renamed or replaced while the store was open. Put the file "
            "back that was there, with its -wal beside it, or close the store and open it anew, to use what is there"
        )

    def check_all(self) -> None:
        """As `check`, of the log and its index too: what is written to others than those beside the file is lost."""
        self.check()
        for part, identity in self._log.items():
            if _identity(part) != identity:
                raise StoreDamaged(
                    f"{part}, a part of the store, was deleted or replaced while the store was open. Put it back, or "
                    f"close every store on {self.place.path} in all processes, and open it anew"
                )

    def read(self, work: Callable[[], T]) -> T:
        """What `work` returns, if the file is in its place after it."""
        result = self._told(work)
        self.check()
        return result

    def write(self, work: Callable[[], T]) -> T:
        """The same for what writes, and has looked before its commit: a file that is lost after it may hold it."""
        result = self._told(work)
        try:
            self.check()
        except (StoreDamaged, StoreNotWritable) as lost:
            raise OutcomeUnknown(f"the file was taken away while the call was under way: {lost}") from lost
        return result

    def _told(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OutcomeUnknown:
            raise
        except (sqlite3.Error, ThreadkeepError):
            # What a lost file answers is no answer, and neither is that another one has no such table.
            self.check_all()
            raise


def check_log_has_file(place: Place) -> None:
    """Raise StoreDamaged where a log lies without its file: SQLite would remove it, and what was written to it last."""
    real = path.realpath(place.path)
    # In this order: whoever makes a file makes its log later.
    if _size(f"{real}-wal") > 0 and _size(real) <= 0:
        raise StoreDamaged(
            f"{real}-wal is the log of a store, and its file {real} is not there: put the file back, or remove "
            f"{real}-wal, with the newest commits of that store, to begin a new one"
        )


def _connect(place: Place, *, create: bool, sealed: bool) -> sqlite3.Connection:
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


def _identity(file: str) -> _Identity | None:
    """Of the file that has this name now, None where there is none. Raises StoreNotWritable where nobody can tell."""
    try:
        found = stat(file)  # noqa: PTH116  # every call looks, and a Path costs as much again
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreNotWritable(f"{file} cannot be reached: {error.strerror}") from error
    return found.st_dev, found.st_ino


def _size(file: str) -> int:
    """In bytes, -1 where no file can be seen."""
    try:
        return Path(file).stat().st_size
    except OSError:
        return -1
