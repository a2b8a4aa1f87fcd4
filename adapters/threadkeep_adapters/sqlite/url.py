"""Where an SQLite store is, as its URL says it."""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from threadkeep.errors import InvalidURL, StoreNotWritable
from threadkeep_adapters.options import choice, read_options, seconds

FORMS: Final = "sqlite:///relative.db or sqlite:////absolute/path.db"

Synchronous: TypeAlias = Literal["full", "normal"]

_SYNCHRONOUS: Final[Mapping[str, Synchronous]] = {"full": "full", "normal": "normal"}

TIMEOUT: Final = seconds(
    "timeout",
    10.0,
    "how long a call waits for others who use the file, the wait in this process's own queue included; then it is "
    "`StoreUnavailable`, and may be repeated",
)
SYNCHRONOUS: Final = choice("synchronous", "full", _SYNCHRONOUS, "what an acknowledged commit survives, see below")

OPTIONS: Final = (TIMEOUT, SYNCHRONOUS)


@dataclass(frozen=True, slots=True)
class Place:
    """A file, and how to use it."""

    path: str
    """Absolute, so that a change of the working directory moves nothing."""
    timeout: float = TIMEOUT.default
    """How long a call waits for others who use the file, in seconds."""
    synchronous: Synchronous = SYNCHRONOUS.default

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
    given = read_options(parts.query, OPTIONS)
    return Place(str(Path(path).absolute()), given[TIMEOUT], given[SYNCHRONOUS])


def _is_folder(path: Path) -> bool:
    """Whether a folder is there. Raises OSError where that cannot be told; Path.is_dir hides it since Python 3.14."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def new_url(url: str) -> str:
    """The URL of a file that is not there yet, with the same options, in a folder that goes with this process."""
    read_url(url)
    folder = tempfile.mkdtemp(prefix="threadkeep-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _, _, query = url.partition("?")
    return f"sqlite:///{quote(folder)}/new.db" + (f"?{query}" if query else "")
