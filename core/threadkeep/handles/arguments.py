"""Checks of what callers pass to handles, beside ids, sizes and JSON, which `threadkeep.port.limits` checks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from threadkeep.errors import InvalidContent, InvalidInput
from threadkeep.port.checks import MAX_COUNT, MAX_POSITION, is_int
from threadkeep.port.ids import check_id
from threadkeep.port.limits import Limits
from threadkeep.port.store import Tail

ALL: Final = MAX_COUNT - 1
"""More records than a thread has, and room in a window for the anchor's own."""


def check_count(name: str, count: object) -> int:
    """A number of messages, or InvalidInput."""
    if not isinstance(count, int) or not is_int(count, 0, ALL):
        raise InvalidInput(f"{name} is a count from 0 up, not {count!r}")
    return count


def check_place(place: object, limits: Limits) -> None:
    """Raises InvalidInput, InvalidId or LimitExceeded for what is neither a position nor a message id."""
    if not isinstance(place, int):
        check_id("message id", place, limits)
    elif not is_int(place, 0, MAX_POSITION - 1):
        raise InvalidInput(f"a place in a thread is a position from 0 up or a message id, not {place!r}")


def check_instant(name: str, instant: object) -> None:
    """Raises InvalidInput for what is no datetime, and for one without a time zone, which names no instant."""
    if not isinstance(instant, datetime) or instant.utcoffset() is None:
        raise InvalidInput(f"{name} must be an aware datetime such as datetime.now(UTC), not {instant!r}")


def as_tail(given: object) -> Tail | None:
    """`if_tail` as a Tail, None as None; a plain pair, as it comes back from a client, is taken too.

    Raises InvalidContent.
    """
    match given:
        case None:
            return None
        case (str(epoch), int(position)) if is_int(position, 0, MAX_POSITION):
            return Tail(epoch, position)
    raise InvalidContent(f"if_tail is a tail (epoch, position) as tail() and receipts give it, not {given!r}")


def as_metadata(given: object) -> dict[str, Any]:
    """A mapping as a dict, or InvalidContent."""
    if not isinstance(given, Mapping):
        raise InvalidContent(f"metadata must be a mapping such as a dict, not {type(given).__name__}")
    return dict(given)
