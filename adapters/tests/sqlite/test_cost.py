"""What SQLite is asked to do: how many statements, by which indexes, in how many steps (laws 8 and 13)."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Delete, Insert, Select, Update
from sqlalchemy.sql.selectable import CompoundSelect

from threadkeep.port import After, Changes, Put, Record, Resource, Thread, Window
from threadkeep_adapters.sql import rows, tables
from threadkeep_adapters.sqlite import statements as sqlite_statements
from threadkeep_adapters.sqlite.reading import LOADS_IN_A_ROW, NEAR, WARM
from threadkeep_adapters.sqlite.store import SQLiteStore
from threadkeep_adapters.sqlite.url import read_url

HERE = Thread("ann", "t")
WORK = "working_memory"


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """A store on an empty file, open, and closed afterwards."""
    opened = SQLiteStore(read_url(f"sqlite:///{tmp_path.as_posix()}/t.db?synchronous=normal"))
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


def records(first: int, count: int) -> tuple[Record, ...]:
    return tuple(Record(f"m{number}", "digest", '{"x":1}') for number in range(first, first + count))


def append(*given: Record, **changes: object) -> Changes:
    return Changes(at=1, epoch="e", append=given, **changes)  # type: ignore[arg-type]  # fields of Changes, by name


async def fill(opened: SQLiteStore, scope: Thread, length: int) -> None:
    for first in range(0, length, 1000):
        await opened.commit(scope, append(*records(first, min(1000, length - first))))


def reader(opened: SQLiteStore) -> sqlite3.Connection:
    (connection,) = opened._readers.idle
    return connection


@contextmanager
def statements(*connections: sqlite3.Connection) -> Iterator[list[str]]:
    """The statements that connections run, each as its first word or two."""
    seen: list[str] = []

    def note(sql: str) -> None:
        words = re.findall(r"\w+", sql)
        seen.append(" ".join(words[:2] if words[0] in ("BEGIN", "PRAGMA") else words[:1]))

    for connection in connections:
        connection.set_trace_callback(note)
    yield seen
    for connection in connections:
        connection.set_trace_callback(None)


async def test_a_load_is_one_statement_whatever_it_brings(opened: SQLiteStore) -> None:
    await opened.commit(HERE, append(*records(0, 50), puts=(Put(WORK, "1"),), resource_puts=(Put(WORK, "2"),)))
    await opened.resources(None, 1)  # by a reader's connection, so that there is one
    for scope, window in (
        (HERE, Window(before=20)),
        (HERE, Window(before=20_000)),
        (HERE, Window(10, 5, 5)),
        (HERE, Window("m10", 5, 5)),
        (Thread("ann", "missing"), Window(before=20)),
        (Resource("ann"), Window()),
    ):
        trips = opened.meter.trips
        with statements(opened._writer.connected(), reader(opened)) as seen:
            await opened.load(scope, window)
        assert seen in (["SELECT"], ["WITH"]), (scope, window)
        assert opened.meter.trips - trips == opened.costs.load == 1
    with statements(opened._writer.connected(), reader(opened)) as seen:
        await opened.threads(Resource("ann"), None, 10, "created", (WORK,))
        await opened.resources(None, 10)
    assert seen == ["SELECT", "WITH"]


async def test_a_load_of_a_thread_in_use_takes_no_hop_while_nobody_writes(opened: SQLiteStore) -> None:
    for number in range(WARM + 1):
        await opened.commit(Thread("ann", f"t{number}"), append(*records(0, 30)))
    await opened.resources(None, 1)  # by a reader's connection, so that there is one
    warm, cold = Thread("ann", f"t{WARM}"), Thread("ann", "t0")

    async def hops(scope: Thread, window: Window) -> int:
        trips = opened.meter.trips
        with statements(opened._writer.connected()) as here, statements(reader(opened)) as hopped:
            found = (await opened.load(scope, window)).records
        assert [record.id for record in found] == [f"m{number}" for number in range(30 - len(found), 30)]
        assert len(found) == min(window.before, 30)
        assert len(here) + len(hopped) == opened.meter.trips - trips == 1
        return len(hopped)

    assert await hops(warm, Window(before=20)) == 0
    assert await hops(warm, Window(before=NEAR + 1)) == 1
    assert await hops(cold, Window(before=20)) == 1
    assert await hops(cold, Window(before=20)) == 0
    with opened._writer.taken:
        assert await hops(cold, Window(before=20)) == 1


async def test_loads_without_a_hop_let_others_have_their_turn(opened: SQLiteStore) -> None:
    await opened.commit(HERE, append(*records(0, 2)))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(10 * LOADS_IN_A_ROW):
        await opened.load(HERE, Window(before=20))
    task.cancel()
    assert turns >= 10


async def test_a_commit_is_one_transaction_and_appends_without_looking(opened: SQLiteStore) -> None:
    await opened.commit(HERE, append(*records(0, 2)))
    trips = opened.meter.trips
    with statements(opened._writer.connected()) as seen:
        await opened.commit(HERE, append(*records(2, 3)))
    assert seen == ["BEGIN IMMEDIATE", "SELECT", "UPDATE", "INSERT", "INSERT", "INSERT", "COMMIT"]
    assert opened.meter.trips - trips == opened.costs.commit == 1


async def test_a_repeated_commit_looks_each_record_up_and_is_still_one_trip(opened: SQLiteStore) -> None:
    await opened.commit(HERE, append(*records(0, 3)))
    trips = opened.meter.trips
    with statements(opened._writer.connected()) as seen:
        receipt = await opened.commit(HERE, append(*records(0, 4)))
    assert list(receipt.positions) == [1, 2, 3, 4]
    assert seen[seen.index("ROLLBACK") + 1 :] == [
        "BEGIN IMMEDIATE",
        *["SELECT"] * 5,
        "UPDATE",
        "INSERT",
        "COMMIT",
    ]
    assert opened.meter.trips - trips == 1


STATEMENTS = {
    name: statement
    for name, statement in {**vars(tables), **vars(sqlite_statements)}.items()
    if name.isupper() and isinstance(statement, (Select, CompoundSelect, Insert, Update, Delete))
} | {
    f"{name}[{number}]": statement
    for name in ("DELETE_THREAD", "DELETE_RESOURCE")
    for number, statement in enumerate(getattr(sqlite_statements, name))
}
LISTS = {
    f"list_threads({order}, continued={continued}, slots={slots})": tables.list_threads(
        order, continued=continued, slots=slots
    )
    for order in ("created", "active")
    for continued in (False, True)
    for slots in (0, 2)
}
OF_ONE_ROW = {"READ_SCHEMA"}
OF_TWO_ROWS = {"LIST_RESOURCES"}
"""It sorts the next id of one table and the next of another, at each step."""


def plan(connection: sqlite3.Connection, statement: tables.Statement) -> list[str]:
    sql = sqlite_statements.text(statement)
    given = dict.fromkeys(re.findall(r":(\w+)", sql), 1)
    return [detail for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {sql}", given)]


async def test_every_statement_finds_its_rows_by_an_index_and_sorts_no_table(opened: SQLiteStore) -> None:
    connection = opened._writer.connected()
    assert len(STATEMENTS) >= 25
    for name, statement in (STATEMENTS | LISTS).items():
        details = plan(connection, statement)
        scans = [detail for detail in details if re.match(r"SCAN threadkeep_", detail)]
        assert not scans or name in OF_ONE_ROW, (name, details)
        sorts = [detail for detail in details if "TEMP B-TREE" in detail]
        assert not sorts or name in LISTS or name in OF_TWO_ROWS, (name, details)


@pytest.mark.parametrize("order", ["created", "active"])
async def test_lists_of_threads_walk_the_index_of_their_order(opened: SQLiteStore, order: str) -> None:
    for name, statement in LISTS.items():
        if order in name:
            details = plan(opened._writer.connected(), statement)
            assert any(f"threadkeep_threads_{order} (resource_id=?" in detail for detail in details), details


async def steps(opened: SQLiteStore, verb: Callable[[], Awaitable[object]]) -> int:
    """The steps of SQLite's virtual machine that a verb takes."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    connections = (opened._writer.connected(), *opened._readers.idle)
    for connection in connections:
        connection.set_progress_handler(count, 1)
    await verb()
    for connection in connections:
        connection.set_progress_handler(None, 1)
    assert set(opened._readers.idle) <= set(connections)
    return counted


async def test_no_step_of_load_or_commit_depends_on_the_threads_length(opened: SQLiteStore) -> None:
    async def costs(opened: SQLiteStore, scope: Thread, length: int) -> list[int]:
        await fill(opened, scope, length)
        await opened.resources(None, 1)
        middle = length // 2
        return [
            await steps(opened, lambda: opened.load(scope, Window(before=5))),
            await steps(opened, lambda: opened.load(scope, Window(middle, 2, 2))),
            await steps(opened, lambda: opened.load(scope, Window(f"m{middle}", 2, 2))),
            await steps(opened, lambda: opened.commit(scope, append(Record("new", "d", "{}")))),
            await steps(opened, lambda: opened.commit(scope, append(Record("new", "d", "{}")))),
            await steps(opened, lambda: opened.commit(scope, append(drop_after=length))),
        ]

    short = await costs(opened, Thread("ann", "short"), 10)
    long = await costs(opened, Thread("ann", "long"), 10_000)
    assert all(short)
    assert all(after <= before + 10 for before, after in zip(short, long, strict=True)), (short, long)


async def test_no_step_depends_on_the_number_of_other_threads_and_resources(opened: SQLiteStore) -> None:
    async def costs(opened: SQLiteStore) -> list[int]:
        await opened.resources(None, 1)
        return [
            await steps(opened, lambda: opened.load(HERE, Window(before=20))),
            await steps(opened, lambda: opened.commit(HERE, append(puts=(Put(WORK, "1"),)))),
            await steps(opened, lambda: opened.threads(Resource("ann"), None, 3, "created", (WORK,))),
            await steps(opened, lambda: opened.threads(Resource("ann"), None, 3, "active", (WORK,))),
            await steps(opened, lambda: opened.threads(Resource("ann"), After(0, ""), 3, "created", ())),
            await steps(opened, lambda: opened.resources(None, 3)),
            await steps(opened, lambda: opened.resources("b", 3)),
        ]

    await opened.commit(HERE, append(*records(0, 30), puts=(Put(WORK, "1"),)))
    for number in range(5):
        await opened.commit(Thread("ann", f"a{number}"), append(puts=(Put(WORK, "1"),)))
        await opened.commit(Thread(f"z{number}", "t"), append(resource_puts=(Put(WORK, "1"),)))
    few = await costs(opened)
    for number in range(400):
        await opened.commit(Thread("ann", f"b{number}"), append(puts=(Put(WORK, "1"),)))
        await opened.commit(Thread(f"z{number}", "t"), append(resource_puts=(Put(WORK, "1"),)))
    many = await costs(opened)
    assert all(few)
    assert all(after <= before + 10 for before, after in zip(few, many, strict=True)), (few, many)


def test_statements_are_compiled_once() -> None:
    step, _ = rows.load_step(HERE, Window(before=20))
    assert sqlite_statements.text(step) is sqlite_statements.text(rows.load_step(Thread("b", "c"), Window(before=1))[0])
    listed = rows.threads_step(Resource("ann"), None, 1, "active", ("info",))[0]
    assert listed is rows.threads_step(Resource("bea"), None, 9, "active", (WORK,))[0]
