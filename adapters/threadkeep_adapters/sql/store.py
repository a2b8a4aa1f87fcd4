"""What every SQL store shares: what to run for each verb, and what the rows mean. It does no input or output.

A verb is a generator of steps: it yields a statement with its parameters, is sent the rows that it gave, and returns
the verb's result. A store runs the steps in the way of its driver, all of them in one transaction.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import Dialect
from sqlalchemy.sql.compiler import SQLCompiler

from threadkeep.errors import MessageConflict, TailMoved, VersionMoved
from threadkeep.limits import MIB, Limits
from threadkeep.store import (
    MISSING,
    After,
    Changes,
    Costs,
    Doc,
    Order,
    Put,
    Receipt,
    Record,
    Resource,
    Scope,
    Snapshot,
    Store,
    Stored,
    Tail,
    ThreadRow,
    Window,
)
from threadkeep_adapters.sql import tables

Parameters: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""Of one execution, or of one for each mapping."""
Rows: TypeAlias = Sequence[Sequence[Any]]
Step: TypeAlias = tuple[tables.Statement, Parameters]

MAX_INTEGER: Final = 2**63 - 1
"""The largest integer of a BIGINT column, thus of positions and times; no stored number is above it."""


class SqlStore(Store):
    """The declarations that SQL stores share."""

    limits = Limits(commit_messages=1000, commit_bytes=16 * MIB)
    costs = Costs(load=1, commit=1)


def compile_statement(statement: tables.Statement, dialect: Dialect, schema: str | None = None) -> SQLCompiler:
    """A statement compiled; `str` gives its SQL text. Every value in it is a parameter that the caller binds.

    `schema` names the database's schema that holds the tables, where the database has several.
    """
    names: dict[str, Any] = {"schema_translate_map": {None: schema}, "render_schema_translate": True} if schema else {}
    compiled = statement.compile(dialect=dialect, **names)
    unbound = [name for name, value in compiled.params.items() if value is not None]
    if unbound:
        raise ValueError(f"the statement holds values of its own for {unbound}: {compiled}")
    return compiled


def sql_text(statement: tables.Statement, dialect: Dialect) -> str:
    """The SQL text of a statement, whose parameters are bound by name."""
    return str(compile_statement(statement, dialect))


def load_step(scope: Scope, window: Window) -> Step:
    """The one statement of a load."""
    if isinstance(scope, Resource):
        return tables.LOAD_RESOURCE, {"resource_id": scope.resource_id}
    given: dict[str, Any] = {
        "resource_id": scope.resource_id,
        "thread_id": scope.thread_id,
        "before": min(window.before, MAX_INTEGER),
    }
    match window.anchor:
        case None:
            return tables.LOAD_END, given
        case int(position):
            statement = tables.LOAD_AT_POSITION
            given["anchor"] = clamp(position)
        case str(record_id):
            statement = tables.LOAD_AT_ID
            given["anchor"] = record_id
    given["after"] = min(window.after, MAX_INTEGER)
    return statement, given


def clamp(number: int) -> int:
    """A number that BIGINT can hold and that compares with every stored one as the given number does."""
    return max(-MAX_INTEGER, min(number, MAX_INTEGER))


def snapshot(rows: Rows) -> Snapshot:
    """What a load found."""
    tail, created, active = MISSING, 0, 0
    records: list[Stored] = []
    docs: dict[str, Doc] = {}
    resource_docs: dict[str, Doc] = {}
    for row in rows:
        kind = row[0]
        if kind == tables.RECORD:
            records.append(Stored._make(row[2:]))
        elif kind == tables.THREAD:
            _, active, position, created, epoch, _, _ = row
            tail = Tail(epoch, position)
        elif kind == tables.DOC:
            docs[row[4]] = Doc(row[2], row[6])
        else:
            resource_docs[row[4]] = Doc(row[2], row[6])
    records.sort()
    return Snapshot(tail, created, active, records, _by_slot(docs), _by_slot(resource_docs))


def _by_slot(docs: dict[str, Doc]) -> dict[str, Doc]:
    """In one order always: a database gives rows in whichever it likes, and what others do may change that."""
    return dict(sorted(docs.items())) if len(docs) > 1 else docs


def commit_steps(scope: Scope, changes: Changes, *, look: bool) -> Generator[Step, Rows, Receipt]:
    """A commit, in a transaction in which no one else can write to the thread.

    Without `look`, the records are taken to be new: where one is not, the insert breaks a unique key. The caller
    then rolls back and runs the steps again with `look`, and so it does after TailMoved and VersionMoved, since only
    `look` knows the conditions that stand before those.
    """
    if isinstance(scope, Resource):
        versions = yield from _next_versions(changes.puts, tables.FIND_RESOURCE_DOC, scope.resource_id)
        yield from _put_resource_docs(scope.resource_id, changes.puts, versions)
        return Receipt(MISSING, versions=versions)

    here = {"resource_id": scope.resource_id, "thread_id": scope.thread_id}
    found = yield tables.FIND_THREAD, here
    key, epoch, position, newest, active = found[0] if found else (None, "", 0, 0, changes.at)
    tail = Tail(epoch, position)
    if changes.if_epoch is not None and changes.if_epoch != epoch:
        raise TailMoved(*tail)
    known: dict[str, int] = {}
    if look and key is not None:
        known = yield from _known(key, changes)
    repeated = bool(changes.append) and len(known) == len(changes.append) and changes.drop_after is None
    if changes.if_tail is not None and changes.if_tail != tail and not repeated:
        raise TailMoved(*tail)
    if key is None:
        versions = _first_versions(changes.puts)
    else:
        versions = yield from _next_versions(changes.puts, tables.FIND_THREAD_DOC, key)
    resource_versions = yield from _next_versions(changes.resource_puts, tables.FIND_RESOURCE_DOC, scope.resource_id)

    if key is not None and changes.drop_after is not None and changes.drop_after < position:
        yield tables.DROP_RECORDS, {"key": key, "drop_after": changes.drop_after}
        ((position,),) = yield tables.LAST_POSITION, {"key": key}
    fresh = [record for record in changes.append if record.id not in known] if known else changes.append
    first, newest = newest + 1, newest + len(fresh)
    if fresh:
        position = newest
    if key is None:
        epoch = changes.epoch
        ((key,),) = yield (
            tables.ADD_THREAD,
            {**here, "epoch": epoch, "position": position, "newest": newest, "at": changes.at},
        )
    else:
        yield (
            tables.MOVE_THREAD,
            {"key": key, "to_position": position, "to_newest": newest, "to_active": max(active, changes.at)},
        )
    if fresh:
        yield tables.ADD_RECORD, _added(key, first, changes.at, fresh)
    yield from _put_thread_docs(key, changes.puts, versions)
    yield from _put_resource_docs(scope.resource_id, changes.resource_puts, resource_versions)
    positions: Sequence[int] = range(first, newest + 1)
    if known:
        known.update(zip((record.id for record in fresh), positions, strict=True))
        positions = [known[record.id] for record in changes.append]
    return Receipt(Tail(epoch, position), positions, versions, resource_versions)


def _added(key: int, first: int, at: int, records: Iterable[Record]) -> list[dict[str, Any]]:
    return [
        {
            "thread_key": key,
            "position": position,
            "at": at,
            "id": record.id,
            "digest": record.digest,
            "body": record.body,
        }
        for position, record in enumerate(records, first)
    ]


def _known(key: int, changes: Changes) -> Generator[Step, Rows, dict[str, int]]:
    """The positions, by id, of those records that are there and stay there."""
    known: dict[str, int] = {}
    for record in changes.append:
        for position, digest in (yield tables.FIND_RECORD, {"key": key, "id": record.id}):
            if changes.drop_after is not None and position > changes.drop_after:
                continue
            if digest != record.digest:
                raise MessageConflict(record.id)
            known[record.id] = position
    return known


def _first_versions(puts: Sequence[Put]) -> list[int]:
    for put in puts:
        if put.if_version:
            raise VersionMoved(put.slot, 0)
    return [1] * len(puts)


def _next_versions(puts: Sequence[Put], find: tables.Statement, owner: int | str) -> Generator[Step, Rows, list[int]]:
    versions = []
    for put in puts:
        rows = yield find, {"owner": owner, "of_slot": put.slot}
        version: int = rows[0][0] if rows else 0
        if put.if_version is not None and put.if_version != version:
            raise VersionMoved(put.slot, version)
        versions.append(version + 1)
    return versions


def _put_thread_docs(key: int, puts: Sequence[Put], versions: Sequence[int]) -> Generator[Step, Rows, None]:
    return _put(tables.ADD_THREAD_DOC, tables.CHANGE_THREAD_DOC, key, puts, versions)


def _put_resource_docs(resource_id: str, puts: Sequence[Put], versions: Sequence[int]) -> Generator[Step, Rows, None]:
    return _put(tables.ADD_RESOURCE_DOC, tables.CHANGE_RESOURCE_DOC, resource_id, puts, versions)


def _put(
    add: tables.Statement, change: tables.Statement, owner: int | str, puts: Sequence[Put], versions: Sequence[int]
) -> Generator[Step, Rows, None]:
    for put, version in zip(puts, versions, strict=True):
        yield (
            add if version == 1 else change,
            {"owner": owner, "of_slot": put.slot, "to_version": version, "to_body": put.body},
        )


def delete_steps(scope: Scope) -> Generator[Step, Rows, None]:
    """A deletion, in one transaction."""
    if isinstance(scope, Resource):
        given = {"resource_id": scope.resource_id}
        statements: Sequence[tables.Statement] = tables.DELETE_RESOURCE
    else:
        given = {"resource_id": scope.resource_id, "thread_id": scope.thread_id}
        statements = tables.DELETE_THREAD
    for statement in statements:
        yield statement, given


def threads_step(resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]) -> Step:
    """The one statement of a page of threads."""
    asked = dict.fromkeys(slots)
    given: dict[str, Any] = {"resource_id": resource.resource_id, "limit": limit}
    given.update((f"slot_{number}", slot) for number, slot in enumerate(asked))
    if after is not None:
        given.update(at=clamp(after.at), after=after.thread_id)
    return tables.list_threads(order, continued=after is not None, slots=len(asked)), given


def thread_rows(rows: Rows) -> list[ThreadRow]:
    """The threads of a page; a thread with several documents has several rows, one after another."""
    page: dict[str, tuple[Tail, int, int, dict[str, Doc]]] = {}
    for thread_id, epoch, position, created, active, slot, version, body in rows:
        *_, docs = page.setdefault(thread_id, (Tail(epoch, position), created, active, {}))
        if slot is not None:
            docs[slot] = Doc(version, body)
    return [
        ThreadRow(thread_id, tail, created, active, _by_slot(docs))
        for thread_id, (tail, created, active, docs) in page.items()
    ]


def resources_step(after: str | None, limit: int) -> Step:
    """The one statement of a page of resources; every id is above the empty text."""
    return tables.LIST_RESOURCES, {"after": after or "", "limit": limit}
