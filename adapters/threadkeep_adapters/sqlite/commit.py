"""What a commit and a deletion do in an SQLite file, within the transaction of their caller.

Each is one function over statements whose parameters are bound by place: a commit runs after a wait for the disk, with
cold caches, where steps that something else runs, or parameters bound by name, cost a fifth of its time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, TypeAlias

from threadkeep.port import MISSING, Changes, Doc, Put, Receipt, Resource, Scope, Tail, check_thread, next_versions
from threadkeep_adapters.sqlite import statements
from threadkeep_adapters.sqlite.statements import text_by_place

Owner: TypeAlias = int | str | None
"""Whose documents: a thread by its key, None where it is not there yet, or a resource by its id."""

_FIND_THREAD: Final = text_by_place(statements.FIND_THREAD, "resource_id", "thread_id")
_ADD_THREAD: Final = text_by_place(
    statements.ADD_THREAD, "resource_id", "thread_id", "epoch", "position", "newest", "created", "active"
)
_MOVE_THREAD: Final = text_by_place(statements.MOVE_THREAD, "to_position", "to_newest", "to_active", "key")
_FIND_RECORD: Final = text_by_place(statements.FIND_RECORD, "key", "id")
_ADD_RECORD: Final = text_by_place(statements.ADD_RECORD, "thread_key", "position", "at", "id", "digest", "body")
_DROP_RECORDS: Final = text_by_place(statements.DROP_RECORDS, "key", "drop_after")
_LAST_POSITION: Final = text_by_place(statements.LAST_POSITION, "key")
_FIND_THREAD_DOC: Final = text_by_place(statements.FIND_THREAD_DOC, "owner", "of_slot")
_FIND_RESOURCE_DOC: Final = text_by_place(statements.FIND_RESOURCE_DOC, "owner", "of_slot")
_ADDED: Final = ("owner", "of_slot", "to_version", "to_body")
_ADD_THREAD_DOC: Final = text_by_place(statements.ADD_THREAD_DOC, *_ADDED)
_ADD_RESOURCE_DOC: Final = text_by_place(statements.ADD_RESOURCE_DOC, *_ADDED)
_CHANGED: Final = ("to_version", "to_body", "owner", "of_slot")
_CHANGE_THREAD_DOC: Final = text_by_place(statements.CHANGE_THREAD_DOC, *_CHANGED)
_CHANGE_RESOURCE_DOC: Final = text_by_place(statements.CHANGE_RESOURCE_DOC, *_CHANGED)
_DELETE_THREAD: Final = [text_by_place(statement, "resource_id", "thread_id") for statement in statements.DELETE_THREAD]
_DELETE_RESOURCE: Final = [text_by_place(statement, "resource_id") for statement in statements.DELETE_RESOURCE]


def write_changes(connection: sqlite3.Connection, scope: Scope, changes: Changes, *, look: bool) -> Receipt:
    """A commit, in a transaction in which no one else can write.

    Without `look`, the records are taken to be new: where one is not, the insert breaks a unique key. The caller
    then rolls back and calls again with `look`, and so it does after TailMoved and VersionMoved, since only `look`
    knows the conditions that stand before those.
    """
    if isinstance(scope, Resource):
        own = _next_versions(connection, _FIND_RESOURCE_DOC, scope.resource_id, changes.puts)
        _put(connection, _ADD_RESOURCE_DOC, _CHANGE_RESOURCE_DOC, scope.resource_id, changes.puts, own)
        return Receipt(MISSING, versions=own)

    found = connection.execute(_FIND_THREAD, (scope.resource_id, scope.thread_id)).fetchall()
    key, epoch, position, newest, active = found[0] if found else (None, *MISSING, 0, changes.at)
    known, digests = _known(connection, key, changes) if look else ({}, {})
    check_thread(Tail(epoch, position), digests, changes)
    versions: Sequence[int] = ()
    resource_versions: Sequence[int] = ()
    if changes.puts:
        versions = _next_versions(connection, _FIND_THREAD_DOC, key, changes.puts)
    if changes.resource_puts:
        resource_versions = _next_versions(connection, _FIND_RESOURCE_DOC, scope.resource_id, changes.resource_puts)

    if key is not None and changes.drop_after is not None and changes.drop_after < position:
        connection.execute(_DROP_RECORDS, (key, changes.drop_after))
        ((position,),) = connection.execute(_LAST_POSITION, (key,)).fetchall()
    fresh = [record for record in changes.append if record.id not in known] if known else changes.append
    first, at = newest + 1, changes.at
    if fresh:
        position = newest = newest + len(fresh)
    if key is None:
        epoch = changes.epoch
        here = (scope.resource_id, scope.thread_id)
        ((key,),) = connection.execute(_ADD_THREAD, (*here, epoch, position, newest, at, at)).fetchall()
    else:
        connection.execute(_MOVE_THREAD, (position, newest, max(active, at), key))
    connection.executemany(
        _ADD_RECORD,
        [(key, place, at, record.id, record.digest, record.body) for place, record in enumerate(fresh, first)],
    )
    if changes.puts:
        _put(connection, _ADD_THREAD_DOC, _CHANGE_THREAD_DOC, key, changes.puts, versions)
    if changes.resource_puts:
        owner = scope.resource_id
        _put(connection, _ADD_RESOURCE_DOC, _CHANGE_RESOURCE_DOC, owner, changes.resource_puts, resource_versions)
    positions: Sequence[int] = range(first, newest + 1)
    if known:
        known.update({record.id: place for place, record in enumerate(fresh, first)})
        positions = [known[record.id] for record in changes.append]
    return Receipt(Tail(epoch, position), positions, versions, resource_versions)


def delete_scope(connection: sqlite3.Connection, scope: Scope) -> None:
    """A deletion, in one transaction."""
    if isinstance(scope, Resource):
        for sql in _DELETE_RESOURCE:
            connection.execute(sql, (scope.resource_id,))
        return
    for sql in _DELETE_THREAD:
        connection.execute(sql, (scope.resource_id, scope.thread_id))


def _known(connection: sqlite3.Connection, key: int | None, changes: Changes) -> tuple[dict[str, int], dict[str, str]]:
    """The positions and the digests, by id, of those records that are there and stay there."""
    positions, digests = {}, {}
    for record in changes.append:
        for position, digest in connection.execute(_FIND_RECORD, (key, record.id)).fetchall():
            if changes.drop_after is None or position <= changes.drop_after:
                positions[record.id], digests[record.id] = position, digest
    return positions, digests


def _next_versions(connection: sqlite3.Connection, find: str, owner: Owner, puts: Sequence[Put]) -> list[int]:
    docs = {}
    for put in puts:
        for (version,) in connection.execute(find, (owner, put.slot)).fetchall():
            docs[put.slot] = Doc(version, None)
    return next_versions(docs, puts)


def _put(
    connection: sqlite3.Connection,
    add: str,
    change: str,
    owner: Owner,
    puts: Sequence[Put],
    versions: Sequence[int],
) -> None:
    for put, version in zip(puts, versions, strict=True):
        if version == 1:
            connection.execute(add, (owner, put.slot, version, put.body))
        else:
            connection.execute(change, (version, put.body, owner, put.slot))
