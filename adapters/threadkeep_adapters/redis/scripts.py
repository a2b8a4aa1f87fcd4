"""The scripts that run in the server, one for each verb, as texts with their digests."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Final


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the digest by which EVALSHA knows it."""

    text: bytes
    sha: str


def _read(name: str) -> Script:
    text = (files("threadkeep_adapters.redis") / f"{name}.lua").read_bytes()
    return Script(text, sha1(text, usedforsecurity=False).hexdigest())


LOAD: Final = _read("load")
COMMIT: Final = _read("commit")
DELETE_THREAD: Final = _read("delete_thread")
DELETE_RESOURCE: Final = _read("delete_resource")
FORGET_REGISTRATION: Final = _read("forget_registration")
THREADS: Final = _read("threads")

ALL: Final = (LOAD, COMMIT, DELETE_THREAD, DELETE_RESOURCE, FORGET_REGISTRATION, THREADS)
