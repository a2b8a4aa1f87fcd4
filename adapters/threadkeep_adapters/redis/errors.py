"""What errors of Redis and of its driver mean here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ssl import SSLCertVerificationError
from typing import Final

import redis.exceptions as driver

from threadkeep.errors import (
    InvalidURL,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreNotWritable,
    StoreUnavailable,
    ThreadkeepError,
)
from threadkeep.port import Translate


class NotSentError(Exception):
    """There was no connection for a request, so that the server has not seen it."""


class LostError(Exception):
    """A request was sent and not answered, so that nobody knows what became of it."""


_CODES: Final[dict[str, type[StoreError]]] = {
    "BUSY": StoreUnavailable,
    "UNKILLABLE": StoreUnavailable,
    "LOADING": StoreUnavailable,
    "CLUSTERDOWN": StoreUnavailable,
    "TRYAGAIN": StoreUnavailable,
    "MASTERDOWN": StoreUnavailable,
    "NOREPLICAS": StoreUnavailable,
    "OOM": StoreFull,
    "MISCONF": StoreNotWritable,
    "READONLY": StoreUnavailable,
    "NOAUTH": StoreNotWritable,
    "WRONGPASS": StoreNotWritable,
    "NOPERM": StoreNotWritable,
    "WRONGTYPE": StoreDamaged,
    "MOVED": StoreNotWritable,
    "CROSSSLOT": StoreNotWritable,
}
"""By the first word of an error of the server. All of these refuse a command, or a script, before it has written."""

_HINTS: Final[dict[str, str]] = {
    "WRONGTYPE": "; a key with the store's prefix belongs to another program: choose another prefix",
    "MOVED": "; this server is part of a cluster: write redis+cluster:// instead of redis://",
    "READONLY": "; its connections were let go, so that the next call asks whoever answers at the address then; where "
    "that is a replica too, correct the URL",
    "NOAUTH": "; give a password in the URL",
    "NOPERM": "; let the user run the commands and reach the keys that the store's page lists",
}


def is_readonly(answer: object) -> bool:
    """Whether a server says that it is a replica; a script of Redis 6 words it as an error of its own."""
    return isinstance(answer, driver.ResponseError) and "READONLY" in f"{type(answer).__name__.upper()} {answer}"


def _by_code(error: Exception) -> ThreadkeepError | None:
    """By the error's code, which is the first word of what the server said; in a script of Redis 6, a later one."""
    said = str(error)
    if "cluster support disabled" in said:
        return InvalidURL("the server is no cluster; write redis:// or rediss:// instead of redis+cluster://")
    code = _code(error)
    if code is None:
        return None
    text = said if said.startswith(code) else f"{code} {said}"
    return _CODES[code](text + _HINTS.get(code, ""))


_NO_PERMISSION: Final = re.compile(
    r"ACL failure in script|no permissions? to|user executing the script can't", re.IGNORECASE
)
"""What a script meets whose user lacks a permission: it has the code ERR, and words that change with the server. In
this order they are those of Redis 8 and Valkey, those of them all outside of scripts, and those of Redis 6 and 7.0."""


def _code(error: Exception) -> str | None:
    """The error's code, if it is in _CODES. A script of Redis 6 may put a dash before it: `@user_script: 31: -OOM`."""
    said = str(error)
    given = getattr(error, "status_code", None) or said.partition(" ")[0]
    if given in _CODES:
        return str(given)
    # Before any later word, since the name of a user may be one.
    if _NO_PERMISSION.search(said):
        return "NOPERM"
    words = (word.removeprefix("-") for word in said.replace(":", " ").split())
    return next((word for word in words if word in _CODES), None)


def _refused(error: Exception) -> ThreadkeepError:
    return _by_code(error) or StoreError(f"the server refuses the command: {error}")


def _login_refused(error: Exception) -> ThreadkeepError:
    return StoreNotWritable(f"the server refuses the login: {error}; correct user and password in the URL")


def _not_sent(error: Exception) -> ThreadkeepError:
    cause = error.__cause__
    if isinstance(cause, driver.AuthenticationError | driver.AuthenticationWrongNumberOfArgsError):
        return _login_refused(cause)
    if isinstance(cause, driver.ResponseError):
        return _by_code(cause) or StoreNotWritable(f"the server refuses the connection: {cause}; correct the URL")
    if cause is not None and isinstance(cause.__context__, SSLCertVerificationError):
        return StoreError(f"{error}; name the authority that signed the certificate with ?tls_ca=FILE")
    if isinstance(cause, driver.InvalidResponse):
        return StoreError(f"what answers there is no Redis server: {error}; correct host and port in the URL")
    return StoreUnavailable(str(error))


ERRORS: Final[Sequence[tuple[type[Exception], Translate]]] = (
    (NotSentError, _not_sent),
    (driver.AuthenticationError, _login_refused),
    (driver.BusyLoadingError, _refused),
    (driver.ResponseError, _refused),
)
"""The table of the store. LostError is not in it, since it means OutcomeUnknown for a write only."""

GARBLED: Final = driver.InvalidResponse
"""What an answer is taken for that is no reply of Redis, or only the end of one."""
