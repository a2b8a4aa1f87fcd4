"""What has come to an idle connection and has not been read, above all its end."""

from __future__ import annotations

import asyncio
import select
from typing import Final

_TURNS: Final = 3
"""Turns of an event loop until it has read the end of a connection and has told whoever has that connection."""


async def read_news(transport: asyncio.BaseTransport | None) -> None:
    """Let the event loop read what has come to an idle connection, so that its end is known before something is sent.

    A loop does that by itself, unless it stood still meanwhile: with a process that was suspended, as serverless
    platforms do it, or held up by other work.
    """
    socket = transport.get_extra_info("socket") if transport is not None else None
    if socket is not None and socket.fileno() >= 0 and _has_news(socket.fileno()):
        for _ in range(_TURNS):
            await asyncio.sleep(0)


if hasattr(select, "poll"):

    def _has_news(descriptor: int) -> bool:
        asked = select.poll()
        asked.register(descriptor, select.POLLIN)
        return bool(asked.poll(0))

else:  # Windows, where select takes descriptors of any size

    def _has_news(descriptor: int) -> bool:
        return bool(select.select([descriptor], [], [], 0)[0])
