"""A process that kills itself at a moment of a call, which is counted and never timed.

The moments of a call are the calls and returns of functions, Python's and C's, in all threads that work for it: before
and after each statement, each byte that is sent, each lock that is taken. So between any two things that a store does
outside of its process there is a moment, and a process can be made to die there each time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class Moments:
    """Counts the moments of a call in this process, and kills it at one of them."""

    def __init__(self, at: int) -> None:
        """`at` is the moment of death, from 1; 0 for none."""
        self.count = 0
        self._at = at
        self._counts = False

    def watch(self) -> None:
        """Watch this thread, those that are started from now on, and those that the event loop gives work to."""
        threading.setprofile(self._passed)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
        sys.setprofile(self._passed)

    async def of(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call whose moments count. The process does not outlive it where it has as many as `at`."""
        self._counts = True
        try:
            return await call()
        finally:
            self._counts = False

    def _passed(self, frame: FrameType, event: str, argument: Any) -> None:
        if self._counts:
            self.count += 1
            if 0 < self._at <= self.count:
                os.kill(os.getpid(), signal.SIGKILL)
