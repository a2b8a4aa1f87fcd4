"""Processes that are forked off in the middle of work, as those of web servers are that load the application first."""

from __future__ import annotations

import asyncio
import os
import signal
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, Final

CHILD_SECONDS: Final = 40
"""Seconds after which a child that waits for something that never comes is ended."""


class Child:
    """A process that was forked off."""

    def __init__(self, pid: int, reader: int) -> None:
        self._pid = pid
        self._reader = reader

    def told(self) -> bytes:
        """All lines that it has said, when it has ended. Blocks."""
        with os.fdopen(self._reader, "rb") as lines:
            said = lines.read()
        os.waitpid(self._pid, 0)
        return said


def fork_off(work: Callable[[Callable[[bytes], object]], Coroutine[Any, Any, None]]) -> Child:
    """Fork off a process that does `work` on an event loop of its own, and ends. `work` is given a function that says a
    line to the parent."""
    reader, writer = os.pipe()
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        # From Python 3.12 on, forking beside threads warns. Here a thread waits for orders, and holds nothing.
        pid = os.fork()
    if pid:
        os.close(writer)
        return Child(pid, reader)
    try:
        signal.alarm(CHILD_SECONDS)
        # The parent's event loop is its parent's: they would take each other's events.
        asyncio._set_running_loop(None)
        asyncio.run(work(lambda line: os.write(writer, line + b"\n")))
    except BaseException as error:  # noqa: BLE001 - nothing of the parent's is to go on here
        os.write(2, f"a process that was forked off failed: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(0)
