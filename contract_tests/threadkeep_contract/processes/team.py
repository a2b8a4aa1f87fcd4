"""Real processes that work on a store, race each other and are killed.

`workers(...)` starts some, as `threadkeep_contract.processes.worker` describes them, and reaps every one whatever
happens. They are forked where that is possible (`threadkeep_contract.processes.forkserver`), and fresh interpreters
elsewhere. A worker that ends badly, hangs or says something else than an outcome is a broken law, shown with its error
output.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from types import ModuleType
from typing import IO, Final

from threadkeep.port import registered, scheme_of
from threadkeep_contract.evidence import Seen
from threadkeep_contract.harness import LawBroken, NotJudged
from threadkeep_contract.processes import forkserver
from threadkeep_contract.processes.worker import DONE, ORDER, OUTCOME, PLACE, READY, UNREADY, Order, Outcome, Place

HANG: Final = 60.0
"""Seconds without a line from a worker that has something to say, after which it counts as hanging."""

LEAD: Final = 20_000_000
"""Nanoseconds between the giving of an order to several workers and the moment at which they begin."""


def count(seen: Seen, outcome: Outcome) -> None:
    """Count what a step came to whose call was made on a handle that does not count."""
    if outcome.failure is not None:
        seen.failed(outcome.failure.error())
    elif outcome.receipt is not None:
        seen.answered("commit")
    elif outcome.snapshot is not None:
        seen.answered("load")
    else:
        seen.answered("delete")


def unshared(seen: str) -> NotJudged:
    """The error for a store whose plugin no other process can have."""
    return NotJudged(
        "what several processes do is judged in processes of their own, which need the store's plugin",
        "a plugin that an entry point names, or a registered module that can be imported",
        seen,
        "Name the plugin by an entry point of the group `threadkeep` to have it judged in processes",
    )


def place_of(url: str) -> Place:
    """Where worker processes of a URL work. Raises NotJudged for a registered plugin that is no importable module."""
    plugin = registered(scheme_of(url))
    if plugin is None:
        return Place(url)
    name = plugin.__name__ if isinstance(plugin, ModuleType) else ""
    if not name or sys.modules.get(name) is not plugin or name == "__main__":
        raise unshared(f"the plugin registered for {scheme_of(url)}:// is {name or 'an object'} of this process alone")
    return Place(url, name, tuple(sys.path))


class Worker:
    """One process at work. `outcomes` is all that it has acknowledged so far."""

    def __init__(self, place: Place, number: int, seen: Seen | None = None) -> None:
        """`number` counts the workers of a team; what this one tells of is counted in `seen`."""
        self._seen = seen or Seen()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - reap() closes it
        self._process = forkserver.fork(
            scheme_of(place.url), number, self._errors, place.module, place.path
        ) or subprocess.Popen(
            [sys.executable, "-m", "threadkeep_contract.processes.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._killed = False
        self._ended = False
        self.outcomes: list[Outcome] = []
        self._send(PLACE.dump_json(place))

    def _read(self) -> None:
        assert self._process.stdout is not None
        line = b"-"
        while line:
            line = self._process.stdout.readline()
            # The loop may be gone where a check failed before its workers were reaped.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._lines.put_nowait, line)

    def _send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        # A worker that is dead already is found out by what it does not answer.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()

    async def _line(self) -> bytes:
        """The next whole line, or nothing where the output has ended."""
        if self._ended:
            return b""
        try:
            line = await asyncio.wait_for(self._lines.get(), HANG)
        except TimeoutError:
            raise self._broken(f"a worker process has said nothing for {HANG:.0f} seconds") from None
        if line.endswith(b"\n"):
            return line
        self._ended = True
        return b""

    def _broken(self, what: str) -> LawBroken:
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        return LawBroken("a worker process does its work and ends", "outcomes", f"{what}\n{said[-4000:]}")

    async def ready(self) -> None:
        """Wait until the process has started; what takes long is the import of Python modules.

        Raises NotJudged where it cannot import the store's module.
        """
        line = await self._line()
        if line.startswith(UNREADY.encode()):
            reason = line.decode().removeprefix(UNREADY).strip()
            raise unshared(f"a worker process cannot import the store's module ({reason})")
        if line.strip() != json.dumps(READY).encode():
            raise self._broken(f"a worker process did not start but said {line!r}")

    def give(self, order: Order) -> None:
        """Give an order, without waiting for any answer."""
        self._send(ORDER.dump_json(order))

    async def outcome(self) -> Outcome | None:
        """The next outcome of the order, or None where it is done."""
        line = await self._line()
        if not line:
            raise self._broken(f"a worker process ended early, with status {self._process.wait()}")
        if json.loads(line) == DONE:
            return None
        return self._told(line)

    def _told(self, line: bytes) -> Outcome:
        outcome = OUTCOME.validate_json(line)
        self.outcomes.append(outcome)
        count(self._seen, outcome)
        return outcome

    async def outcomes_of(self, order: Order) -> list[Outcome]:
        """Give an order and wait for all of its outcomes."""
        self.give(order)
        return await self.rest()

    async def rest(self) -> list[Outcome]:
        """The outcomes of the order that was given, up to its end."""
        found = []
        while (outcome := await self.outcome()) is not None:
            found.append(outcome)
        return found

    async def kill(self) -> None:
        """SIGKILL, now. What the worker had acknowledged until then is added to `outcomes`."""
        self._killed = True
        self._process.kill()
        while line := await self._line():
            if json.loads(line) != DONE:
                self._told(line)
        self._process.wait()

    async def dies(self) -> bool:
        """Wait until the order is done or the process has killed itself; whether it has. See `worker.Die`."""
        while line := await self._line():
            if json.loads(line) == DONE:
                return False
            self._told(line)
        if self._process.wait() != -signal.SIGKILL:
            raise self._broken(f"a worker process ended early, with status {self._process.wait()}")
        self._killed = True
        return True

    def reap(self, *, well: bool) -> None:
        """Let the process end and collect it; where the check went `well`, it has to have ended well."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        hung = False
        if not well:
            self._process.kill()
        try:
            self._process.wait(HANG)
        except subprocess.TimeoutExpired:
            hung = True
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        try:
            if well and not self._killed and (hung or self._process.returncode):
                how = "did not end" if hung else f"ended with status {self._process.returncode}"
                raise self._broken(f"a worker process {how}")
        finally:
            self._errors.close()


@contextlib.asynccontextmanager
async def workers(url: str, size: int, seen: Seen | None = None) -> AsyncIterator[list[Worker]]:
    """`size` processes that have started and wait for orders, reaped at the end, also after a failure.

    What they tell of is counted in `seen`. Raises NotJudged where other processes cannot have the store's plugin.
    """
    place = place_of(url)
    started: list[Worker] = []
    try:
        for number in range(size):
            started.append(Worker(place, number, seen))
        for worker in started:
            await worker.ready()
        yield started
    except BaseException:
        for worker in started:
            worker.reap(well=False)
        raise
    broken: list[LawBroken] = []
    for worker in started:
        try:
            await asyncio.to_thread(worker.reap, well=True)
        except LawBroken as error:
            broken.append(error)
    if broken:
        raise broken[0]


def soon() -> int:
    """A moment at which workers that are given orders now can all begin."""
    return time.monotonic_ns() + LEAD
