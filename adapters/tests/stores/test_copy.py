"""`threadkeep copy` between real stores: each ends equal, from one kind to the next and back, whatever is killed."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import servers
import store_urls
from click.testing import CliRunner
from servers import ServerMissing

from threadkeep import Memory
from threadkeep.cli import main
from threadkeep.port import Clause

pytestmark = pytest.mark.slow

KILLS: Final = 4
"""Copies that are killed in the middle, for each store."""

THREADS: Final = 12


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The stores that several processes share, by name, on their servers where they have one."""
    found = {}
    for name, url_in in store_urls.URLS.items():
        kind = store_urls.KINDS.get(name)
        try:
            if kind is not None:
                servers.reserve(kind).start()
        except ServerMissing as missing:
            servers.give_up(str(missing))
        url = url_in(tmp_path_factory.mktemp("stores"))
        if Clause.PROCESSES not in Memory(url).store.not_offered:
            found[name] = url
    return found


def _in(url: str, check: Any) -> Any:
    async def run() -> Any:
        async with Memory(url) as memory:
            return await check(memory)

    return asyncio.run(run())


def _fill(url: str, resource_id: str) -> int:
    """Threads with awkward ids and contents, gaps, times, flags and memories; the number of messages."""
    chance = random.Random(resource_id)

    async def fill(memory: Memory) -> int:
        resource = memory.resource(resource_id)
        for number in range(THREADS):
            thread = await resource.create_thread(f"{number}: %_*/..\x00é", title="T", metadata={"$n": [number, 2**60]})
            for turn in range(6):
                await thread.append(f"question {turn} \U0001f9f5 \x00", "x" * chance.randrange(3000))
                await thread.working_memory.patch({"turn": turn})
                if chance.random() < 0.4:
                    await thread.drop_from((await thread.messages(last=1))[0].id)
            await resource.working_memory.put({"threads": number})
        await thread.archive()
        return sum([await thread.count() async for thread in _threads(resource)])

    count: int = _in(url, fill)
    return count


async def _threads(resource: Any) -> Any:
    async for info in resource.threads():
        yield resource.thread(info.thread_id)


async def _lines(memory: Memory, resource_id: str) -> list[str]:
    """All of a resource, but for epochs and versions of documents, which are no part of a copy."""
    found = []
    async for line in memory.resource(resource_id, read_only=True).export():
        line.pop("epoch", None)
        line.get("working_memory", {}).pop("version", None)
        found.append(json.dumps(line))
    return found


def _export(url: str, resource_id: str) -> list[str]:
    found: list[str] = _in(url, lambda memory: _lines(memory, resource_id))
    return found


def _arguments(source: str, target: str, resource_id: str) -> list[str]:
    return ["copy", source, target, "--resource", resource_id]


def _command(source: str, target: str, resource_id: str) -> list[str]:
    return [sys.executable, "-m", "threadkeep", *_arguments(source, target, resource_id)]


def _copy(source: str, target: str, resource_id: str) -> int:
    """The number of messages that were copied, all verified."""
    done = CliRunner().invoke(main, [*_arguments(source, target, resource_id), "--verify"])
    assert done.exit_code == 0, done.stderr
    assert "equal in FROM and TO" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("messages copied")]
    return int(line.split()[-1])


@pytest.mark.timeout(600)
def test_a_resource_goes_from_store_to_store_and_back_and_is_equal_everywhere(
    urls: Mapping[str, str], tmp_path: Path
) -> None:
    resource_id = f"copied {uuid.uuid4().hex} %_*"
    start = f"sqlite:///{tmp_path / 'start.db'}"
    count = _fill(start, resource_id)
    expected = _export(start, resource_id)
    stops = [start, *urls.values(), f"sqlite:///{tmp_path / 'end.db'}"]
    for source, target in pairwise(stops):
        assert _copy(source, target, resource_id) == count, target
        assert _export(target, resource_id) == expected, target
        assert _copy(source, target, resource_id) == 0, target
    command = [*_command(stops[-1], start, resource_id), "--verify"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    assert "equal in FROM and TO" in done.stdout


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [name for name in store_urls.URLS if name != "memory"])
def test_a_copy_that_is_killed_anywhere_is_completed_by_running_it_again(
    name: str, urls: Mapping[str, str], tmp_path: Path
) -> None:
    """Laws 2, 4 and 6: nothing twice, nothing torn."""
    resource_id = f"killed {uuid.uuid4().hex}"
    start = f"sqlite:///{tmp_path / 'start.db'}"
    count = _fill(start, resource_id)
    expected = _export(start, resource_id)

    async def kill(memory: Memory) -> int:
        interrupted = 0
        for part in range(1, KILLS + 1):
            running = await asyncio.create_subprocess_exec(
                *_command(start, urls[name], resource_id), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            deadline = time.monotonic() + 120
            share = len(expected) * part // (KILLS + 2)
            while running.returncode is None and time.monotonic() < deadline:
                if len(await _lines(memory, resource_id)) >= share:
                    break
                await asyncio.sleep(0.01)
            with suppress(ProcessLookupError):
                running.kill()
            interrupted += await running.wait() == -signal.SIGKILL
        return interrupted

    assert _in(urls[name], kill)
    assert 0 <= _copy(start, urls[name], resource_id) < count
    assert _export(urls[name], resource_id) == expected


def test_no_password_is_shown(urls: Mapping[str, str], tmp_path: Path) -> None:
    start = f"sqlite:///{tmp_path / 'start.db'}"
    _fill(start, "password")
    for url in urls.values():
        _, colon, secret = url.partition("@")[0].partition("://")[2].partition(":")
        if not colon or "@" not in url:
            continue
        wrong = url.replace(secret, f"wrong{secret}")
        for source, target in ((wrong, start), (start, wrong), (url, url)):
            done = CliRunner().invoke(main, _arguments(source, target, "password"))
            assert done.exit_code == 1
            assert isinstance(done.exception, SystemExit)
            assert done.stderr.startswith("Error: ")
            assert secret not in done.stdout + done.stderr
