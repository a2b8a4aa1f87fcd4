"""What errors of MongoDB and of its driver mean here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bson.errors import InvalidBSON
from pymongo import errors as driver

from threadkeep.errors import (
    InvalidURL,
    OutcomeUnknown,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreNotWritable,
    StoreUnavailable,
    ThreadkeepError,
)
from threadkeep.port import Translate

DUPLICATE_KEY: Final = 11000

_CODES: Final[dict[int, type[StoreError]]] = {
    13: StoreNotWritable,  # Unauthorized
    18: StoreNotWritable,  # AuthenticationFailed
    20: StoreNotWritable,  # IllegalOperation
    26: StoreDamaged,  # NamespaceNotFound
    50: OutcomeUnknown,  # MaxTimeMSExpired
    64: OutcomeUnknown,  # WriteConcernFailed
    85: StoreDamaged,  # IndexOptionsConflict
    86: StoreDamaged,  # IndexKeySpecsConflict
    112: StoreUnavailable,  # WriteConflict
    166: StoreDamaged,  # CommandNotSupportedOnView
    8000: StoreNotWritable,  # AtlasError: authentication
    14031: StoreFull,  # OutOfDiskSpace
    12501: StoreFull,  # quota exceeded
}
"""By the server's code (https://www.mongodb.com/docs/manual/reference/error-codes/)."""

_HINTS: Final[dict[int, str]] = {
    13: "; give the user the role readWrite on the database",
    18: "; correct user, password and authSource in the URL",
    85: "; an index of another program is in the way: choose another prefix",
    86: "; an index of another program is in the way: choose another prefix",
}


def by_code(code: int | None, text: str) -> ThreadkeepError | None:
    """The error for a server's code, or None."""
    if code is None or code not in _CODES:
        return None
    return _CODES[code](text + _HINTS.get(code, ""))


def _operation_failed(error: Exception) -> ThreadkeepError | None:
    assert isinstance(error, driver.OperationFailure)  # noqa: S101  # the table says so
    found = by_code(error.code, str(error))
    if found is None and isinstance(error, driver.BulkWriteError):
        details = error.details or {}
        for each in (*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())):
            if found is None:
                found = by_code(each.get("code"), str(each.get("errmsg", error)))
    return found


def _closed(error: Exception) -> ThreadkeepError | None:
    return StoreClosed() if "after close" in str(error) else None


LOST: Final = (driver.ConnectionFailure, driver.ProtocolError, InvalidBSON)
"""There was a connection, and no answer that makes sense; some errors in ERRORS are among these."""

ERRORS: Final[Sequence[tuple[type[Exception], Translate | type[ThreadkeepError]]]] = (
    (driver.ServerSelectionTimeoutError, StoreUnavailable),
    (driver.WaitQueueTimeoutError, StoreUnavailable),
    (driver.DocumentTooLarge, StoreFull),
    (driver.OperationFailure, _operation_failed),
    (driver.InvalidURI, InvalidURL),
    (driver.ConfigurationError, InvalidURL),
    (driver.InvalidOperation, _closed),
)
"""The table of the store. A lost connection is not in it, since it means OutcomeUnknown for a write only."""
