"""Trying again when a server fails: how long to pause between tries, and when to give up.

Only for that. A loop that looks again after a conflict, and a wait for others, are no retries, and are named as what
they are where they stand.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The pauses between tries. All times are in seconds."""

    first: float
    """The pause after the first try."""
    factor: float = 2.0
    """By how much each pause is longer than the one before."""
    largest: float = 60.0
    """No pause is longer, before the jitter."""
    jitter: float = 0.0
    """By which part of itself a pause is made longer or shorter, by chance: from 0 to 1."""
    tries: int | None = None
    """How many tries there are at most, the first one included; None: as many as there is time for."""

    def begin(self, seconds: float | None = None) -> Pauses:
        """The pauses of one call that begins now, which may take so many seconds, or as long as its tries take."""
        return Pauses(self, seconds)


AT_ONCE: Final = RetryPolicy(first=0.0, tries=2)
"""For what only reads: a connection that died while nobody used it is found out by using it."""

FULL: Final = RetryPolicy(first=0.02, factor=1.5, largest=0.2, jitter=0.5)
"""For a call for which the server has no connection left, as long as it may wait for one of its own pool."""


class Pauses:
    """The pauses of one call. Each failed try is followed by `sleep` in a thread, by `wait` on an event loop."""

    def __init__(self, policy: RetryPolicy, seconds: float | None) -> None:
        self._policy = policy
        self._next = min(policy.first, policy.largest)
        self._tries = 0
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        """Whether the time of the call is over."""
        return self._end is not None and time.monotonic() > self._end

    def sleep(self) -> bool:
        """Pause, and say True; or say False at once, where no try is left or none would begin in time. Blocks."""
        pause = self._take()
        if pause is None:
            return False
        time.sleep(pause)
        return True

    async def wait(self) -> bool:
        """As `sleep`, without blocking the event loop."""
        pause = self._take()
        if pause is None:
            return False
        await asyncio.sleep(pause)
        return True

    def _take(self) -> float | None:
        self._tries += 1
        if self._tries == self._policy.tries:
            return None
        pause = self._next * random.uniform(1 - self._policy.jitter, 1 + self._policy.jitter)
        self._next = min(self._next * self._policy.factor, self._policy.largest)
        if self._end is not None and time.monotonic() + pause > self._end:
            return None
        return pause
