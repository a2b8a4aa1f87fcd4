"""Where an SQLite store is, as its URL says it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from threadkeep.errors import InvalidURL, StoreNotWritable

FORMS: Final = "sqlite:///relative.db or sqlite:////absolute/path.db"

MAX_TIMEOUT: Final = 86_400
"""A day, in seconds."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file, and how to use it."""

    path: str
    """Absolute, so that a change of the working directory moves nothing."""
    timeout: float = 10.0
    """How long a call waits for others who use the file, in seconds."""
    synchronous: Literal["full", "normal"] = "full"

    def check(self) -> None:
        """Raise StoreNotWritable where no file can be: no folder, a folder in its place, or no way to it."""
        path = Path(self.path)
        try:
            is_folder, has_folder = _is_folder(path), _is_folder(path.parent)
        except OSError as error:
            raise StoreNotWritable(f"{self.path} cannot be reached: {error.strerror}") from error
        if is_folder:
            raise StoreNotWritable(f"{self.path} is a folder; name a file, as in {FORMS}")
        if not has_folder:
            raise StoreNotWritable(f"the folder {path.parent} does not exist; create it, or correct the URL")

    def is_sealed(self) -> bool:
        """Whether nobody can be writing: the folder takes no file from us, and there is no log beside the file."""
        return not os.access(Path(self.path).parent, os.W_OK) and not Path(self.path + "-wal").exists()

    def uri(self, *, create: bool = False, sealed: bool = False) -> str:
        """SQLite's own name for the file."""
        mode = "mode=ro&immutable=1" if sealed else "mode=rwc" if create else "mode=rw"
        return f"{Path(self.path).as_uri()}?{mode}"


def read_url(url: str) -> Place:
    """The place that a URL names, or InvalidURL."""
    parts = urlsplit(url)
    if parts.netloc:
        raise InvalidURL(f"{url!r} has two slashes before the file; write {FORMS}")
    if parts.fragment or url.endswith("#"):
        raise InvalidURL(f"{url!r} holds a #; write it as %23 where it belongs to the file's name")
    path = unquote(parts.path)[1:]
    if not path or path == ":memory:":
        raise InvalidURL(f"{url!r} names no file; write {FORMS}, or memory://NAME for threads in memory")
    if "\0" in path:
        raise InvalidURL(f"{url!r} has a NUL in the file's name")
    if path.endswith(("/", os.sep)):
        raise InvalidURL(f"{url!r} names a folder; name a file, as in {FORMS}")
    timeout, synchronous = 10.0, "full"
    given: set[str] = set()
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in given:
            raise InvalidURL(f"{url!r} gives {name} twice")
        given.add(name)
        if name == "timeout":
            timeout = _seconds(url, value)
        elif name == "synchronous":
            synchronous = value.lower()
        else:
            raise InvalidURL(
                f"{url!r} has the unknown option {name!r}; known are timeout=SECONDS and synchronous=full or normal"
            )
    if synchronous not in ("full", "normal"):
        raise InvalidURL(f"{url!r}: synchronous is full or normal, not {synchronous!r}")
    return Place(str(Path(path).absolute()), timeout, "full" if synchronous == "full" else "normal")


def _is_folder(path: Path) -> bool:
    """Whether a folder is there. Raises OSError where that cannot be told; Path.is_dir hides it since Python 3.14."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _seconds(url: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_TIMEOUT:
        raise InvalidURL(f"{url!r}: timeout is a number of seconds from 0 to {MAX_TIMEOUT}, not {value!r}")
    return seconds
