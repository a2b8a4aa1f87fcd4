"""What SQL stores share: what to run for each verb that reads, and what the rows mean. It does no input or output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import Dialect
from sqlalchemy.sql.compiler import SQLCompiler

from threadkeep.port import (
    MIB,
    MISSING,
    After,
    Costs,
    Doc,
    Limits,
    Order,
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

Rows: TypeAlias = Sequence[Sequence[Any]]
Step: TypeAlias = tuple[tables.Statement, Mapping[str, Any]]
"""A statement and its parameters, by name."""

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
