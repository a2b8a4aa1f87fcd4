"""A thread's info document: its title, metadata and archived mark, as they are created and edited."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from threadkeep.errors import TailMoved, ThreadExists, ThreadNotFound, VersionMoved
from threadkeep.handles.access import ThreadAccess
from threadkeep.handles.arguments import as_metadata
from threadkeep.handles.views import INFO, ThreadInfo, read_info, snapshot_info, thread_info, write_info
from threadkeep.port.ids import new_id
from threadkeep.port.store import Changes, Doc, Put, Receipt, Snapshot, ThreadRow, Window


async def create_thread(thread: ThreadAccess, title: str | None, metadata: Mapping[str, Any] | None) -> ThreadInfo:
    """Create a thread. Raises as `ThreadHandle.create`."""
    values = as_metadata({} if metadata is None else metadata)
    body = write_info(thread.limits, {"title": title, "metadata": values})
    puts = () if body == "{}" else (Put(INFO, body),)
    changes = Changes(at=thread.access.now(), epoch=new_id(), puts=puts, if_epoch="")
    try:
        receipt = await thread.commit("create", changes)
    except TailMoved:
        raise ThreadExists(thread.scope.thread_id) from None
    return _info_after(thread, Snapshot(created=changes.at), changes, receipt)


async def edit_info(
    thread: ThreadAccess, verb: str, change: Callable[[dict[str, Any]], dict[str, Any]], if_epoch: str | None = None
) -> ThreadInfo:
    """Read the info document, change it and put it, again while others get in between.

    A `change` that gives the very body that it got puts nothing. Raises as `ThreadHandle.rename`.
    """
    thread.check_writable(verb)
    while True:
        snapshot = await thread.load(Window())
        found = snapshot_info(thread.scope.resource_id, thread.scope.thread_id, snapshot)
        if found is None or if_epoch not in (None, found.epoch):
            raise ThreadNotFound(thread.scope.thread_id)
        info = read_info(snapshot.docs)
        changed = change(info.body)
        if changed is info.body:
            return found
        put = Put(INFO, write_info(thread.limits, changed), info.version)
        changes = Changes(
            at=thread.access.now(), epoch=new_id(), puts=(put,), if_epoch=snapshot.tail.epoch, seen=snapshot.tail
        )
        try:
            receipt = await thread.commit(verb, changes)
        except (VersionMoved, TailMoved):
            continue
        return _info_after(thread, snapshot, changes, receipt)


def _info_after(thread: ThreadAccess, snapshot: Snapshot, changes: Changes, receipt: Receipt) -> ThreadInfo:
    """The thread as a commit to the info document left it, without asking again."""
    docs = {put.slot: Doc(version, put.body) for put, version in zip(changes.puts, receipt.versions, strict=True)}
    active = max(snapshot.active, changes.at)
    row = ThreadRow(thread.scope.thread_id, receipt.tail, snapshot.created, active, docs)
    return thread_info(thread.scope.resource_id, row)
