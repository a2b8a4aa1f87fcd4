"""What a turn on MongoDB costs: round trips and bytes, beside PyMongo by hand.

    python benchmarks/mongodb.py URL [--rounds N] [--length N]

The servers for tests are stand-ins for MongoDB, so round trips and the bytes of commands and replies are counted; the
times are those of this server on this machine and say little. "By hand" finds the newest 20 messages by an index and
inserts 2 with one `insert_many`, without conditions, ids that are known or documents. The database is dropped.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

from bson import BSON
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent, register
from timing import table

from threadkeep import Memory, Message
from threadkeep.port import open_store

LAST: Final = 20


class Wire(CommandListener):
    """Counts what every client of this process sends and gets."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.sent = 0
        self.got = 0

    def started(self, event: CommandStartedEvent) -> None:
        self.commands.append(event.command_name)
        self.sent += len(BSON.encode(event.command))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self.got += len(BSON.encode(event.reply))

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing worth counting came back."""

    def reset(self) -> None:
        self.commands, self.sent, self.got = [], 0, 0


async def measure(wire: Wire, rounds: int, work: Callable[[int], Awaitable[object]]) -> list[str]:
    """Commands of the last round, bytes each way and milliseconds as medians."""
    times, sent, got = [], [], []
    for number in range(rounds):
        wire.reset()
        started = time.perf_counter()
        await work(number)
        times.append(1000 * (time.perf_counter() - started))
        sent.append(wire.sent)
        got.append(wire.got)
    names = ", ".join(f"{count} {name}" for name, count in Counter(wire.commands).items())
    middle = statistics.median
    return [str(len(wire.commands)), names, f"{middle(sent):,.0f}", f"{middle(got):,.0f}", f"{middle(times):.1f}"]


def message(number: int) -> Message:
    return Message.user(f"Message {number} of the benchmark. " + "It says little. " * 20)


async def main(url: str, rounds: int, length: int) -> None:
    wire = Wire()
    register(wire)
    name = f"bench{secrets.token_hex(4)}"
    base = url.partition("?")[0].rpartition("/")[0] if url.count("/") > 2 else url.partition("?")[0]
    options = url.partition("?")[2]
    bare: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(base)
    hand = bare[name]["by_hand"]
    await hand.create_index([("thread", 1), ("position", 1)], unique=True)
    store = open_store(f"{base}/{name}{'?' if options else ''}{options}")
    try:
        thread = Memory(store).thread("user", "thread")
        for first in range(0, length, 100):
            await thread.append(*map(message, range(first, min(length, first + 100))))
        text = message(0).model_dump_json()
        await hand.insert_many([{"thread": 1, "position": number, "body": text} for number in range(length)])

        async def hand_load(number: int) -> None:
            await hand.find({"thread": 1}).sort("position", -1).limit(LAST).to_list()

        async def hand_append(number: int) -> None:
            places = [length + 2 * number, length + 2 * number + 1]
            await hand.insert_many([{"thread": 1, "position": place, "body": text} for place in places])

        async def load(number: int) -> None:
            await thread.messages(last=LAST)

        async def append(number: int) -> None:
            await thread.append(message(number), message(number))

        rows = [
            ["by hand", f"load {LAST}", *await measure(wire, rounds, hand_load)],
            ["threadkeep", f"load {LAST}", *await measure(wire, rounds, load)],
            ["by hand", "append 2", *await measure(wire, rounds, hand_append)],
            ["threadkeep", "append 2", *await measure(wire, rounds, append)],
        ]
        head = ["way", "operation", "round trips", "commands", "bytes sent", "bytes got", "ms"]
        print(table(f"A thread of {length:,} messages, medians of {rounds} rounds", head, rows))
    finally:
        await store.close()
        await bare.drop_database(name)
        await bare.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--length", type=int, default=1000)
    asked = parser.parse_args()
    asyncio.run(main(asked.url, asked.rounds, asked.length))
