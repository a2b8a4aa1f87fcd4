"""Forks: a new thread that begins with another one's messages."""

from __future__ import annotations

from threadkeep.errors import InvalidInput, MessageNotFound, TailMoved, ThreadExists, ThreadNotFound
from threadkeep.handles.access import ThreadAccess
from threadkeep.handles.arguments import ALL
from threadkeep.handles.views import INFO, WORKING_MEMORY, read_info, write_info
from threadkeep.messages.codec import batches
from threadkeep.port.ids import check_id, new_id
from threadkeep.port.store import MISSING, Changes, Put, Window


async def fork_thread(
    origin: ThreadAccess, fork: ThreadAccess, *, up_to: str | None, before: str | None, title: str | None
) -> None:
    """Fill the new thread `fork` from `origin`. Raises as `ThreadHandle.fork`."""
    origin.check_writable("fork")
    if up_to is not None and before is not None:
        raise InvalidInput("a fork ends up_to a message or before one, not both")
    anchor = before if up_to is None else up_to
    if anchor is not None:
        check_id("message id", anchor, origin.limits)
    window = Window(before=ALL) if anchor is None else Window(anchor, before=ALL, after=1)
    snapshot = await origin.load(window)
    if snapshot.tail == MISSING:
        raise ThreadNotFound(origin.scope.thread_id)
    if anchor is not None and not snapshot.records:
        raise MessageNotFound(anchor)
    records = snapshot.records[:-1] if before is not None else snapshot.records
    info = read_info(snapshot.docs).body
    info = {
        **info,
        "title": info.get("title") if title is None else title,
        "archived": False,
        "forked_from": {"thread_id": origin.scope.thread_id, "message_id": records[-1].id if records else None},
    }
    memory = snapshot.docs.get(WORKING_MEMORY)
    memory_puts = () if memory is None or memory.body is None else (Put(WORKING_MEMORY, memory.body),)
    parts = batches(records, origin.limits.commit_messages, origin.limits.commit_bytes // 2)
    tail = MISSING
    for index, batch in enumerate(parts):
        is_last = index == len(parts) - 1
        info_put = Put(INFO, write_info(origin.limits, {**info, "incomplete": not is_last}))
        changes = Changes(
            at=origin.access.now(),
            epoch=new_id(),
            append=batch,
            puts=(info_put, *memory_puts) if is_last else (info_put,),
            if_tail=tail,
            if_epoch=tail.epoch,
        )
        try:
            tail = (await fork.commit("fork", changes)).tail
        except TailMoved:
            if index == 0:
                raise ThreadExists(fork.scope.thread_id) from None
            raise
