"""Checks of what callers pass to handles, beside ids, sizes and JSON, which `threadkeep.limits` checks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from threadkeep.errors import InvalidContent, InvalidInput
from threadkeep.limits import Limits, check_id
from threadkeep.messages import to_micros
from threadkeep.store import Tail

MAX_PAGE: Final = 1000
"""The largest page of threads, messages or resources."""

MAX_COUNT: Final = 2**31 - 1
"""The largest number of records in a window, and more than a thread has."""

MAX_POSITION: Final = 2**53 - 1
"""The largest position or version that is looked for; every backend and JSON reader has integers up to here."""

MIN_TIME: Final = to_micros(datetime.min.replace(tzinfo=UTC))
MAX_TIME: Final = to_micros(datetime.max.replace(tzinfo=UTC))
"""The years 1 to 9999, in microseconds since 1970 UTC: what a datetime can say."""


def is_int(value: object, least: int, most: int) -> bool:
    """Whether a value is an integer (True and False are none) between two bounds, both taken in."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: object) -> bool:
    """Whether a value is a finite int or float (True and False are none)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_page(limit: object) -> None:
    """Raises InvalidInput for a page's limit that is not 1 to MAX_PAGE."""
    if not is_int(limit, 1, MAX_PAGE):
        raise InvalidInput(f"a page has 1 to {MAX_PAGE} entries, not {limit!r}")


def check_count(name: str, count: object) -> int:
    """A number of messages, or InvalidInput. One less than MAX_COUNT leaves room for an anchor's own record."""
    if not isinstance(count, int) or not is_int(count, 0, MAX_COUNT - 1):
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
