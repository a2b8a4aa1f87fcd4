"""Cursors: opaque text that is good in the scope and query that it came from, and nowhere else (law 1)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any

from threadkeep.errors import InvalidCursor

_REFUSED = "the cursor is not one of this {}; pass a cursor only to the call that gave it, with the same arguments"


def _binding(query: tuple[Any, ...]) -> str:
    return hashlib.sha256(json.dumps(query, sort_keys=True).encode()).hexdigest()[:16]


def make_cursor(query: tuple[Any, ...], place: tuple[str | int, ...]) -> str:
    """A cursor for a place in the list that `query` (verb, ids and arguments, as JSON values) walks."""
    text = json.dumps([_binding(query), *place], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str, query: tuple[Any, ...], kinds: tuple[type, ...]) -> list[Any]:
    """The place in a cursor, whose parts are of `kinds`, or InvalidCursor where it belongs to another query."""
    try:
        parts: list[Any] = json.loads(
            base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        )
        binding, *place = parts
    except (TypeError, ValueError, AttributeError, RecursionError, binascii.Error):
        raise InvalidCursor(_REFUSED.format(query[0])) from None
    if binding != _binding(query) or [type(part) for part in place] != list(kinds):
        raise InvalidCursor(_REFUSED.format(query[0]))
    return place
