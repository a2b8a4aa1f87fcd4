"""`threadkeep replay`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from threadkeep.cli.options import store_option
from threadkeep.cli.output import notice, progress_bar

if TYPE_CHECKING:
    from threadkeep.cli.replay.client import Count, Kind
    from threadkeep.cli.replay.recordings import Recording
    from threadkeep.handles import Memory


@click.command
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@store_option
@click.option(
    "--client",
    "kind",
    type=click.Choice(["newest", "full", "fresh-ids"]),
    default="newest",
    show_default=True,
    help="What the client sends: what is new, or all so far with stable ids, or all so far with new ids each time.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Share the conversations out to N processes (tasks, where the store is in one process's memory).",
)
@click.option("--verify", is_flag=True, help="Export afterwards and compare every message with the file.")
def command(file: Path, url: str, kind: Kind, workers: int, verify: bool) -> None:
    """Send recorded conversations through an agent into a store.

    FILE holds one conversation a line, as a JSON object with resource_id, thread_id and messages (OpenAI chat). At
    each message of the user a client makes a request, and the recorded messages of assistant and tools are what model
    and tools answer. What the store has already is recognised and not stored again, so that a replay may be repeated,
    with any client, and one that was interrupted is completed by running it again.
    """
    from threadkeep.cli.replay.client import Count
    from threadkeep.cli.replay.recordings import read_recordings
    from threadkeep.handles import Memory
    from threadkeep.port import Clause

    recordings = read_recordings(file)
    memory = Memory(url)
    workers = min(workers, len(recordings))
    with _Progress(len(recordings), Count()) as progress:
        if workers > 1 and Clause.PROCESSES not in memory.store.not_offered:
            from threadkeep.cli.replay.workers import replay_in_processes

            replay_in_processes(url, recordings, kind, workers, progress.start_clock, progress.add)
            progress.stop_clock()
            asyncio.run(_finish(memory, recordings, progress, verify))
        else:
            if workers > 1:
                notice(f"the workers are tasks of this process: {memory.store.not_offered[Clause.PROCESSES]}")
            asyncio.run(_replay_here(memory, recordings, kind, workers, progress, verify))


async def _replay_here(
    memory: Memory, recordings: Sequence[Recording], kind: Kind, workers: int, progress: _Progress, verify: bool
) -> None:
    from threadkeep.cli.replay.workers import replay_in_tasks

    async with memory:
        progress.start_clock()
        await replay_in_tasks(memory, recordings, kind, workers, progress.add)
        progress.stop_clock()
        await _finish(memory, recordings, progress, verify)


async def _finish(memory: Memory, recordings: Sequence[Recording], progress: _Progress, verify: bool) -> None:
    from threadkeep.cli.replay.compare import differences

    progress.summarise()
    if not verify:
        return
    async with memory:
        found, others = await differences(memory, recordings)
    if others:
        notice(f"the resources of the file have {others} threads that are not in it; they were not compared")
    if found:
        raise click.ClickException(f"{len(found)} of {len(recordings)} conversations differ; the first: {found[0]}")
    messages = sum(len(recording.messages) for recording in recordings)
    click.echo(f"verified: {len(recordings)} conversations, {messages} messages, equal to the file")


class _Progress:
    """The bar on stderr, the count of everything, and the clock."""

    def __init__(self, conversations: int, count: Count) -> None:
        self._bar = progress_bar("conversations")
        self._task = self._bar.add_task("conversations", total=conversations)
        self._count = count
        self._seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def start_clock(self) -> None:
        self._started = time.perf_counter()

    def stop_clock(self) -> None:
        self._seconds = time.perf_counter() - self._started
        self._bar.stop()

    def add(self, count: Count) -> None:
        self._count.add(count)
        self._bar.advance(self._task)

    def summarise(self) -> None:
        count = self._count
        speed = count.turns / self._seconds if self._seconds else 0.0
        click.echo(f"conversations        {count.conversations}")
        click.echo(f"messages stored      {count.stored}")
        click.echo(f"repeats recognised   {count.repeats}")
        click.echo(f"turns                {count.turns}, {speed:.0f} a second")
