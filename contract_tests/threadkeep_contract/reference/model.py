"""The reference model: the port described in plain Python, with lists and dicts and no thought of speed.

It shares no code with any store. What it answers is what every store has to answer, errors included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from threadkeep.errors import MessageConflict, TailMoved, VersionMoved
from threadkeep.port import (
    MISSING,
    After,
    Changes,
    Doc,
    Order,
    Put,
    Receipt,
    Resource,
    Scope,
    Snapshot,
    Stored,
    Tail,
    Thread,
    ThreadRow,
    Window,
)


@dataclass(slots=True)
class ModelThread:
    """One thread: what it holds, and the largest position that it ever gave."""

    epoch: str
    created: int
    active: int
    largest: int = 0
    records: list[Stored] = field(default_factory=list)
    docs: dict[str, Doc] = field(default_factory=dict)

    def tail(self) -> Tail:
        """Epoch and position of the newest record, 0 without one."""
        if self.records:
            return Tail(self.epoch, self.records[-1].position)
        return Tail(self.epoch, 0)


class Model:
    """The five verbs of the port, without awaiting. A commit that raises has changed nothing."""

    def __init__(self) -> None:
        self.by_scope: dict[Thread, ModelThread] = {}
        self.resource_docs: dict[str, dict[str, Doc]] = {}

    def load(self, scope: Scope, window: Window = Window()) -> Snapshot:  # noqa: B008 - an immutable value
        """See `Store.load`."""
        resource_docs = dict(self.resource_docs.get(scope.resource_id, {}))
        if isinstance(scope, Resource) or scope not in self.by_scope:
            return Snapshot(resource_docs=resource_docs)
        thread = self.by_scope[scope]
        below, above = _cut(thread.records, window)
        newest_below = below[len(below) - window.before :] if window.before < len(below) else below
        records = newest_below + above[: window.after]
        return Snapshot(thread.tail(), thread.created, thread.active, records, dict(thread.docs), resource_docs)

    def commit(self, scope: Scope, changes: Changes) -> Receipt:
        """See `Store.commit`."""
        resource_docs = self.resource_docs.get(scope.resource_id, {})
        if isinstance(scope, Resource):
            versions = _check_versions(resource_docs, changes.puts)
            self._put_resource(scope.resource_id, changes.puts, versions)
            return Receipt(MISSING, versions=versions)

        thread = self.by_scope.get(scope)
        tail = thread.tail() if thread else MISSING
        kept = list(thread.records) if thread else []
        if changes.drop_after is not None:
            kept = [entry for entry in kept if entry.position <= changes.drop_after]

        if changes.if_epoch is not None and changes.if_epoch != tail.epoch:
            raise TailMoved(tail.epoch, tail.position)
        known = 0
        for record in changes.append:
            for entry in kept:
                if entry.id == record.id:
                    if entry.digest != record.digest:
                        raise MessageConflict(record.id)
                    known += 1
        repetition = len(changes.append) > 0 and known == len(changes.append) and changes.drop_after is None
        if changes.if_tail is not None and changes.if_tail != tail and not repetition:
            raise TailMoved(tail.epoch, tail.position)
        versions = _check_versions(thread.docs if thread else {}, changes.puts)
        resource_versions = _check_versions(resource_docs, changes.resource_puts)

        if thread is None:
            thread = self.by_scope[scope] = ModelThread(changes.epoch, changes.at, changes.at)
        thread.active = max(thread.active, changes.at)
        thread.records = kept
        positions = []
        for record in changes.append:
            places = [entry.position for entry in thread.records if entry.id == record.id]
            if not places:
                thread.largest += 1
                places = [thread.largest]
                thread.records.append(Stored(thread.largest, changes.at, record.id, record.digest, record.body))
            positions.append(places[0])
        for put, version in zip(changes.puts, versions, strict=True):
            thread.docs[put.slot] = Doc(version, put.body)
        self._put_resource(scope.resource_id, changes.resource_puts, resource_versions)
        return Receipt(thread.tail(), positions, versions, resource_versions)

    def delete(self, scope: Scope) -> None:
        """See `Store.delete`."""
        if isinstance(scope, Thread):
            self.by_scope.pop(scope, None)
            return
        self.by_scope = {
            thread: held for thread, held in self.by_scope.items() if thread.resource_id != scope.resource_id
        }
        self.resource_docs.pop(scope.resource_id, None)

    def threads(
        self,
        resource: Resource,
        after: After | None = None,
        limit: int = 100,
        order: Order = "created",
        slots: Sequence[str] = (),
    ) -> list[ThreadRow]:
        """See `Store.threads`."""
        rows = []
        for scope, thread in self.by_scope.items():
            if scope.resource_id == resource.resource_id:
                docs = {slot: doc for slot, doc in thread.docs.items() if slot in slots}
                rows.append(ThreadRow(scope.thread_id, thread.tail(), thread.created, thread.active, docs))
        if order == "created":
            rows.sort(key=lambda row: (row.created, row.thread_id))
            rows = [row for row in rows if after is None or (row.created, row.thread_id) > after]
        else:
            rows.sort(key=lambda row: (row.active, row.thread_id), reverse=True)
            rows = [row for row in rows if after is None or (row.active, row.thread_id) < after]
        return rows[:limit]

    def resources(self, after: str | None = None, limit: int = 100) -> list[str]:
        """See `Store.resources`."""
        held = {scope.resource_id for scope in self.by_scope} | set(self.resource_docs)
        return [resource_id for resource_id in sorted(held) if after is None or resource_id > after][:limit]

    def _put_resource(self, resource_id: str, puts: Sequence[Put], versions: Sequence[int]) -> None:
        for put, version in zip(puts, versions, strict=True):
            self.resource_docs.setdefault(resource_id, {})[put.slot] = Doc(version, put.body)


def _cut(records: list[Stored], window: Window) -> tuple[list[Stored], list[Stored]]:
    """The records below the window's anchor, and those from it on."""
    if window.anchor is None:
        return records, []
    if isinstance(window.anchor, int):
        place = window.anchor
    else:
        places = [entry.position for entry in records if entry.id == window.anchor]
        if not places:
            return [], []
        place = places[0]
    return (
        [entry for entry in records if entry.position < place],
        [entry for entry in records if entry.position >= place],
    )


def _check_versions(docs: dict[str, Doc], puts: Sequence[Put]) -> list[int]:
    """The versions that these puts give, or VersionMoved for the first whose condition does not hold."""
    versions = []
    for put in puts:
        version = docs[put.slot].version if put.slot in docs else 0
        if put.if_version is not None and put.if_version != version:
            raise VersionMoved(put.slot, version)
        versions.append(version + 1)
    return versions
