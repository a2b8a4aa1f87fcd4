"""What goes to the scripts, and what comes back, in terms of the port. The scripts' heads say the same in short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from threadkeep.errors import MessageConflict, TailMoved, VersionMoved
from threadkeep.port import MISSING, Changes, Doc, Receipt, Scope, Snapshot, Tail, Thread, ThreadRow, Window
from threadkeep_adapters.redis.layout import moment, read_doc, read_record, time_of, write_body, write_record
from threadkeep_adapters.redis.registry import TOKEN_MICROS

INDEXED: Final = "indexed"
"""In place of a token: the list of resources is on the same server, and the script keeps it."""


def load_arguments(window: Window) -> tuple[Any, ...]:
    """For load.lua."""
    match window.anchor:
        case None:
            return "end", "", window.before, 0
        case int(position):
            return "position", position, window.before, window.after
        case str(record_id):
            return "id", record_id, window.before, window.after


def snapshot(reply: list[Any], window: Window) -> Snapshot:
    """From load.lua."""
    resource_docs = docs(reply[0])
    if len(reply) == 1:
        return Snapshot(resource_docs=resource_docs)
    _, fields, before, after = reply
    own: dict[str, Doc] = {}
    meta: dict[bytes, bytes] = {}
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if name.startswith(b":"):
            own[name[1:].decode()] = read_doc(value)
        else:
            meta[name] = value
    if window.anchor is not None:
        before = before[::-1]
    return Snapshot(
        Tail(meta[b"epoch"].decode(), int(meta[b"position"])),
        time_of(meta[b"created"]),
        time_of(meta[b"active"]),
        [read_record(written) for written in (*before, *after)],
        own,
        resource_docs,
    )


def docs(pairs: list[bytes]) -> dict[str, Doc]:
    """The documents of a resource, from HGETALL."""
    return {slot.decode(): read_doc(body) for slot, body in zip(pairs[::2], pairs[1::2], strict=True)}


def commit_arguments(scope: Scope, changes: Changes, token: str) -> list[Any]:
    """For commit.lua."""
    of_thread = isinstance(scope, Thread)
    given: list[Any] = [
        "thread" if of_thread else "resource",
        scope.thread_id if isinstance(scope, Thread) else "",
        scope.resource_id,
        token,
        TOKEN_MICROS,
        changes.epoch,
        moment(changes.at),
        "" if changes.drop_after is None else changes.drop_after,
        "" if changes.if_epoch is None else f"={changes.if_epoch}",
        "" if changes.if_tail is None else f"={changes.if_tail.position}:{changes.if_tail.epoch}",
        len(changes.append),
        len(changes.puts),
        len(changes.resource_puts),
    ]
    for record in changes.append:
        given += (record.id, record.digest, write_record(changes.at, record))
    for put in (*changes.puts, *changes.resource_puts):
        given += (put.slot, "" if put.if_version is None else put.if_version, write_body(put.body))
    return given


def receipt(reply: list[Any], scope: Scope) -> Receipt:
    """From commit.lua. Raises TailMoved, MessageConflict, VersionMoved."""
    match reply:
        case [b"done", _, epoch, position, positions, versions, resource_versions]:
            tail = Tail(epoch.decode(), position) if isinstance(scope, Thread) else MISSING
            return Receipt(tail, positions, versions, resource_versions)
        case [b"tail", epoch, position]:
            raise TailMoved(epoch.decode(), position)
        case [b"message", record_id]:
            raise MessageConflict(record_id.decode())
        case [b"version", slot, version]:
            raise VersionMoved(slot.decode(), version)
    raise AssertionError(f"commit.lua answers with nothing such as {reply!r:.80}")


def thread_row(row: Sequence[Any], slots: Sequence[str]) -> ThreadRow:
    """From threads.lua."""
    thread_id, epoch, position, created, active, *found = row
    return ThreadRow(
        thread_id.decode(),
        Tail(epoch.decode(), int(position)),
        time_of(created),
        time_of(active),
        {slot: read_doc(body) for slot, body in zip(slots, found, strict=True) if body is not None},
    )
