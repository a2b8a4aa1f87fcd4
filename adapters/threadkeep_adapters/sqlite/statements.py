"""The statements that write to an SQLite file, and the SQL texts of all statements as its driver takes them."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from sqlalchemy import BigInteger, Insert, Select, Table, Update, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql.elements import ColumnElement

from threadkeep_adapters.sql import tables
from threadkeep_adapters.sql.rows import compile_statement
from threadkeep_adapters.sql.tables import ZERO, given, messages, resource_docs, schema, thread_docs, threads

_NAMED: Final = sqlite.dialect(paramstyle="named")
_BY_PLACE: Final = sqlite.dialect(paramstyle="qmark")

_resource: Final = given("resource_id", threads.c.resource_id)
_thread: Final = given("thread_id", threads.c.thread_id)
_key: Final = given("key", threads.c.key)
_here: Final = (threads.c.resource_id == _resource, threads.c.thread_id == _thread)

FIND_THREAD: Final = select(
    threads.c.key, threads.c.epoch, threads.c.position, threads.c.newest, threads.c.active
).where(*_here)
"""The row that a commit starts from. Takes resource_id, thread_id."""

ADD_THREAD: Final = (
    insert(threads)
    .values(
        resource_id=_resource,
        thread_id=_thread,
        epoch=bindparam("epoch"),
        position=bindparam("position"),
        newest=bindparam("newest"),
        created=bindparam("created"),
        active=bindparam("active"),
    )
    .returning(threads.c.key)
)
"""A new thread; returns its key."""

MOVE_THREAD: Final = (
    update(threads)
    .where(threads.c.key == _key)
    .values(position=bindparam("to_position"), newest=bindparam("to_newest"), active=bindparam("to_active"))
)

FIND_RECORD: Final = select(messages.c.position, messages.c.digest).where(
    messages.c.thread_key == _key, messages.c.id == given("id", messages.c.id)
)

LAST_POSITION: Final = select(func.coalesce(func.max(messages.c.position), ZERO)).where(messages.c.thread_key == _key)

ADD_RECORD: Final = insert(messages).values({column.name: bindparam(column.name) for column in messages.columns})
"""Takes thread_key and what a `Stored` holds."""

DROP_RECORDS: Final = delete(messages).where(
    messages.c.thread_key == _key, messages.c.position > bindparam("drop_after", type_=BigInteger)
)


def _versions(docs: Table, owner: ColumnElement[Any]) -> tuple[Select[Any], Insert, Update]:
    """Find a document's version, add it, change it. They take owner, slot; version and body too where they write."""
    column = docs.columns[0]
    slot = given("of_slot", docs.c.slot)
    find = select(docs.c.version).where(column == owner, docs.c.slot == slot)
    add = insert(docs).values(
        {column.name: owner, "slot": slot, "version": bindparam("to_version"), "body": bindparam("to_body")}
    )
    change = (
        update(docs)
        .where(column == owner, docs.c.slot == slot)
        .values(version=bindparam("to_version"), body=bindparam("to_body"))
    )
    return find, add, change


FIND_THREAD_DOC, ADD_THREAD_DOC, CHANGE_THREAD_DOC = _versions(thread_docs, given("owner", threads.c.key))
FIND_RESOURCE_DOC, ADD_RESOURCE_DOC, CHANGE_RESOURCE_DOC = _versions(
    resource_docs, given("owner", resource_docs.c.resource_id)
)

_keys_of_thread: Final = select(threads.c.key).where(*_here)
_keys_of_resource: Final = select(threads.c.key).where(threads.c.resource_id == _resource)

DELETE_THREAD: Final = (
    delete(messages).where(messages.c.thread_key.in_(_keys_of_thread)),
    delete(thread_docs).where(thread_docs.c.thread_key.in_(_keys_of_thread)),
    delete(threads).where(*_here),
)
"""In this order, in one transaction. They take resource_id, thread_id."""

DELETE_RESOURCE: Final = (
    delete(messages).where(messages.c.thread_key.in_(_keys_of_resource)),
    delete(thread_docs).where(thread_docs.c.thread_key.in_(_keys_of_resource)),
    delete(threads).where(threads.c.resource_id == _resource),
    delete(resource_docs).where(resource_docs.c.resource_id == _resource),
)
"""In this order, in one transaction. They take resource_id."""

WRITE_SCHEMA: Final = insert(schema).values(version=bindparam("version"))


@cache
def text(statement: tables.Statement) -> str:
    """The SQL text of a statement whose parameters are bound by name, made once."""
    return str(compile_statement(statement, _NAMED))


def text_by_place(statement: tables.Statement, *names: str) -> str:
    """The SQL text of a statement whose parameters are bound by place, in the order of these names."""
    compiled = compile_statement(statement, _BY_PLACE)
    if compiled.positiontup != list(names):
        raise ValueError(f"the statement takes {compiled.positiontup}, not {names}: {compiled}")
    return str(compiled)


def ddl() -> list[str]:
    """The statements that make the tables and their indexes, in their order."""
    texts = []
    for table in tables.metadata.sorted_tables:
        texts.append(str(CreateTable(table).compile(dialect=_NAMED)))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            texts.append(str(CreateIndex(index).compile(dialect=_NAMED)))
    return texts
