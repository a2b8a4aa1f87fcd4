"""What goes to the function that commits, and what comes back, in terms of the port. functions.sql has the commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from threadkeep.errors import MessageConflict, TailMoved, VersionMoved
from threadkeep.port import MISSING, Changes, Put, Receipt, Scope, Tail, Thread
from threadkeep_adapters.sql.rows import clamp


def commit_arguments(scope: Scope, changes: Changes) -> list[Any]:
    """The parameters of threadkeep_commit_1."""
    thread_id: bytes | None = None
    puts: Sequence[Put] = ()
    resource_puts = changes.puts
    if isinstance(scope, Thread):
        thread_id, puts, resource_puts = scope.thread_id.encode(), changes.puts, changes.resource_puts
    if_tail = changes.if_tail
    return [
        scope.resource_id.encode(),
        thread_id,
        changes.at,
        _compared(changes.epoch),
        [record.id.encode() for record in changes.append],
        [record.digest.encode() for record in changes.append],
        [record.body for record in changes.append],
        *_put_columns(puts),
        *_put_columns(resource_puts),
        changes.drop_after,
        None if changes.if_epoch is None else _compared(changes.if_epoch),
        None if if_tail is None else _compared(if_tail.epoch),
        None if if_tail is None else clamp(if_tail.position),
    ]


def commit_receipt(row: Sequence[Any], scope: Scope, changes: Changes) -> Receipt:
    """What the row that threadkeep_commit_1 returns says. Raises TailMoved, MessageConflict, VersionMoved."""
    outcome, named, epoch, position, positions, versions, resource_versions = row
    if outcome == "message":
        raise MessageConflict(named.decode())
    if outcome == "version":
        raise VersionMoved(named.decode(), position)
    if outcome != "done":
        raise TailMoved(epoch.decode(), position)
    if not isinstance(scope, Thread):
        return Receipt(MISSING, versions=resource_versions)
    tail = Tail(epoch.decode(), position)
    if positions is None:
        return Receipt(tail, range(position - len(changes.append) + 1, position + 1))
    return Receipt(tail, positions, versions, resource_versions)


def _compared(text: str) -> bytes:
    """What is compared, as bytes. A tail comes from callers, and may hold what UTF-8 has no bytes for."""
    return text.encode("utf-8", "surrogatepass")


def _put_columns(puts: Sequence[Put]) -> tuple[list[bytes], list[str | None], list[int | None]]:
    return (
        [put.slot.encode() for put in puts],
        [put.body for put in puts],
        [put.if_version for put in puts],
    )
