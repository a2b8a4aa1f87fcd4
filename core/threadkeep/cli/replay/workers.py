"""Replaying with several workers: processes, or tasks where a store cannot be shared between processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

import click

from threadkeep.cli.replay.client import Count, Kind, replay
from threadkeep.cli.replay.recordings import Recording
from threadkeep.cli.tasks import share_out
from threadkeep.errors import ThreadkeepError
from threadkeep.handles import Memory

_READY: Final = "ready"


async def replay_in_tasks(
    memory: Memory, recordings: Sequence[Recording], kind: Kind, workers: int, done: Callable[[Count], None]
) -> None:
    """Share the conversations out to so many tasks of this process; `done` gets the count of each."""

    async def work(recording: Recording) -> None:
        done(await replay(memory, recording, kind))

    await share_out(recordings, work, workers)


def replay_in_processes(
    url: str,
    recordings: Sequence[Recording],
    kind: Kind,
    workers: int,
    started: Callable[[], None],
    done: Callable[[Count], None],
) -> None:
    """Share the conversations out to so many new processes, each with its own Memory.

    `started` is called when the first of them is ready, `done` gets the count of each conversation. Raises the first
    error of a worker; the others are ended then, whatever they are doing.
    """
    processes: dict[Connection, SpawnProcess] = {}
    try:
        with _interrupts_ignored():
            for _ in range(workers):
                connection, process = _start(url, kind)
                processes[connection] = process
        left = iter(recordings)
        busy = list(processes)
        first = True
        while busy:
            ready = set(wait(busy))
            for connection in [each for each in busy if each in ready]:
                answer = _receive(connection, processes[connection])
                if isinstance(answer, Count):
                    done(answer)
                elif first:
                    started()
                    first = False
                recording = next(left, None)
                _send(connection, processes[connection], recording)
                if recording is None:
                    busy.remove(connection)
        for process in processes.values():
            process.join()
    finally:
        for connection, process in processes.items():
            process.kill()
            process.join()
            connection.close()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes started in here ignore Ctrl-C from their first moment: the parent alone decides what comes of it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start(url: str, kind: Kind) -> tuple[Connection, SpawnProcess]:
    # Not forked: a fork would take over locks and connections in whatever state they are.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(url, kind, theirs), daemon=True)
    process.start()
    # With the only other end in the child, its death is the end of the stream here.
    theirs.close()
    return ours, process


def _receive(connection: Connection, process: SpawnProcess) -> object:
    try:
        answer = connection.recv()
    except (EOFError, ConnectionError) as error:
        raise _died(process) from error
    if isinstance(answer, ThreadkeepError | click.ClickException):
        raise answer
    return answer


def _send(connection: Connection, process: SpawnProcess, recording: Recording | None) -> None:
    try:
        connection.send(recording)
    except ConnectionError as error:
        raise _died(process) from error


def _died(process: SpawnProcess) -> click.ClickException:
    process.join()
    return click.ClickException(
        f"a worker process ended early, with exit code {process.exitcode}; run the same replay again to complete it"
    )


def _work(url: str, kind: Kind, connection: Connection) -> None:
    """What a worker process does: conversations come in through the connection, counts go out; None is the end."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        with asyncio.Runner() as runner:
            memory = Memory(url)
            try:
                runner.run(memory.open())
                connection.send(_READY)
                while (recording := connection.recv()) is not None:
                    connection.send(runner.run(replay(memory, recording, kind)))
            finally:
                runner.run(memory.close())
    except (ThreadkeepError, click.ClickException) as error:
        connection.send(error)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
