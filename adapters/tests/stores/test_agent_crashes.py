"""A process that runs an agent's turns is killed at random points, and the request is repeated by another.

On every store of this distribution that processes can share: each conversation ends complete, in order, and nothing in
it is doubled. THREADKEEP_CRASH_TURNS sets how many turns there are in each store, THREADKEEP_CRASH_SEED the seed.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import Final

import agent_worker
import pytest
import servers
from store_urls import KINDS, URLS

from threadkeep import Memory
from threadkeep.agent.lease import RUN
from threadkeep.agent.turn import TURN
from threadkeep.messages import Message
from threadkeep.port import Clause, Thread, Window, open_store

pytestmark = pytest.mark.slow

TURNS: Final = int(os.environ.get("THREADKEEP_CRASH_TURNS", "12"))
SEED: Final = int(os.environ.get("THREADKEEP_CRASH_SEED", str(random.SystemRandom().randrange(2**32))))
THREADS: Final = 3
HANG: Final = 90.0
"""Seconds without a word from a worker, after which it counts as hanging."""

_FOLDER: Final = Path(tempfile.gettempdir())
SCHEMES: Final = [
    scheme for scheme in sorted(URLS) if Clause.PROCESSES not in open_store(URLS[scheme](_FOLDER)).not_offered
]


STORES: Final = ("sqlite", "postgresql", "mongo", "redis", "dynamodb")
# Imports take longer than most turns, and are made once, in the process that the workers are forked from.
FORKS: Final = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["threadkeep", *(f"threadkeep_adapters.{store}" for store in STORES)])


class Worker:
    """A process of `agent_worker`, started ahead of its first request."""

    def __init__(self, url: str) -> None:
        self._pipe, theirs = FORKS.Pipe()
        self._process = FORKS.Process(target=agent_worker.serve, args=(url, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def hears(self, seconds: float) -> str | None:
        """What it says next, "" where it has ended, None where it says nothing in time."""
        try:
            return str(self._pipe.recv()) if self._pipe.poll(seconds) else None
        except (EOFError, OSError):
            return ""

    def ask(self, request: str) -> None:
        self._pipe.send(request)

    def expect(self, line: str) -> None:
        """This is what it says next, or the test fails with what it says instead."""
        heard = self.hears(HANG)
        if heard != line:
            pytest.fail(f"a worker said {heard!r} and not {line!r}")

    def kill(self) -> bool:
        """SIGKILL; whether it was in the middle of a request."""
        self._process.kill()
        self._process.join()
        last = "ready"
        while heard := self.hears(0):
            last = heard
        self._pipe.close()
        return not last.startswith("done")


def run_and_kill(url: str, prefix: str, chance: random.Random) -> int:
    """Run all turns, each until a process has answered it. Returns how many kills fell into a turn."""
    worker, spare = Worker(url), Worker(url)
    worker.expect("ready")
    kills, times = 0, [0.1]
    try:
        for turn in range(TURNS):
            request = f"{prefix}-{turn % THREADS} {turn}"
            kill = chance.random() < 0.8
            while True:
                begun = time.monotonic()
                worker.ask(request)
                heard = worker.hears(chance.uniform(0, 1.3) * statistics.median(times)) if kill else None
                if heard is not None or not kill:
                    if heard is None:
                        worker.expect(f"done {request}")
                    times.append(min(1.0, time.monotonic() - begun))
                    break
                kills += worker.kill()
                worker, spare = spare, Worker(url)
                worker.expect("ready")
                kill = chance.random() < 0.3
    finally:
        worker.kill()
        spare.kill()
    return kills


def turn_of(turn: int) -> list[str]:
    """The messages of one turn, as they must be."""
    told = [f"user {agent_worker.question(turn)}"]
    if agent_worker.calls(turn):
        told.append(f"assistant {agent_worker.calls(turn)}")
        told += [f"tool seen {call}" for call in agent_worker.calls(turn)]
    return [*told, f"assistant {''.join(agent_worker.pieces(turn))}"]


def shown(message: Message) -> str:
    said = message.text or "".join(str(part.result) for part in message.tool_results)
    return f"{message.role} {said or [call.tool_call_id for call in message.tool_calls]}"


@pytest.fixture
def url(scheme: str, tmp_path: Path) -> str:
    """The URL of a store of the scheme, whose server is there."""
    if scheme in KINDS:
        servers.shared(KINDS[scheme])
    return URLS[scheme](tmp_path)


@pytest.mark.timeout(60 + 15 * TURNS)
@pytest.mark.parametrize("scheme", SCHEMES)
async def test_conversations_of_a_process_that_is_killed_at_random_end_complete(scheme: str, url: str) -> None:
    prefix = uuid.uuid4().hex
    kills = run_and_kill(url, prefix, random.Random(SEED))

    async with Memory(url) as memory:
        for thread in range(min(THREADS, TURNS)):
            scope = Thread(agent_worker.RESOURCE, f"{prefix}-{thread}")
            messages = await memory.thread(scope.resource_id, scope.thread_id).messages()
            expected = [told for turn in range(thread, TURNS, THREADS) for told in turn_of(turn)]
            assert [shown(message) for message in messages] == expected, f"seed {SEED}"
            assert [message.position for message in messages] == list(range(1, len(messages) + 1))
            run = (await memory.store.load(scope, Window())).docs[RUN]
            assert '"status":"stop"' in (run.body or "")
        await memory.resource(agent_worker.RESOURCE).erase()
    print(f"{scheme}: {TURNS} turns, {kills} kills in the middle of one, seed {SEED}")
    assert kills > 0 or TURNS < 12, f"no kill fell into a turn; seed {SEED}"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_processes_with_one_thread_take_turns_and_a_dead_one_does_not_stop_the_others(
    url: str,
) -> None:
    thread_id = uuid.uuid4().hex
    workers = [Worker(url) for _ in range(3)]
    try:
        for worker in workers:
            worker.expect("ready")
        for turn in (0, 3, 6):
            for number, worker in enumerate(workers):
                worker.ask(f"{thread_id} {turn + number}")
            if turn == 3:
                # The last of them dies, at work or waiting; another is told its request.
                time.sleep(random.Random(SEED).uniform(0, 0.1))
                workers[2].kill()
                workers[2] = Worker(url)
                workers[2].expect("ready")
                workers[2].ask(f"{thread_id} {turn + 2}")
            for number, worker in enumerate(workers):
                worker.expect(f"done {thread_id} {turn + number}")
    finally:
        for worker in workers:
            worker.kill()

    async def messages() -> list[Message]:
        async with Memory(url) as memory:
            found = await memory.thread(agent_worker.RESOURCE, thread_id).messages()
            await memory.resource(agent_worker.RESOURCE).erase()
            return found

    turns: dict[int, list[str]] = {}
    order: list[int] = []
    for message in asyncio.run(messages()):
        turn = int(message.metadata.get(TURN, message.id).rpartition("-")[2])
        turns.setdefault(turn, []).append(shown(message))
        order.append(turn)
    assert sorted(turns) == list(range(9)), f"seed {SEED}"
    for turn, told in turns.items():
        whole = turn_of(turn)
        if turn == 5 and told != whole:
            # Its process died among its tool calls, and others have gone on from there.
            assert (told, len(told) > 1) == (whole[: len(told)], True), f"seed {SEED}"
        else:
            assert told == whole, f"seed {SEED}"
        places = [place for place, other in enumerate(order) if other == turn]
        assert turn == 5 or places == list(range(places[0], places[-1] + 1)), f"seed {SEED}: turns are mixed: {order}"
