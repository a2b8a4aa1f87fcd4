"""SQLite's file: URLs, whose file it is, setting it up in a race, places that cannot be written (laws 5, 6, 12)."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from threadkeep.errors import (
    InvalidURL,
    OutcomeUnknown,
    StoreDamaged,
    StoreFull,
    StoreNotWritable,
    StoreTooNew,
    StoreUnavailable,
)
from threadkeep.port import (
    Changes,
    Guard,
    Put,
    Receipt,
    Record,
    Resource,
    Snapshot,
    Thread,
    Window,
    open_store,
    scan_backend,
)
from threadkeep_adapters.sql import tables
from threadkeep_adapters.sqlite.store import SQLiteStore
from threadkeep_adapters.sqlite.url import read_url

HERE = Thread("ann", "t")
PROCESSES = 5


def url_of(path: Path, options: str = "") -> str:
    return f"sqlite:///{path.as_posix()}{options}"


def use(url: str, *steps: Callable[[Guard], Awaitable[object]]) -> list[object]:
    """Open, do the steps one after another, close; what they gave."""

    async def run() -> list[object]:
        store = open_store(url)
        try:
            return [await step(store) for step in steps]
        finally:
            await store.close()

    return asyncio.run(run())


def append(*ids: str, body: str = "{}") -> Callable[[Guard], Awaitable[Receipt]]:
    records = tuple(Record(record_id, "digest", body) for record_id in ids)
    return lambda store: store.commit(HERE, Changes(at=1, epoch="e", append=records))


def load(store: Guard) -> Awaitable[Snapshot]:
    return store.load(HERE, Window(before=1000))


async def ids_in(path: Path) -> list[str]:
    store = open_store(url_of(path))
    try:
        return [record.id for record in (await load(store)).records]
    finally:
        await store.close()


def is_whole(path: Path) -> bool:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/lib/t.db", Path("/var/lib/t.db")),
        ("sqlite:///t.db", Path.cwd() / "t.db"),
        ("sqlite:///data/t.db", Path.cwd() / "data" / "t.db"),
        ("sqlite:///a%20b%23%3F%25.db", Path.cwd() / "a b#?%.db"),
        ("SQLite:///t.db?timeout=0.5&synchronous=NORMAL", Path.cwd() / "t.db"),
    ],
)
def test_a_url_names_a_file(url: str, path: Path) -> None:
    assert Path(read_url(url).path) == path


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://", "memory://"),
        ("sqlite:///", "memory://"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite://t.db", "two slashes"),
        ("sqlite:///t.db#x", "%23"),
        ("sqlite:///folder/", "folder"),
        ("sqlite:///t%00.db", "NUL"),
        (
            "sqlite:///t.db?mode=ro",
            r"'mode'; known are timeout \(a number.*\), synchronous \(full or normal\)",
        ),
        ("sqlite:///t.db?timeout=soon", "timeout is a number of seconds"),
        ("sqlite:///t.db?timeout=0", "timeout is a number of seconds from 0.001 to 3600, not '0'"),
        ("sqlite:///t.db?timeout=nan", "timeout is a number of seconds"),
        ("sqlite:///t.db?synchronous=off", "full or normal, not 'off'"),
        ("sqlite:///t.db?timeout=1&timeout=2", "timeout twice"),
        ("sqlite:///t.db?timeout", "timeout is a number of seconds"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused_by_name(url: str, says: str) -> None:
    with pytest.raises(InvalidURL, match=says):
        open_store(url)


def test_odd_characters_in_a_file_name_are_kept(tmp_path: Path) -> None:
    use(url_of(tmp_path) + "/a%20b%23%3F%25%26é.db", append("m"))
    assert asyncio.run(ids_in(tmp_path / "a%20b%23%3F%25%26é.db")) == ["m"]
    assert (tmp_path / "a b#?%&é.db").is_file()


async def test_a_change_of_the_working_directory_moves_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:///t.db")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")

    await append("m")(store)
    await store.close()
    assert (tmp_path / "t.db").is_file()
    assert not list((tmp_path / "other").iterdir())


@pytest.mark.parametrize(("options", "level"), [("", 2), ("?synchronous=full", 2), ("?synchronous=normal", 1)])
async def test_the_options_reach_every_connection(tmp_path: Path, options: str, level: int) -> None:
    store = SQLiteStore(read_url(url_of(tmp_path / "t.db", options)))
    await store.open()
    await store.resources(None, 1)
    for connection in (store._writer.connected(), *store._readers.idle):
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert connection.execute("PRAGMA secure_delete").fetchone() == (1,)
    assert store._readers.idle
    await store.close()


def test_a_missing_folder_and_a_folder_in_the_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreNotWritable, match=r"the folder .*missing does not exist; create it"):
        use(url_of(tmp_path / "missing" / "t.db"), load)
    assert not (tmp_path / "missing").exists()
    with pytest.raises(StoreNotWritable, match="is a folder"):
        use(url_of(tmp_path), load)


def test_an_empty_file_is_a_new_store(tmp_path: Path) -> None:
    (tmp_path / "t.db").touch()
    use(url_of(tmp_path / "t.db"), append("m"))
    assert asyncio.run(ids_in(tmp_path / "t.db")) == ["m"]


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_newer_schema_is_refused_and_left_untouched(tmp_path: Path) -> None:
    use(url_of(tmp_path / "t.db"), append("m"))
    connection = sqlite3.connect(tmp_path / "t.db")
    connection.execute(f"UPDATE {tables.schema.name} SET version = version + 1")
    connection.commit()
    connection.close()
    before = folder_bytes(tmp_path)
    for _ in range(2):
        with pytest.raises(StoreTooNew, match="schema version 2, this library knows versions up to 1"):
            use(url_of(tmp_path / "t.db"), append("n"))
    assert folder_bytes(tmp_path) == before


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_another_programs_database_is_refused_and_left_untouched(tmp_path: Path, journal: str) -> None:
    connection = sqlite3.connect(tmp_path / "t.db")
    connection.execute(f"PRAGMA journal_mode = {journal}")
    connection.execute("CREATE TABLE messages (id TEXT)")
    connection.commit()
    connection.close()
    before = folder_bytes(tmp_path)
    with pytest.raises(StoreDamaged, match="belongs to another program"):
        use(url_of(tmp_path / "t.db"), load)
    assert folder_bytes(tmp_path) == before


@pytest.mark.parametrize("content", [b"no database, but more than sixteen bytes\n" * 100, b"short"])
def test_a_file_that_is_no_database_is_refused_and_left_untouched(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.db").write_bytes(content)
    with pytest.raises(StoreDamaged):
        use(url_of(tmp_path / "t.db"), load)
    assert folder_bytes(tmp_path) == {"t.db": content}


def test_a_schema_table_without_its_version_is_damage(tmp_path: Path) -> None:
    use(url_of(tmp_path / "t.db"), append("m"))
    connection = sqlite3.connect(tmp_path / "t.db")
    connection.execute(f"DELETE FROM {tables.schema.name}")
    connection.commit()
    connection.close()
    with pytest.raises(StoreDamaged, match="must hold one version, and holds 0"):
        use(url_of(tmp_path / "t.db"), load)


def test_damage_inside_the_file_is_reported_as_such(tmp_path: Path) -> None:
    use(url_of(tmp_path / "t.db"), *(append(f"m{number}", body='"' + "x" * 5000 + '"') for number in range(50)))
    content = bytearray((tmp_path / "t.db").read_bytes())
    content[8192:] = b"\xa5" * (len(content) - 8192)
    (tmp_path / "t.db").write_bytes(content)
    with pytest.raises(StoreDamaged):
        use(url_of(tmp_path / "t.db"), load)
    with pytest.raises(StoreDamaged):
        use(url_of(tmp_path / "t.db"), append("n"))


@pytest.mark.slow
def test_processes_that_set_up_the_same_file_at_once_all_succeed(tmp_path: Path) -> None:
    for attempt in range(2):
        path = tmp_path / f"{attempt}.db"
        start = str(time.time() + 1.5)
        children = [
            subprocess.Popen([sys.executable, __file__, "first", url_of(path), start, str(number)])
            for number in range(PROCESSES)
        ]
        assert [child.wait(60) for child in children] == [0] * PROCESSES
        assert sorted(asyncio.run(ids_in(path))) == sorted(f"{number}" for number in range(PROCESSES))
        assert is_whole(path)


async def test_stores_opened_at_once_in_one_process_all_succeed(tmp_path: Path) -> None:
    stores = [open_store(url_of(tmp_path / "t.db")) for _ in range(8)]
    await asyncio.gather(*(append(f"m{number}")(store) for number, store in enumerate(stores)))
    await asyncio.gather(*(store.close() for store in stores))
    assert sorted(await ids_in(tmp_path / "t.db")) == [f"m{number}" for number in range(8)]


async def test_a_file_locked_by_others_is_unavailable_after_the_timeout_and_usable_again(tmp_path: Path) -> None:
    path = tmp_path / "t.db"

    store = open_store(url_of(path, "?timeout=0.5"))
    await append("first")(store)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    calls = [append(f"m{number}")(store) for number in range(8)]
    # The eight wait side by side: one after another they would need four seconds at least.
    async with asyncio.timeout(4):
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, StoreUnavailable) and outcome.retryable for outcome in outcomes), outcomes
    assert [record.id for record in (await load(store)).records] == ["first"]
    other.execute("ROLLBACK")
    other.close()
    await append("last")(store)
    await store.close()
    assert await ids_in(path) == ["first", "last"]


async def test_a_full_disk_is_named_and_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.db"

    store = SQLiteStore(read_url(url_of(path)))
    guard = Guard(store)
    await append("kept")(guard)
    ((pages,),) = store._writer.connected().execute("PRAGMA page_count").fetchall()
    # SQLite's own bound on the file gives the result code that a full disk gives.
    store._writer.connected().execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreFull) as caught:
        await append(*(f"m{number}" for number in range(20)), body='"' + "x" * 4000 + '"')(guard)
    assert isinstance(caught.value.__cause__, sqlite3.Error)
    assert [record.id for record in (await load(guard)).records] == ["kept"]
    await append("small")(guard)
    await guard.close()
    assert await ids_in(path) == ["kept", "small"]
    assert is_whole(path)


async def test_an_erasure_whose_rewriting_fails_is_finished_by_repeating_it(tmp_path: Path) -> None:
    path = tmp_path / "t.db"

    store = SQLiteStore(read_url(url_of(path)))
    guard = Guard(store)
    await append("m", body='"trace-of-ann"')(guard)
    await guard.commit(Resource("bea"), Changes(at=1, puts=(Put("working_memory", '"kept"'),)))
    connection = store._writer.connected()
    connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_ATTACH else 0)
    with pytest.raises(OutcomeUnknown, match="erased, but the file could not be rewritten"):
        await guard.delete(Resource("ann"))
    connection.set_authorizer(None)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    await guard.delete(Resource("ann"))
    assert connection.execute("PRAGMA user_version").fetchone() == (0,)
    assert not any(b"ann" in part for part in scan_backend(url_of(path)) or ())
    assert list(await guard.resources()) == ["bea"]
    await guard.close()


def read_only_child(path: Path) -> None:
    """Run this file again as a user whom file permissions bind."""
    child = subprocess.run([sys.executable, __file__, "read-only", url_of(path)], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr


@pytest.mark.parametrize("writer_open", [False, True], ids=["alone", "beside-a-writer"])
def test_a_read_only_place_can_be_read_and_names_why_it_is_not_written(writer_open: bool) -> None:
    # Not pytest's own folder, which other users may not enter.
    with TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        folder = Path(parent) / "sealed"
        folder.mkdir()
        path = folder / "t.db"
        use(url_of(path), append("a", "b", "c"))
        writer = sqlite3.connect(path) if writer_open else None
        if writer is not None:
            writer.execute(f"SELECT * FROM {tables.schema.name}").fetchall()
        for part in folder.iterdir():
            part.chmod(0o444)
        folder.chmod(0o555)
        try:
            read_only_child(path)
        finally:
            folder.chmod(0o755)
            if writer is not None:
                writer.close()


def test_a_path_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreNotWritable, match="File name too long"):
        use(url_of(tmp_path / ("x" * 300) / "t.db"), load)


def check_read_only(url: str) -> None:
    with TemporaryDirectory() as folder:
        # All modules are loaded once before the rights to read them may be gone.
        use(url_of(Path(folder) / "t.db"), append("a"), load, lambda store: store.threads(Resource("ann")))
    store, fresh = open_store(url), open_store(url.replace("t.db", "new.db"))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)

    async def run() -> None:
        try:
            for _ in range(2):
                assert [record.id for record in (await load(store)).records] == ["a", "b", "c"]
            assert [row.thread_id for row in await store.threads(Resource("ann"))] == ["t"]
            for write in (append("d")(store), store.delete(HERE)):
                with pytest.raises(StoreNotWritable, match="readonly"):
                    await write
            assert [record.id for record in (await load(store)).records] == ["a", "b", "c"]
        finally:
            await store.close()
        with pytest.raises(StoreNotWritable):
            await load(fresh)
        await fresh.close()

    asyncio.run(run())


def open_first(url: str, start: str, name: str) -> None:
    time.sleep(max(0.0, float(start) - time.time()))
    use(url, append(name))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["first", url, start, name]:
            open_first(url, start, name)
        case ["read-only", url]:
            check_read_only(url)
