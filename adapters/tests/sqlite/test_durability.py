"""Kills, cancellation, threads, loops and forks: what SQLite's file holds afterwards (laws 2, 4, 5, 6, 7, 12)."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace
from functools import partial
from io import RawIOBase
from itertools import count
from pathlib import Path

import pytest

from threadkeep.errors import OutcomeUnknown, StoreClosed, StoreError, StoreUnavailable
from threadkeep.port import Changes, Guard, Put, Record, Resource, Snapshot, Tail, Thread, Window, open_store
from threadkeep_adapters.lane import Lane
from threadkeep_adapters.sqlite.store import SQLiteStore
from threadkeep_adapters.sqlite.url import read_url

HERE = Thread("ann", "t")
BATCH = 3
ALL = Window(before=1_000_000)


def url_of(path: Path, options: str = "") -> str:
    return f"sqlite:///{path.as_posix()}{options}"


def batch(name: object) -> Changes:
    """A commit of three records and one document, which appear together or not at all."""
    records = tuple(Record(f"{name}-{part}", f"{name}", '{"text":"' + "x" * 2000 + '"}') for part in range(BATCH))
    return Changes(at=1, epoch="e", append=records, puts=(Put("last", f'"{name}"'),))


async def read(path: Path) -> Snapshot:
    store = open_store(url_of(path))
    try:
        return await store.load(HERE, ALL)
    finally:
        await store.close()


async def check_whole(path: Path) -> list[str]:
    """Every batch is there whole and in its place, and the document is the last one's; the names of the batches."""
    snapshot = await read(path)
    ids = [record.id for record in snapshot.records]
    names = [record_id.rpartition("-")[0] for record_id in ids[::BATCH]]
    assert ids == [f"{name}-{part}" for name in names for part in range(BATCH)]
    assert [record.position for record in snapshot.records] == list(range(1, len(ids) + 1))
    assert snapshot.tail.position == len(ids)
    assert (snapshot.docs["last"].body, snapshot.docs["last"].version) == (f'"{names[-1]}"', len(names))
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()
    return names


def write_for_ever(url: str, name: str, told: str) -> None:
    """A child: commits, and writes down each commit that was acknowledged, a line each."""

    async def run(lines: RawIOBase) -> None:
        store = open_store(url)
        for number in count():
            await store.commit(HERE, batch(f"{name}.{number}"))
            lines.write(f"{name}.{number}\n".encode())

    with Path(told).open("wb", buffering=0) as lines:
        asyncio.run(run(lines))


@pytest.mark.slow
@pytest.mark.parametrize("options", ["?timeout=60", "?timeout=60&synchronous=normal"])
def test_what_was_acknowledged_survives_sigkill_and_nothing_is_torn(tmp_path: Path, options: str) -> None:
    path = tmp_path / "t.db"
    seen = 0
    for attempt in range(3):
        names = [f"{attempt}.{number}" for number in range(2)]
        told = [tmp_path / f"{name}.txt" for name in names]
        children = [
            subprocess.Popen([sys.executable, __file__, url_of(path, options), name, str(file)], stderr=subprocess.PIPE)
            for name, file in zip(names, told, strict=True)
        ]
        for child, file in zip(children, told, strict=True):
            while child.poll() is None and not (file.exists() and file.stat().st_size):
                time.sleep(0.005)
        time.sleep(random.uniform(0, 0.2))
        for child in children:
            child.send_signal(signal.SIGKILL)
        for child in children:
            _, err = child.communicate(timeout=60)
            assert (child.returncode, err) == (-signal.SIGKILL, b"")
        acknowledged = {name for file in told for name in file.read_text().split("\n")[:-1]}
        stored = asyncio.run(check_whole(path))
        assert acknowledged
        assert acknowledged <= set(stored)
        assert len(stored) > seen
        seen = len(stored)


async def test_a_commit_that_fails_midway_leaves_nothing_and_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "t.db"

    store = SQLiteStore(read_url(url_of(path)))
    guard = Guard(store)
    await guard.commit(HERE, batch("first"))
    connection = store._writer.connected()
    for table in ("threadkeep_messages", "threadkeep_threads", "threadkeep_thread_docs"):
        connection.set_authorizer(partial(_deny_writes, table))
        with pytest.raises(StoreError):
            await guard.commit(HERE, batch("second"))
        connection.set_authorizer(None)
        assert not store._writer.connected().in_transaction
    other = open_store(url_of(path, "?timeout=0.2"))
    await other.commit(HERE, batch("third"))
    await other.close()
    await guard.commit(HERE, batch("fourth"))
    await guard.close()
    assert await check_whole(path) == ["first", "third", "fourth"]


def _deny_writes(table: str, action: int, name: str | None, *_: str | None) -> int:
    writes = action in (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE)
    return sqlite3.SQLITE_DENY if writes and name == table else sqlite3.SQLITE_OK


class Failing(sqlite3.Connection):
    """A connection whose COMMIT, or also its ROLLBACK, meets a disk that fails."""

    fails: frozenset[str] = frozenset()

    def execute(self, sql: str, *given: object) -> sqlite3.Cursor:
        if sql in self.fails:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC"
            raise error
        return super().execute(sql, *given)  # type: ignore[arg-type]  # as the driver takes it


def make(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize("fails", [{"COMMIT"}, {"COMMIT", "ROLLBACK"}])
async def test_a_commit_that_the_disk_does_not_confirm_is_unknown_and_safe_to_repeat(
    tmp_path: Path, fails: set[str]
) -> None:
    path = tmp_path / "t.db"

    store = SQLiteStore(read_url(url_of(path)))
    guard = Guard(store)
    await guard.commit(HERE, batch("first"))
    failing = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Failing)
    # It has opened the log before the other is closed, so that this stays the log.
    failing.execute("PRAGMA schema_version").fetchall()
    store._writer.connected().close()
    failing.fails = frozenset(fails)
    store._writer.connection = failing
    second = replace(batch("second"), if_tail=Tail("e", BATCH))
    with pytest.raises(OutcomeUnknown) as caught:
        await guard.commit(HERE, second)
    assert caught.value.retryable
    failing.fails = frozenset()
    # Where no connection is left the log is made anew, and this takes the number that it had.
    make(tmp_path / "other")
    assert [row.thread_id for row in await guard.threads(Resource(HERE.resource_id))] == [HERE.thread_id]
    await guard.commit(HERE, second)
    await guard.close()
    assert await check_whole(path) == ["first", "second"]


async def test_cancelled_calls_leave_the_store_usable_and_each_commit_whole(tmp_path: Path) -> None:
    path = tmp_path / "t.db"

    store = open_store(url_of(path))
    await store.commit(HERE, batch("first"))
    for number in range(60):
        task = asyncio.ensure_future(store.commit(HERE, batch(f"c{number}")))
        reading = asyncio.ensure_future(store.load(HERE, ALL))
        for _ in range(random.randrange(4)):
            await asyncio.sleep(0)
        await asyncio.sleep(random.choice([0, 0, 0.0002, 0.001]))
        task.cancel()
        reading.cancel()
        await asyncio.gather(task, reading, return_exceptions=True)
    await store.commit(HERE, batch("last"))
    await store.close()
    names = await check_whole(path)
    assert (names[0], names[-1]) == ("first", "last")


def test_one_store_serves_event_loops_in_many_threads(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    store = open_store(url_of(path))
    faults: list[BaseException] = []

    def work(name: int) -> None:
        async def run() -> None:
            for number in range(20):
                await store.commit(HERE, batch(f"{name}.{number}"))
                snapshot = await store.load(HERE, Window(before=BATCH))
                assert len({record.digest for record in snapshot.records}) == 1

        try:
            asyncio.run(run())
        except BaseException as fault:  # noqa: BLE001 -- the test's own thread reports it
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(store.close())
    assert not faults
    names = asyncio.run(check_whole(path))
    for name in range(4):
        mine = [other for other in names if other.startswith(f"{name}.")]
        assert mine == [f"{name}.{number}" for number in range(20)]


def test_closing_ends_what_was_begun_lets_go_of_all_and_may_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    before = set(threading.enumerate())

    async def run() -> None:
        store = SQLiteStore(read_url(url_of(path)))
        guard = Guard(store)
        await guard.open()
        await guard.open()
        begun = [asyncio.ensure_future(guard.commit(HERE, batch(number))) for number in range(10)]
        await asyncio.sleep(0)
        await guard.close()
        await guard.close()
        await store.close()
        await asyncio.gather(*begun)
        with pytest.raises(StoreClosed):
            await guard.load(HERE, ALL)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(run(), debug=True)
        gc.collect()
    mine = {thread for thread in set(threading.enumerate()) - before if thread.name.startswith("threadkeep")}
    assert not mine
    assert not Path(f"{path}-wal").exists()
    assert asyncio.run(check_whole(path)) == [f"{number}" for number in range(10)]


def test_a_store_that_nobody_closes_holds_up_no_exit_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    script = (
        "import asyncio, sys, test_durability as t\n"
        "store = t.open_store(sys.argv[1])\n"
        "asyncio.run(store.commit(t.HERE, t.batch('kept')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, url_of(path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert asyncio.run(check_whole(path)) == ["kept"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_is_told_to_open_the_store_itself(tmp_path: Path) -> None:
    script = (
        "import asyncio, os, sys, test_durability as t\n"
        "store = t.open_store(sys.argv[1])\n"
        "asyncio.run(store.commit(t.HERE, t.batch('parent')))\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    try:\n"
        "        asyncio.run(store.commit(t.HERE, t.batch('child')))\n"
        "    except t.StoreError as error:\n"
        "        os._exit(0 if 'open the store in the child process' in str(error) else 1)\n"
        "    os._exit(2)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "asyncio.run(store.commit(t.HERE, t.batch('parent again')))\n"
        "asyncio.run(store.close())\n"
    )
    path = tmp_path / "t.db"
    done = subprocess.run(
        # From Python 3.12 on, forking beside threads warns, and that is what is tried here.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, url_of(path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert asyncio.run(check_whole(path)) == ["parent", "parent again"]


async def test_nul_in_ids_comes_back_and_is_compared(tmp_path: Path) -> None:
    ids = ["a", "a\0", "a\0b", "a\0c", "\0", "\0\0"]

    store = open_store(url_of(tmp_path / "t.db"))
    for number, name in enumerate(ids):
        records = tuple(Record(record_id, "d", f'"{number}"') for record_id in ids)
        await store.commit(Thread(name, name), Changes(at=1, epoch="e", append=records, puts=(Put(name, "1"),)))
    for number, name in enumerate(ids):
        snapshot = await store.load(Thread(name, name), Window("a\0b", 2, 1))
        assert [(record.id, record.body) for record in snapshot.records] == [
            (record_id, f'"{number}"') for record_id in ids[:3]
        ]
        assert list(snapshot.docs) == [name]
    assert list(await store.resources()) == sorted(ids)
    assert list(await store.resources("a\0")) == ["a\0b", "a\0c"]
    await store.delete(Resource("a\0"))
    assert list(await store.resources()) == sorted(set(ids) - {"a\0"})
    await store.close()


async def test_a_long_read_lets_others_read_and_write(tmp_path: Path) -> None:
    """Readers have threads of their own, and a reader's view holds up no writer."""
    path = tmp_path / "t.db"

    store = SQLiteStore(read_url(url_of(path, "?timeout=0.2")))
    guard = Guard(store)
    await guard.commit(HERE, batch("first"))
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    assert len(reader.execute("SELECT id FROM threadkeep_messages").fetchall()) == BATCH
    await guard.commit(HERE, batch("second"))
    await guard.delete(Thread("ann", "other"))
    assert len((await guard.load(HERE, ALL)).records) == 2 * BATCH
    assert len(reader.execute("SELECT id FROM threadkeep_messages").fetchall()) == BATCH
    reader.execute("COMMIT")
    reader.close()
    await guard.close()


async def test_a_lane_runs_in_order_passes_errors_on_and_skips_what_was_cancelled() -> None:
    lane = Lane(1, "lane-under-test")
    done: list[int] = []
    hold = threading.Event()
    first = asyncio.ensure_future(lane.run(hold.wait))
    later = [asyncio.ensure_future(lane.run(partial(done.append, number))) for number in range(5)]
    await asyncio.sleep(0)
    later[2].cancel()
    await asyncio.sleep(0)
    hold.set()
    await asyncio.gather(first, *later, return_exceptions=True)
    assert done == [0, 1, 3, 4]
    with pytest.raises(StoreUnavailable):
        await lane.run(_raise)
    await asyncio.to_thread(lane.close)
    with pytest.raises(RuntimeError, match="closed"):
        await lane.run(hold.wait)


def _raise() -> None:
    raise StoreUnavailable("busy")


if __name__ == "__main__":
    write_for_ever(*sys.argv[1:])
