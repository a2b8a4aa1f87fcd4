"""Commits to a thread: messages appended and dropped, working memory put, a client's whole history taken in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from threadkeep.errors import LimitExceeded, MessageNotFound, TailMoved
from threadkeep.handles.access import ThreadAccess
from threadkeep.handles.arguments import ALL, as_tail
from threadkeep.handles.views import WORKING_MEMORY
from threadkeep.messages.codec import decode, encode
from threadkeep.messages.model import Message, as_messages
from threadkeep.messages.reconcile import Ids, reconcile_histories, unused_ids
from threadkeep.port.canonical import canonical_json
from threadkeep.port.ids import check_id, new_id
from threadkeep.port.store import Changes, Put, Receipt, Tail, Window


class _Keep:
    """The type of KEEP: a document that a commit leaves as it is."""


KEEP: Final = _Keep()


@dataclass(frozen=True, slots=True)
class HistoryReceipt:
    """What `append_history` found and did.

    `messages` are the client's, one to one and as they are stored: with the ids and positions that they have there.
    `new` counts those that were appended. `beyond` counts stored messages after the history's end: the client
    repeated an older request.
    """

    tail: Tail
    messages: tuple[Message, ...]
    new: int
    beyond: int


async def commit_messages(
    thread: ThreadAccess,
    messages: Iterable[Message | str],
    *,
    if_tail: Tail | None,
    drop_from: str | None,
    working_memory: Any = KEEP,
    resource_memory: Any = KEEP,
) -> Receipt:
    """One commit of messages and documents. Raises as `ThreadHandle.commit`."""
    thread.check_writable("commit")
    records = tuple([encode(message, thread.limits) for message in as_messages(messages)])
    changes = Changes(
        at=thread.access.now(),
        epoch=new_id(),
        append=records,
        puts=_memory_put(working_memory),
        resource_puts=_memory_put(resource_memory),
        if_tail=as_tail(if_tail),
        seen=thread.seen,
    )
    if drop_from is None:
        return await thread.commit("commit", changes)
    check_id("message id", drop_from, thread.limits)
    while True:
        snapshot = await thread.load_around(drop_from, Window(drop_from, after=1))
        if if_tail is not None and snapshot.tail != if_tail:
            raise TailMoved(*snapshot.tail)
        # Only while nothing else has changed is the message still where it was found.
        drop = replace(changes, drop_after=snapshot.records[0].position - 1, if_tail=snapshot.tail)
        try:
            return await thread.commit("commit", drop)
        except TailMoved:
            if if_tail is not None:
                raise


async def append_history(thread: ThreadAccess, messages: Sequence[Message], ids: Ids) -> HistoryReceipt:
    """Append what is new in a client's whole history. Raises as `ThreadHandle.append_history`."""
    thread.check_writable("append_history")
    messages = as_messages(messages)
    appended, most = 0, ALL
    while True:
        snapshot = await thread.load(Window(before=ALL))
        stored = decode(snapshot.records)
        found = reconcile_histories(stored, messages, ids)
        if found.grown is None and not found.new:
            return HistoryReceipt(snapshot.tail, found.known, appended, len(found.beyond))
        grown = () if found.grown is None else (found.grown,)
        new = (*grown, *(found.new if ids == "stable" else unused_ids(found.new, stored)))
        batch = new[:most]
        try:
            receipt = await commit_messages(
                thread, batch, if_tail=snapshot.tail, drop_from=None if found.grown is None else found.grown.id
            )
        except (TailMoved, MessageNotFound):
            continue
        except LimitExceeded as error:
            if error.limit not in ("commit_messages", "commit_bytes") or len(batch) == 1:
                raise
            most = len(batch) // 2
            continue
        appended += len(batch) - len(grown)
        if len(new) > most:
            continue
        placed = [
            message.model_copy(update={"position": position})
            for message, position in zip(new, receipt.positions, strict=True)
        ]
        known = found.known[: len(found.known) - len(grown)]
        return HistoryReceipt(receipt.tail, (*known, *placed), appended, 0)


def _memory_put(value: Any) -> tuple[Put, ...]:
    if value is KEEP:
        return ()
    return (Put(WORKING_MEMORY, None if value is None else canonical_json(value, "working memory")),)
