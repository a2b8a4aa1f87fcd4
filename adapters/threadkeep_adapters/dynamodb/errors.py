"""What errors of DynamoDB and of botocore mean here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from botocore import exceptions as driver
from botocore.parsers import ResponseParserError

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


class LostError(Exception):
    """A write was sent, and nobody knows what became of it."""


class Cancelled(Exception):
    """A transaction that was not done, since conditions do not hold. `old` are the items that are there instead."""

    def __init__(self, failed: Sequence[bool], old: Sequence[dict[str, Any] | None]) -> None:
        super().__init__(f"conditions of {failed.count(True)} items do not hold")
        self.failed = failed
        self.old = old


THROTTLED: Final = frozenset(
    {
        "LimitExceededException",
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottledException",
        "Throttling",
        "ThrottlingError",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
"""Codes of errors, and of reasons for which a transaction was cancelled, after which less should be asked."""

BUSY: Final = frozenset({"TransactionConflict", "TransactionConflictException", "TransactionInProgressException"})
"""Codes after which the same may be tried again at once, and nothing was written by this try."""

UNCLEAR: Final = frozenset(
    {"InternalServerError", "InternalFailure", "ServiceUnavailable", "ServiceUnavailableException"}
)
"""Codes that do not say whether anything was written."""

NOT_SENT: Final = (
    driver.ConnectTimeoutError,
    driver.EndpointConnectionError,
    driver.ProxyConnectionError,
    driver.SSLError,
)
"""There was no connection, so that the server has not seen the request."""


class GarbledError(Exception):
    """An answer that ended early, which botocore takes for one that says nothing."""


LOST: Final = (
    driver.HTTPClientError,
    driver.ResponseStreamingError,
    driver.IncompleteReadError,
    driver.ChecksumError,
    ResponseParserError,
    GarbledError,
)
"""There was a connection, and no whole answer; the classes of NOT_SENT are among these and are looked for first."""

_CREDENTIALS: Final = "give AWS credentials by the environment, a profile, or the role of the machine"

_CODES: Final[dict[str, tuple[type[StoreError], str]]] = {
    "AccessDeniedException": (StoreNotWritable, "; allow the actions that the store's page lists"),
    "ExpiredTokenException": (StoreNotWritable, f"; {_CREDENTIALS}"),
    "IncompleteSignature": (StoreNotWritable, f"; {_CREDENTIALS}"),
    "InvalidSignatureException": (StoreNotWritable, f"; {_CREDENTIALS}"),
    "MissingAuthenticationToken": (StoreNotWritable, f"; {_CREDENTIALS}"),
    "SignatureDoesNotMatch": (StoreNotWritable, f"; {_CREDENTIALS}"),
    "UnrecognizedClientException": (StoreNotWritable, f"; {_CREDENTIALS}"),
    "ItemCollectionSizeLimitExceededException": (StoreFull, ""),
    "ResourceNotFoundException": (StoreDamaged, "; the table is not there any more"),
}


def code_of(error: driver.ClientError) -> str:
    """The code of an error that the server gave."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _refused(error: Exception) -> ThreadkeepError | None:
    if not isinstance(error, driver.ClientError):
        return None
    code = code_of(error)
    if code in UNCLEAR:
        return None
    said = error.response.get("Error", {}).get("Message", "")
    if code in THROTTLED or code in BUSY:
        return StoreUnavailable(f"{code}: {said}")
    kind, hint = _CODES.get(code, (StoreError, ""))
    return kind(f"{code}: {said}{hint}")


def _unreachable(error: Exception) -> ThreadkeepError:
    return StoreUnavailable(f"the server cannot be reached: {error}")


def _no_credentials(error: Exception) -> ThreadkeepError:
    return StoreNotWritable(f"{error}; {_CREDENTIALS}")


def _no_profile(error: Exception) -> ThreadkeepError:
    return InvalidURL(f"{error}; correct profile in the URL, or AWS's shared configuration")


ERRORS: Final[Sequence[tuple[type[Exception], Translate]]] = (
    (driver.ProfileNotFound, _no_profile),
    (driver.NoCredentialsError, _no_credentials),
    (driver.PartialCredentialsError, _no_credentials),
    (driver.CredentialRetrievalError, _no_credentials),
    (driver.ClientError, _refused),
    *((kind, _unreachable) for kind in NOT_SENT),
)
"""The table of the store. LostError and what UNCLEAR names are not in it: they mean OutcomeUnknown for a write only."""
