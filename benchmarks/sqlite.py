"""threadkeep on SQLite beside SQLite by hand, and beside openai-agents' SQLiteSession where it is installed.

    python benchmarks/sqlite.py [--messages FILE] [--rounds N] [--quantile Q] [--lengths 10,1000,...] [--folder DIR]

An operation is what an agent's turn costs: load the newest 20 messages, append 2. All files lie in one new folder, use
WAL and the same `synchronous`, and take turns in one run. The numbers are medians; on a machine with other work, a
smaller --quantile tells more. FILE is JSON lines with "messages"
in OpenAI's chat format; without it, messages are made up.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

from floor import Floor
from timing import Way, interleaved, quantile, table
from turns import LAST, OURS, USER, WARM, Turns, arguments, in_thousands, row

from threadkeep import Memory, Message

try:
    SQLiteSession: Any = import_module("agents").SQLiteSession
except ImportError:
    SQLiteSession = None

OTHERS = 1000
FLOOR_TEXT, FLOOR = "by hand, JSON text", "by hand, dicts"
THEIRS, OURS_STEPS, THEIRS_STEPS = "SQLiteSession", "threadkeep, 2 commits", "SQLiteSession, 2 saves"


class ChatTurns(Turns):
    """As dicts and as JSON text besides."""

    def dicts(self, count: int) -> list[dict[str, Any]]:
        return [{**chat, "id": uuid.uuid4().hex} for chat in self.chats(count)]

    def texts(self, count: int) -> list[tuple[str, str]]:
        return [(item["id"], json.dumps(item)) for item in self.dicts(count)]


def session(path: Path, synchronous: str, thread_id: str) -> Any:
    """openai-agents' session at the durability that is measured."""

    class Session(SQLiteSession):  # type: ignore[misc]  # a package that may be absent has no types
        @staticmethod
        def _configure_connection(conn: sqlite3.Connection) -> None:
            SQLiteSession._configure_connection(conn)
            conn.execute(f"PRAGMA synchronous = {synchronous}")

    return Session(thread_id, path)


async def fill(folder: Path, turns: ChatTurns, lengths: Sequence[int]) -> None:
    """The threads to measure, and in each file 1,000 others."""
    started = time.perf_counter()
    sizes = {f"t{length}": length for length in lengths} | {f"other{number}": 4 for number in range(OTHERS)}
    async with Memory(f"sqlite:///{folder}/ours.db?synchronous=normal") as memory:
        floors: list[tuple[Floor, Callable[[int], Sequence[Any]]]] = [
            (Floor(folder / "text.db", "off", parse=False), turns.texts),
            (Floor(folder / "dicts.db", "off"), turns.dicts),
        ]
        for thread_id, size in sizes.items():
            for count in in_thousands(size):
                await memory.thread(USER, thread_id).append(*turns.messages(count))
                for floor, some in floors:
                    await floor.append(USER, thread_id, some(count))
        for floor, _ in floors:
            floor.close()
    if SQLiteSession is not None:
        for thread_id, size in sizes.items():
            theirs = session(folder / "theirs.db", "off", thread_id)
            for count in in_thousands(size):
                await theirs.add_items(turns.chats(count))
            theirs.close()
    print(f"filled {len(sizes)} threads in {time.perf_counter() - started:.0f} s", file=sys.stderr)


class Contenders:
    """All stores, open on one thread."""

    def __init__(self, folder: Path, synchronous: str, thread_id: str, turns: ChatTurns) -> None:
        self.text = Floor(folder / "text.db", synchronous, parse=False)
        self.dicts = Floor(folder / "dicts.db", synchronous)
        self.memory = Memory(f"sqlite:///{folder}/ours.db?synchronous={synchronous}")
        self.ours = self.memory.thread(USER, thread_id)
        self.theirs = session(folder / "theirs.db", synchronous, thread_id) if SQLiteSession is not None else None
        self.thread_id = thread_id
        self.turns = turns

    async def close(self) -> None:
        self.text.close()
        self.dicts.close()
        await self.memory.close()
        if self.theirs is not None:
            self.theirs.close()

    def ways(self, rounds: int) -> dict[str, Way]:
        """One turn each, with messages that were made before the clock starts."""
        turns = self.turns
        texts, dicts = [turns.texts(2) for _ in range(rounds)], [turns.dicts(2) for _ in range(rounds)]
        messages, steps = [turns.messages(2) for _ in range(rounds)], [turns.messages(2) for _ in range(rounds)]
        chats, chat_steps = [turns.chats(2) for _ in range(rounds)], [turns.chats(2) for _ in range(rounds)]

        async def by_hand(floor: Floor, new: Sequence[Any]) -> None:
            await floor.last(USER, self.thread_id, LAST)
            await floor.append(USER, self.thread_id, new)

        async def ours(new: Sequence[Message]) -> None:
            await self.ours.messages(last=LAST)
            await self.ours.append(*new)

        async def ours_in_steps(new: Sequence[Message]) -> None:
            await self.ours.messages(last=LAST)
            for message in new:
                await self.ours.append(message)

        ways: dict[str, Way] = {
            FLOOR_TEXT: lambda number: by_hand(self.text, texts[number]),
            FLOOR: lambda number: by_hand(self.dicts, dicts[number]),
            OURS: lambda number: ours(messages[number]),
        }
        theirs = self.theirs
        if theirs is not None:

            async def bare(new: Sequence[Any]) -> None:
                await theirs.get_items(LAST)
                await theirs.add_items(list(new))

            async def as_the_runner_saves(new: Sequence[Any]) -> None:
                await theirs.get_items(LAST)
                for item in new:
                    await theirs.add_items([item])

            ways |= {
                THEIRS: lambda number: bare(chats[number]),
                OURS_STEPS: lambda number: ours_in_steps(steps[number]),
                THEIRS_STEPS: lambda number: as_the_runner_saves(chat_steps[number]),
            }
        return ways


async def measure_turns(folder: Path, turns: ChatTurns, lengths: Sequence[int], rounds: int, share: float) -> None:
    for synchronous in ("full", "normal"):
        rows = []
        ours_at: dict[int, float] = {}
        for length in lengths:
            contenders = Contenders(folder, synchronous, f"t{length}", turns)
            async with AsyncExitStack() as stack:
                stack.push_async_callback(contenders.close)
                found = quantile(await interleaved(contenders.ways(rounds + WARM), rounds, WARM), share)
            ours_at[length] = found[OURS]
            rows.append(row(length, found, FLOOR_TEXT))
        print(
            table(
                f"Load {LAST} + append 2, synchronous={synchronous}: µs (ratio), quantile {share}",
                ["length", *found],
                rows,
            )
        )
        shortest, longest = min(lengths), max(lengths)
        print(f"\nthreadkeep at {longest:,} / at {shortest:,}: {ours_at[longest] / ours_at[shortest]:.2f}", flush=True)


async def measure_commits(folder: Path, turns: ChatTurns, rounds: int, share: float) -> None:
    rows = []
    for synchronous in ("full", "normal"):
        async with Memory(f"sqlite:///{folder}/ours.db?synchronous={synchronous}") as memory:
            thread = memory.thread(USER, "commits")

            def way(count: int, thread: Any = thread) -> Callable[[int], Awaitable[object]]:
                made = [turns.messages(count) for _ in range(rounds + 5)]
                return lambda number: thread.append(*made[number])

            found = quantile(await interleaved({"2": way(2), "100": way(100)}, rounds, warmup=5), share)
        rows.append(
            [synchronous, *(f"{value * 1e6:,.0f}" for value in found.values()), f"{found['100'] / found['2']:.1f}"]
        )
    print(
        table(f"Messages in one commit: µs, quantile {share}", ["synchronous", "2", "100", "100 / 2"], rows), flush=True
    )


def measure_import() -> None:
    code = "import time; t = time.perf_counter(); import threadkeep; print(time.perf_counter() - t)"
    runs = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
        for _ in range(7)
    ]
    print(f"\nimport threadkeep: {statistics.median(runs) * 1e3:.0f} ms")


async def measure(folder: Path, messages: Path | None, lengths: Sequence[int], rounds: int, share: float) -> None:
    turns = ChatTurns(messages)
    await fill(folder, turns, lengths)
    await measure_turns(folder, turns, lengths, rounds, share)
    await measure_commits(folder, turns, max(10, rounds // 4), share)


def main() -> None:
    parser = arguments(__doc__, rounds=300, lengths="10,1000,10000,100000")
    parser.add_argument("--folder", type=Path, help="where the files go, so on which disk; a new folder in it is used")
    given = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, {sys.platform}")
    measure_import()
    if SQLiteSession is None:
        print("\nopenai-agents is not installed, so that its SQLiteSession is left out")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        asyncio.run(measure(Path(folder), given.messages, given.lengths, given.rounds, given.quantile))


if __name__ == "__main__":
    main()
