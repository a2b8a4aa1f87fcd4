"""Valid input that a store says it refuses, and how core refuses it before the store is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from threadkeep.errors import InvalidContent, InvalidId, LimitExceeded

SHORT_ID_BYTES: Final = 128
"""Bytes of UTF-8 that an id has at most, where a store refuses long ones."""


class Refusal(StrEnum):
    """Valid input that some databases cannot take. Everything else is not negotiable."""

    NUL_IN_IDS = "NUL in ids"
    """U+0000 in the id of a resource, thread or message: InvalidId."""
    NUL_IN_TEXT = "NUL in text"
    """U+0000 in a text of a message or document, key or value: InvalidContent."""
    LONG_IDS = "ids of more than 128 bytes"
    """An id of more than 128 bytes of UTF-8: LimitExceeded for `id_bytes`."""


_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def check_refused_id(kind: str, value: str, refuses: Mapping[Refusal, str]) -> None:
    """InvalidId or LimitExceeded, with the store's reason, for an id that a store refuses."""
    if Refusal.NUL_IN_IDS in refuses and "\x00" in value:
        raise InvalidId(f"{kind} holds NUL, which this store refuses: {refuses[Refusal.NUL_IN_IDS]}")
    if Refusal.LONG_IDS in refuses and (size := len(value.encode())) > SHORT_ID_BYTES:
        raise LimitExceeded("id_bytes", SHORT_ID_BYTES, size, f"{kind} (UTF-8 bytes)")


def check_refused_body(what: str, body: str, refuses: Mapping[Refusal, str]) -> None:
    """InvalidContent, with the store's reason, for JSON text that a store refuses."""
    if Refusal.NUL_IN_TEXT in refuses and _NUL.search(body):
        raise InvalidContent(f"{what} holds NUL, which this store refuses: {refuses[Refusal.NUL_IN_TEXT]}")
