"""A file that is deleted, renamed or replaced while a store has it open (laws 6 and 12): nothing is acknowledged into
it, and what lies in its place is not touched."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from threadkeep.errors import OutcomeUnknown, StoreDamaged, StoreError, TailMoved
from threadkeep.port import MISSING, Changes, Guard, Put, Record, Resource, Thread, Window, open_store, replace_place
from threadkeep_adapters.sqlite import file as file_module
from threadkeep_adapters.sqlite.store import SQLiteStore
from threadkeep_adapters.sqlite.url import read_url

Verb: TypeAlias = Callable[[Guard], Awaitable[object]]

ANN = Resource("ann")
HERE = Thread("ann", "t")

LOSSES = {
    "deleted": "os.unlink(path)",
    "deleted with its log": "for part in ('', '-wal', '-shm'): os.unlink(path + part)",
    "renamed": "os.rename(path, path + '.away')",
    "folder renamed": "os.rename(os.path.dirname(path), os.path.dirname(path) + '.away')",
    "replaced by an empty file": "os.unlink(path); open(path, 'x').close()",
    "replaced by a copy": "shutil.copy(path, path + '.new'); os.replace(path + '.new', path)",
    "replaced by a backup": "backup(path, path + '.new'); os.replace(path + '.new', path)",
    "replaced by a backup and its log removed": (
        "backup(path, path + '.new'); [os.unlink(path + part) for part in ('', '-wal', '-shm')];"
        "os.rename(path + '.new', path)"
    ),
    "a copy put back": "os.rename(path, path + '.away'); shutil.copy(path + '.away', path)",
}

PUT_BACK = "os.replace(path + '.away', path)"

ANOTHER_PROCESS = """
import os, shutil, sqlite3, sys

def backup(path, new):
    one, other = sqlite3.connect(path), sqlite3.connect(new)
    one.backup(other)
    other.close()
    one.close()

path = sys.argv[1]
"""


def in_another_process(path: Path, script: str) -> None:
    subprocess.run([sys.executable, "-S", "-c", ANOTHER_PROCESS + script, str(path)], check=True)


def url_of(path: Path) -> str:
    return f"sqlite:///{path.as_posix()}"


def append(*ids: str, **changes: Any) -> Verb:
    records = tuple(Record(record_id, "digest", "{}") for record_id in ids)
    return lambda store: store.commit(HERE, Changes(at=1, epoch="e", append=records, **changes))


async def ids_of(store: Guard) -> list[str]:
    return [record.id for record in (await store.load(HERE, Window(before=1000))).records]


async def ids_in(path: Path) -> list[str]:
    """What a store that is opened anew finds."""
    store = open_store(url_of(path))
    try:
        return await ids_of(store)
    finally:
        await store.close()


VERBS: dict[str, Verb] = {
    "load": lambda store: store.load(HERE, Window(before=10)),
    "load of all": lambda store: store.load(HERE, Window(before=100_000)),
    "load of a resource": lambda store: store.load(ANN),
    "commit": append("late"),
    "commit of what is known": append("first"),
    "commit that is refused": append("late", if_tail=MISSING),
    "commit to a resource": lambda store: store.commit(ANN, Changes(at=1, puts=(Put("late", "1"),))),
    "delete": lambda store: store.delete(HERE),
    "delete of a resource": lambda store: store.delete(ANN),
    "threads": lambda store: store.threads(ANN),
    "resources": lambda store: store.resources(),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder" / "t.db"


@pytest.fixture(params=["opened", "used"])
async def store(path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Guard]:
    """A store with one message: just opened, so that only the writer is connected, or used, with readers too."""
    before = open_store(url_of(path))
    await append("first")(before)
    await before.close()
    store = open_store(url_of(path))
    await store.open()
    if request.param == "used":
        await append("second")(store)
        await asyncio.gather(*(verb(store) for name, verb in VERBS.items() if "load" in name or name == "resources"))
    yield store
    await store.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {part.name: part.read_bytes() for part in folder.iterdir()} if folder.exists() else {}


@pytest.mark.parametrize("loss", LOSSES)
async def test_every_verb_on_a_lost_file_is_refused(store: Guard, path: Path, loss: str) -> None:
    in_another_process(path, LOSSES[loss])
    left = contents(path.parent)
    for _ in range(2):
        for verb in VERBS.values():
            with pytest.raises(StoreDamaged) as caught:
                await verb(store)
            assert str(path) in str(caught.value)
            assert ("is another file now" if "t.db" in left else "is not there any more") in str(caught.value)
            assert "open" in str(caught.value)
    await store.close()
    assert contents(path.parent) == left


async def test_a_file_that_comes_after_a_deletion_is_never_taken_for_it(store: Guard, path: Path) -> None:
    in_another_process(path, LOSSES["deleted with its log"])
    with pytest.raises(StoreDamaged, match="not there any more"):
        await ids_of(store)
    other = open_store(url_of(path))
    await append("other")(other)
    for verb in VERBS.values():
        with pytest.raises(StoreDamaged, match="another file now"):
            await verb(store)
    await store.close()
    await append("more")(other)
    await other.close()
    assert await ids_in(path) == ["other", "more"]


async def test_opening_anew_uses_what_is_there(store: Guard, path: Path) -> None:
    in_another_process(path, LOSSES["replaced by a backup and its log removed"])
    expected = await ids_in(path)
    assert "first" in expected
    await store.close()
    assert await ids_in(path) == expected


async def test_a_renamed_file_that_is_put_back_is_used_again(store: Guard, path: Path) -> None:
    await append("in the log")(store)
    in_another_process(path, LOSSES["renamed"])
    with pytest.raises(StoreDamaged):
        await append("refused")(store)
    in_another_process(path, PUT_BACK)
    await append("later")(store)
    ids = await ids_of(store)
    assert ids[-2:] == ["in the log", "later"]
    await store.close()
    assert await ids_in(path) == ids


async def test_a_log_without_its_file_is_not_given_up(store: Guard, path: Path) -> None:
    """SQLite would remove it to begin a new file, and with it the newest commits of one that was only renamed."""
    await append("in the log")(store)
    ids = await ids_of(store)
    in_another_process(path, LOSSES["renamed"])
    await store.close()
    for empty in (False, True):
        if empty:
            in_another_process(path, "open(path, 'x').close()")
        with pytest.raises(StoreDamaged, match=r"t\.db-wal.*put the file back.*or remove"):
            await ids_in(path)
    in_another_process(path, PUT_BACK)
    assert await ids_in(path) == ids


@pytest.mark.parametrize("store", ["used"], indirect=True)
@pytest.mark.parametrize("parts", [("-wal",), ("-shm",), ("-wal", "-shm")], ids="+".join)
async def test_nothing_is_acknowledged_into_a_log_that_others_do_not_see(
    store: Guard, path: Path, parts: tuple[str, ...]
) -> None:
    in_another_process(path, f"[os.unlink(path + part) for part in {parts}]")
    for replaced in (False, True):
        if replaced:
            in_another_process(path, f"[open(path + part, 'x').close() for part in {parts}]")
        for verb in (append("late"), VERBS["delete"], VERBS["commit to a resource"]):
            with pytest.raises(StoreDamaged, match=rf"{parts[0]}, .*was deleted or replaced"):
                await verb(store)


@pytest.mark.parametrize("store", ["opened"], indirect=True)
async def test_a_reader_that_connects_to_another_log_is_refused(store: Guard, path: Path) -> None:
    in_another_process(path, "os.unlink(path + '-wal'); os.unlink(path + '-shm')")
    with pytest.raises(StoreDamaged, match="was deleted or replaced"):
        await store.threads(ANN)


async def test_a_symbolic_link_that_leads_elsewhere_is_another_file(tmp_path: Path) -> None:
    link, one, other = tmp_path / "t.db", tmp_path / "one" / "x.db", tmp_path / "other" / "x.db"
    for real in (one, other):
        real.parent.mkdir()
        link.unlink(missing_ok=True)
        link.symlink_to(real)
        store = open_store(url_of(link))
        await append(real.parent.name)(store)
        await append("second")(store)
        await store.close()
    link.unlink()
    link.symlink_to(one)
    store = open_store(url_of(link))
    await append("third")(store)
    link.unlink()
    link.symlink_to(other)
    left = contents(other.parent)
    for verb in VERBS.values():
        with pytest.raises(StoreDamaged, match="another file now"):
            await verb(store)
    await store.close()
    assert contents(other.parent) == left
    assert await ids_in(link) == ["other", "second"]
    assert await ids_in(one) == ["one", "second", "third"]


@pytest.mark.parametrize("loss", ["deleted", "replaced by a copy"])
async def test_a_file_that_is_lost_while_a_commit_is_written_leaves_its_outcome_unknown(path: Path, loss: str) -> None:
    kept = SQLiteStore(read_url(url_of(path)))
    store = Guard(kept)
    await append("first")(store)

    def at(statement: str) -> None:
        if statement == "COMMIT":
            kept._writer.connected().set_trace_callback(None)
            in_another_process(path, LOSSES[loss])

    kept._writer.connected().set_trace_callback(at)
    with pytest.raises(OutcomeUnknown, match=r"t\.db is"):
        await append("second")(store)
    with pytest.raises(StoreDamaged):
        await append("second")(store)
    await store.close()


async def test_all_that_was_acknowledged_is_in_a_file_that_others_take_away_and_put_back(path: Path) -> None:
    store = open_store(url_of(path))
    acknowledged, refused = [], 0
    await append("first")(store)
    script = "for _ in range(20_000): os.rename(path, path + '.away'); os.rename(path + '.away', path)"
    other = asyncio.create_task(asyncio.to_thread(in_another_process, path, script))
    number = 0
    while not other.done() or number < 50:
        number += 1
        try:
            await append(f"m{number}")(store)
        except (StoreDamaged, OutcomeUnknown):
            refused += 1
        else:
            acknowledged.append(f"m{number}")
    await other
    await store.close()
    assert acknowledged
    assert refused
    assert set(acknowledged) <= set(await ids_in(path))


async def test_a_new_connection_of_the_writer_is_made_to_the_same_file_alone(path: Path) -> None:
    kept = SQLiteStore(read_url(url_of(path)))
    store = Guard(kept)
    await append("first")(store)
    await store.resources()  # a reader keeps the log beside the file
    kept._writer.connected().close()
    kept._writer.connection = None
    await append("second")(store)

    kept._writer.connected().close()
    kept._writer.connection = None
    in_another_process(path, LOSSES["replaced by a backup"])
    left = contents(path.parent)["t.db"]
    with pytest.raises(StoreDamaged, match="another file now"):
        await append("third")(store)
    await store.close()
    assert contents(path.parent)["t.db"] == left


async def test_a_store_that_was_closed_is_opened_on_what_is_there(path: Path) -> None:
    """`close` and `open` of one store are an opening anew, too."""
    kept = SQLiteStore(read_url(url_of(path)))
    await kept.open()
    await kept.commit(HERE, Changes(1, "e", (Record("first", "digest", "{}"),)))
    await kept.close()
    in_another_process(path, "os.unlink(path)")
    await kept.open()
    assert not (await kept.load(HERE, Window(before=10))).records
    await kept.close()


async def test_a_lost_file_is_told_where_the_call_meets_another_error(path: Path) -> None:
    store = open_store(url_of(path))
    await append("first", "second")(store)
    with pytest.raises(TailMoved):
        await append("late", if_tail=MISSING)(store)
    in_another_process(path, LOSSES["replaced by a backup"])
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE threadkeep_threads")
    for verb in VERBS.values():
        with pytest.raises(StoreDamaged, match="another file now"):
            await verb(store)
    await store.close()


async def test_a_look_at_the_file_is_one_stat_for_a_reading_and_four_for_a_commit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(url_of(path))
    await append("first")(store)
    for verb in VERBS.values():
        with suppress(StoreError, TailMoved):
            await verb(store)
    looked: list[object] = []
    stat = os.stat

    def counting(file: Any) -> os.stat_result:
        looked.append(file)
        return stat(file)

    monkeypatch.setattr(file_module, "stat", counting)
    counts = {}
    for name, verb in {**VERBS, "commit": append("a", "b"), "load": VERBS["load"]}.items():
        looked.clear()
        with suppress(TailMoved):
            await verb(store)
        counts[name] = len(looked)
    readings = {name: count for name, count in counts.items() if "load" in name or name in ("threads", "resources")}
    assert set(readings.values()) == {1}, readings
    assert counts["commit"] == counts["commit to a resource"] == 4, counts
    await store.close()


async def test_the_hook_takes_a_place_away_and_puts_another_there(path: Path) -> None:
    other = path.parent / "other.db"
    for file, name in ((path, "first"), (other, "other")):
        store = open_store(url_of(file))
        await append(name)(store)
        await store.close()
    assert replace_place(url_of(path), url_of(other))
    assert await ids_in(path) == ["other"]
    assert "other.db" not in contents(path.parent)
    assert replace_place(url_of(path), None)
    assert not contents(path.parent)
