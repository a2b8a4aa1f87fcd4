"""The types of what fixtures give, for the tests that ask for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from threadkeep import Memory

Before: TypeAlias = Callable[[Memory, str, int, Callable[[], Awaitable[object]]], None]
