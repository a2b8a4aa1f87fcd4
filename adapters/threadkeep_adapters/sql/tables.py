"""The tables of every SQL store, and the statements that all of them run, in SQLAlchemy Core.

Nothing here runs: a store compiles each statement to SQL text for its dialect, once, and hands the text to its driver.
What is compared is compared byte by byte: SQLite's BINARY collation does so, PostgreSQL gets the bytes themselves.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import (
    CTE,
    BigInteger,
    Column,
    CompoundSelect,
    Delete,
    Identity,
    Index,
    Insert,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    Table,
    Text,
    UniqueConstraint,
    Update,
    bindparam,
    cast,
    literal_column,
    null,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.sql.elements import ColumnElement

SCHEMA_VERSION: Final = 1
"""Rises with every change of the tables; a store with a larger one is refused."""

metadata: Final = MetaData()

BigKey: Final = BigInteger().with_variant(Integer, "sqlite")
"""SQLite gives keys by itself only to a column whose type is INTEGER to the letter."""

Id: Final = Text().with_variant(LargeBinary, "postgresql")
"""Ids, slots, epochs and digests. PostgreSQL's text cannot hold NUL, and its order is that of a language; as UTF-8
bytes they keep both NUL and the order of code points, whatever the database's collation."""

schema: Final = Table("threadkeep_schema", metadata, Column("version", Integer, nullable=False))

threads: Final = Table(
    "threadkeep_threads",
    metadata,
    Column("key", BigKey, Identity(), primary_key=True),
    Column("resource_id", Id, nullable=False),
    Column("thread_id", Id, nullable=False),
    Column("epoch", Id, nullable=False),
    Column("position", BigInteger, nullable=False, comment="of the newest record, 0 where there is none"),
    Column("newest", BigInteger, nullable=False, comment="the largest position that this epoch ever gave"),
    Column("created", BigInteger, nullable=False),
    Column("active", BigInteger, nullable=False),
    UniqueConstraint("resource_id", "thread_id", name="threadkeep_threads_id"),
    Index("threadkeep_threads_created", "resource_id", "created", "thread_id"),
    Index("threadkeep_threads_active", "resource_id", "active", "thread_id"),
)

messages: Final = Table(
    "threadkeep_messages",
    metadata,
    Column("thread_key", BigKey, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("id", Id, nullable=False),
    Column("digest", Id, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("thread_key", "id", name="threadkeep_messages_id"),
)

thread_docs: Final = Table(
    "threadkeep_thread_docs",
    metadata,
    Column("thread_key", BigKey, primary_key=True, autoincrement=False),
    Column("slot", Id, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("body", Text),
)

resource_docs: Final = Table(
    "threadkeep_resource_docs",
    metadata,
    Column("resource_id", Id, primary_key=True),
    Column("slot", Id, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("body", Text),
)

Statement: TypeAlias = Select[Any] | CompoundSelect[Any] | Insert | Update | Delete

THREAD, RECORD, DOC, RESOURCE_DOC = range(4)
"""The kinds of rows that a load gives."""


ZERO: Final = literal_column("0", Integer)
ONE: Final = literal_column("1", Integer)
"""Written out, since SQLAlchemy would bind them, as it does for the offset that SQLite's dialect adds to a limit."""


def given(name: str, column: Column[Any]) -> ColumnElement[Any]:
    """A parameter whose type is that of a column."""
    return bindparam(name, type_=column.type)


_resource: Final = given("resource_id", threads.c.resource_id)
_thread: Final = given("thread_id", threads.c.thread_id)
_key: Final = given("key", threads.c.key)
_here: Final = (threads.c.resource_id == _resource, threads.c.thread_id == _thread)
_thread_here: Final = (
    select(threads.c.key, threads.c.epoch, threads.c.position, threads.c.created, threads.c.active)
    .where(*_here)
    .cte("here")
)
_key_here: Final = select(_thread_here.c.key).scalar_subquery()
"""One value and no join, so that every planner walks the index of positions and stops at the limit."""


def _row(
    kind: int,
    active: ColumnElement[Any] | None,
    position: ColumnElement[Any],
    at: ColumnElement[Any] | None,
    name: ColumnElement[Any],
    digest: ColumnElement[Any] | None,
    body: ColumnElement[Any] | None,
) -> tuple[ColumnElement[Any], ...]:
    """The columns of a load. From the third on they are those of `Stored`, for a record."""
    number = cast(null(), BigInteger)
    return (
        literal_column(str(kind), Integer).label("kind"),
        (number if active is None else active).label("active"),
        position.label("position"),
        (number if at is None else at).label("at"),
        name.label("name"),
        (cast(null(), Id) if digest is None else digest).label("digest"),
        (cast(null(), Text) if body is None else body).label("body"),
    )


def _docs_of_resource() -> Select[Any]:
    docs = resource_docs.c
    return select(*_row(RESOURCE_DOC, None, docs.version, None, docs.slot, None, docs.body)).where(
        docs.resource_id == _resource
    )


def _docs_of_thread() -> Select[Any]:
    docs = thread_docs.c
    return select(*_row(DOC, None, docs.version, None, docs.slot, None, docs.body)).where(docs.thread_key == _key_here)


def _thread_row() -> Select[Any]:
    columns = _thread_here.c
    return select(*_row(THREAD, columns.active, columns.position, columns.created, columns.epoch, None, None))


def _records(side: Literal["before", "after"], cut: ColumnElement[Any] | None) -> Select[Any]:
    """Records on one side of a cut, nearest first; a cut that is NULL selects nothing."""
    columns = messages.c
    chosen = select(*_row(RECORD, None, columns.position, columns.at, columns.id, columns.digest, columns.body)).where(
        columns.thread_key == _key_here
    )
    if cut is not None:
        chosen = chosen.where(columns.position < cut if side == "before" else columns.position >= cut)
    order = columns.position.desc() if side == "before" else columns.position.asc()
    limited = chosen.order_by(order).limit(bindparam(side, type_=BigInteger)).offset(ZERO).subquery(f"records_{side}")
    return select(limited)


_anchor_position: Final = bindparam("anchor", type_=BigInteger)
_anchor_of_id: Final = (
    select(messages.c.position)
    .where(messages.c.thread_key == _key_here, messages.c.id == given("anchor", messages.c.id))
    .scalar_subquery()
)

LOAD_RESOURCE: Final = _docs_of_resource()
"""The documents of a resource, as rows of kind RESOURCE_DOC. Takes resource_id."""

LOAD_END: Final = union_all(_thread_row(), _records("before", None), _docs_of_thread(), _docs_of_resource())
"""A thread and the newest records. Takes resource_id, thread_id, before. Records come newest first."""

LOAD_AT_POSITION: Final = union_all(
    _thread_row(),
    _records("before", _anchor_position),
    _records("after", _anchor_position),
    _docs_of_thread(),
    _docs_of_resource(),
)
"""A thread and the records around a position. As LOAD_END, with anchor and after; those after come oldest first."""

LOAD_AT_ID: Final = union_all(
    _thread_row(),
    _records("before", _anchor_of_id),
    _records("after", _anchor_of_id),
    _docs_of_thread(),
    _docs_of_resource(),
)
"""As LOAD_AT_POSITION, with the id of a record as anchor."""


@cache
def list_threads(order: Literal["created", "active"], *, continued: bool, slots: int) -> Select[Any]:
    """A page of threads: rows of thread_id, epoch, position, created, active, slot, version, body.

    A thread has a row for each of its documents in the slots asked for, one row with slot NULL where it has none.
    Takes resource_id, limit; at and after where `continued`; slot_0, slot_1 ... as many as `slots` says.
    """
    moment = threads.c[order]
    page = select(threads).where(threads.c.resource_id == _resource)
    if continued:
        place = tuple_(moment, threads.c.thread_id)
        reached = tuple_(bindparam("at", type_=BigInteger), given("after", threads.c.thread_id))
        page = page.where(place > reached if order == "created" else place < reached)
    page = (
        page.order_by(*_falling(order, moment, threads.c.thread_id))
        .limit(bindparam("limit", type_=BigInteger))
        .offset(ZERO)
    )
    chosen = page.subquery("page")
    thread = (chosen.c.thread_id, chosen.c.epoch, chosen.c.position, chosen.c.created, chosen.c.active)
    docs = thread_docs.c
    if slots:
        named = docs.slot.in_([given(f"slot_{number}", docs.slot) for number in range(slots)])
        rows = select(*thread, docs.slot, docs.version, docs.body).select_from(
            chosen.outerjoin(thread_docs, (docs.thread_key == chosen.c.key) & named)
        )
    else:
        rows = select(*thread, cast(null(), Id), cast(null(), BigInteger), cast(null(), Text))
    return rows.order_by(*_falling(order, chosen.c[order], chosen.c.thread_id))


def _falling(order: Literal["created", "active"], *columns: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    return [column.desc() if order == "active" else column.asc() for column in columns]


def _list_resources() -> Select[Any]:
    """Steps from one id to the next larger one, so that a resource costs the same however much it holds."""

    def smallest_above(floor: ColumnElement[Any], *outer: CTE) -> ColumnElement[Any]:
        lows = union_all(
            *(
                select(
                    select(table.c.resource_id.label("id"))
                    .where(table.c.resource_id > floor)
                    .order_by(table.c.resource_id)
                    .limit(ONE)
                    .offset(ZERO)
                    .correlate(*outer)
                    .subquery(f"of_{table.name}")
                )
                for table in (threads, resource_docs)
            )
        ).subquery("lows")
        return select(lows.c.id).order_by(lows.c.id).limit(ONE).offset(ZERO).scalar_subquery()

    found = select(smallest_above(given("after", threads.c.resource_id)).label("id")).cte("found", recursive=True)
    found = found.union_all(select(smallest_above(found.c.id, found)).where(found.c.id.is_not(None)))
    return select(found.c.id).where(found.c.id.is_not(None)).limit(bindparam("limit", type_=BigInteger)).offset(ZERO)


LIST_RESOURCES: Final = _list_resources()
"""Resource ids above `after`, rising. Takes after and limit."""

READ_SCHEMA: Final = select(schema.c.version)
