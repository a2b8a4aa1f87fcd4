"""Ids of resources, threads and messages: how they are checked, and how a fresh one is made."""

from __future__ import annotations

import secrets
import time

from threadkeep.errors import InvalidId, LimitExceeded
from threadkeep.port.limits import Limits


def new_id() -> str:
    """A fresh id: 32 hexadecimal digits, a UUID of version 7 (RFC 9562, 60 bits of time and 62 random ones).

    It begins with the time, so that ids made one after another lie side by side in a database's index, and an append
    touches one page of it instead of one for each message. Nothing is ever ordered by it.
    """
    millis, rest = divmod(time.time_ns(), 1_000_000)
    return f"{millis:012x}{0x7000 | rest * 4096 // 1_000_000:x}{1 << 63 | secrets.randbits(62):x}"


def check_id(kind: str, value: object, limits: Limits) -> str:
    """An id as it is, or InvalidId or LimitExceeded. `kind` names it in the error: "resource_id", "message id"."""
    if not isinstance(value, str):
        raise InvalidId(f"{kind} must be a non-empty string, not {type(value).__name__}; there is no default {kind}")
    if not value:
        raise InvalidId(f"{kind} must not be empty; there is no default {kind}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidId(
            f"{kind} holds a lone surrogate at index {error.start}, which UTF-8 cannot encode; remove it"
        ) from None
    if size > limits.id_bytes:
        raise LimitExceeded("id_bytes", limits.id_bytes, size, f"{kind} (UTF-8 bytes)")
    return value
