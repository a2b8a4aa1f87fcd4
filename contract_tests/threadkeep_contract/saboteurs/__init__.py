"""Small stores, each broken in one named way that some real system was broken in, and some sound ones beside them.

The contract suite is only good if it rejects every one of `SABOTEURS` by the law that its class names, and accepts
`SOUND`. This package is a store plugin without an entry point: `threadkeep.port.registry.register("saboteur", module)`
makes it answer to `saboteur://FAULT/NAME`, where NAME keeps stores apart, and to `saboteur://FAULT/absolute/path.db`
for those that keep a file (`FileStore`). Those on a server (`WireStore`) are reached through a proxy at
`saboteur://FAULT:PORT/NAME`.
"""

from __future__ import annotations

import atexit
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from threadkeep.errors import InvalidURL
from threadkeep.port import Store, hookimpl
from threadkeep_contract.laws import NAMES
from threadkeep_contract.saboteurs.base import DictStore, Saboteur
from threadkeep_contract.saboteurs.file import FileStore
from threadkeep_contract.saboteurs.remote import RemoteStore
from threadkeep_contract.saboteurs.wire import HOST, WireStore, server

__all__ = [
    "SABOTEURS",
    "SOUND",
    "DictStore",
    "FileStore",
    "Saboteur",
    "WireStore",
    "clock",
    "new_place",
    "open_store",
    "proxied",
    "replace_place",
    "scan_backend",
    "shift_version",
]


def of_module(module: ModuleType) -> Iterator[type[Saboteur]]:
    """The saboteurs that a module defines, in the order in which they are written; a package's are its modules'."""
    for value in vars(module).values():
        here = isinstance(value, type) and value.__module__ == module.__name__
        if here and issubclass(value, Saboteur) and "fault" in vars(value):
            yield value
    for part in iter_modules(getattr(module, "__path__", ())):
        yield from of_module(import_module(f"{module.__name__}.{part.name}"))


def _collect() -> dict[str, type[Saboteur]]:
    found: dict[str, type[Saboteur]] = {}
    for name in NAMES:
        for kind in of_module(import_module(f"{__name__}.{name}")):
            if found.setdefault(kind.fault, kind) is not kind:
                raise TypeError(f"two saboteurs have the fault {kind.fault!r}: each needs a name of its own")
    return found


SABOTEURS: Final[dict[str, type[Saboteur]]] = _collect()
"""Every saboteur by its fault; those of law 1 first. Each law has a module or package of them, called as
the law's own."""

SOUND: Final[dict[str, type[Saboteur]]] = {
    "sound-dict": DictStore,
    "sound-file": FileStore,
    "sound-remote": RemoteStore,
    "sound-wire": WireStore,
}
"""The unbroken stores that the saboteurs are made of, by the name that stands for the fault in their URLs."""


@hookimpl
def open_store(url: str) -> Store:
    kind, path = _read(url)
    return kind(url, path)


@hookimpl
def new_place(url: str) -> str:
    kind, _ = _read(url)
    token = secrets.token_hex(6)
    if not issubclass(kind, FileStore):
        return f"{url}-{token}"
    folder = tempfile.mkdtemp(prefix="threadkeep-saboteur-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return f"saboteur://{urlsplit(url).netloc}{quote(folder)}/new.db"


@hookimpl
def shift_version(url: str, by: int) -> bool | None:
    kind, path = _read(url)
    return kind.shift_version(url, path, by)


@hookimpl
def replace_place(url: str, by: str | None) -> bool:
    kind, path = _read(url)
    return issubclass(kind, FileStore) and kind.replace(path, None if by is None else _read(by)[1])


@hookimpl
def proxied(url: str, proxy: Callable[[str, int], tuple[str, int]]) -> str:
    kind, path = _read(url)
    if not issubclass(kind, WireStore):
        raise NotImplementedError("the store has no server")
    _, port = proxy(HOST, server().port)
    return f"saboteur://{urlsplit(url).hostname}:{port}{quote(path)}"


@hookimpl
def clock(url: str, seconds: float) -> bool:
    kind, _ = _read(url)
    if not issubclass(kind, WireStore):
        return False
    server().ahead = seconds
    return True


@hookimpl
def scan_backend(url: str) -> Iterator[bytes]:
    kind, path = _read(url)
    return kind.scan(url, path)


def _read(url: str) -> tuple[type[Saboteur], str]:
    parts = urlsplit(url)
    kind = {**SABOTEURS, **SOUND}.get(parts.hostname or "")
    if kind is None:
        raise InvalidURL(f"there is no saboteur {parts.netloc!r}; there are: {', '.join([*SOUND, *SABOTEURS])}")
    path = unquote(parts.path)
    if not path.strip("/") or parts.query or parts.fragment:
        raise InvalidURL(
            "a saboteur's URL is saboteur://FAULT/NAME, or saboteur://FAULT/absolute/path.db for one on file"
        )
    return kind, path
