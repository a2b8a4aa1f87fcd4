"""What the benchmarks share: the turn that is measured, who does it, and how a benchmark is asked for."""

from __future__ import annotations

import argparse
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from chats import chat_messages
from timing import Way

from threadkeep import Memory, Message
from threadkeep.formats import messages_from_openai
from threadkeep.port import Changes, Guard, Record, Thread, Window

LAST: Final = 20
"""Messages that a turn loads."""
USER: Final = "user"
WARM: Final = 20
"""Rounds before those that count."""
BY_HAND, CONDITIONS, STORE, OURS = "by hand", "by hand, with conditions", "threadkeep's store", "threadkeep"


class Turns:
    """New messages, of the same content for everyone, in the form that each contender takes."""

    def __init__(self, path: Path | None) -> None:
        self._chats: Iterator[dict[str, Any]] = chat_messages(path)

    def chats(self, count: int) -> list[dict[str, Any]]:
        return [dict(next(self._chats)) for _ in range(count)]

    def messages(self, count: int) -> list[Message]:
        return messages_from_openai(self.chats(count))

    def records(self, count: int) -> tuple[Record, ...]:
        bodies = [json.dumps({**chat, "id": uuid.uuid4().hex}) for chat in self.chats(count)]
        return tuple(Record(uuid.uuid4().hex, hashlib.sha256(body.encode()).hexdigest(), body) for body in bodies)


def in_thousands(count: int) -> Iterator[int]:
    """A number as a sum of thousands and the rest."""
    for first in range(0, count, 1000):
        yield min(1000, count - first)


async def our_ways(store: Guard, memory: Memory, turns: Turns, length: int, rounds: int) -> dict[str, Way]:
    """A turn at the port, on the thread "t{length}-store", and one by a handle, on a thread that is filled for it."""
    records = [turns.records(2) for _ in range(rounds + WARM)]
    messages = [turns.messages(2) for _ in range(rounds + WARM)]
    here = Thread(USER, f"t{length}-store")
    # What the handle reads has to be messages, so that its thread is filled by handles.
    handle = memory.thread(USER, f"t{length}-messages")
    for count in in_thousands(length):
        await handle.append(*turns.messages(count))

    async def at_the_port(number: int) -> None:
        found = await store.load(here, Window(before=LAST))
        await store.commit(here, Changes(1, "e", records[number], if_tail=found.tail))

    async def by_handle(number: int) -> None:
        found = await handle.load(last=LAST)
        await handle.append(*messages[number], if_tail=found.tail)

    return {STORE: at_the_port, OURS: by_handle}


def row(length: int, found: Mapping[str, float], floor: str) -> list[str]:
    """A row of a table: the length, then each time in microseconds with its ratio to that of `floor`."""
    return [f"{length:,}", *(f"{value * 1e6:,.0f} ({value / found[floor]:.2f})" for value in found.values())]


def arguments(description: str | None, *, rounds: int, lengths: str, url: str = "") -> argparse.ArgumentParser:
    """The arguments of a benchmark; `url` is the form of the URL that it takes, "" where it takes none."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if url:
        parser.add_argument("url", help=f"{url}, without options")
        parser.add_argument("--others", type=int, default=1000, help="threads beside those that are measured")
    parser.add_argument("--messages", type=Path)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--quantile", type=float, default=0.5, help="of each way's times, 0 to 1; 0.5 is the median")
    parser.add_argument("--lengths", type=_numbers, default=lengths)
    return parser


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]
