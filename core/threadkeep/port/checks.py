"""Bounds of counts, positions and times, and the checks of plain numbers."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

from threadkeep.errors import InvalidInput
from threadkeep.port.times import to_micros

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
