"""Bringing one thread, or the documents of one resource, into another store, through the port alone.

A thread begins with a commit that creates it at its moment of creation and marks its `info` as a copy under way. Its
messages follow in commits of their own times, then its documents, and the mark goes last. Whatever a kill leaves
behind is therefore either marked, and is taken up by the next run, or is whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from typing import Final

from threadkeep.cli.copy.compare import ABSENT, beginning_fault, name_of, same_body, slot_name
from threadkeep.errors import Conflict, LimitExceeded
from threadkeep.handles import INFO, read_info, write_info
from threadkeep.messages import batches
from threadkeep.port import (
    MAX_COUNT,
    MISSING,
    Changes,
    Doc,
    Guard,
    Limits,
    Put,
    Record,
    Resource,
    Scope,
    Snapshot,
    Stored,
    Thread,
    Window,
    canonical_json,
    check_id,
    check_size,
    new_id,
)

WHOLE: Final = Window(before=MAX_COUNT - 1)

COPYING: Final = "copying"
"""The field of `info` that marks a copy under way; its value is the epoch of the thread that is copied."""

_FILLER: Final = sha256(b"threadkeep copy: the place of a message that was dropped").hexdigest()
"""The digest of records that stand for dropped messages until the next message is there, and are dropped then."""


class Refused(Exception):
    """A thread or resource cannot be copied; the text names it and says why. Nothing of TO was overwritten."""


@dataclass(slots=True)
class Count:
    """What was written: threads that changed in the target, and messages."""

    threads: int = 0
    messages: int = 0

    def add(self, other: Count) -> None:
        """Add another count to this one."""
        self.threads += other.threads
        self.messages += other.messages


async def copy_resource(source: Guard, target: Guard, resource: Resource, at: int) -> None:
    """Bring a resource's own documents, such as its working memory, into the target.

    `at` is the time of the commits, in microseconds since 1970 UTC. Raises Refused where the target has others.
    """
    _check_scope(resource, target.limits)
    theirs = (await source.load(resource)).resource_docs
    ours = (await target.load(resource)).resource_docs
    _check_docs(resource, theirs, target.limits)
    _check_same(resource, theirs, ours)
    for slot, doc in theirs.items():
        now = ours.get(slot, ABSENT)
        if same_body(slot, now, doc):
            continue
        try:
            await target.commit(resource, Changes(at=at, puts=(Put(slot, doc.body, now.version),)))
        except Conflict as error:
            raise _in_use(resource) from error


async def copy_thread(source: Guard, target: Guard, thread: Thread) -> Count:
    """Bring a thread into the target, or what is missing of it there; a thread that is gone is none.

    Raises Refused, before anything is written, where the target has another content there or does not take a message.
    """
    theirs = await source.load(thread, WHOLE)
    if theirs.tail == MISSING:
        return Count()
    _check_fits(thread, theirs, target.limits)
    ours = await target.load(thread, WHOLE)
    copy = _Copy(target, thread, theirs, ours)
    copy.check()
    try:
        return await copy.run()
    except Conflict as error:
        raise _in_use(thread) from error


class _Copy:
    """One thread on its way, and what the target has of it so far."""

    def __init__(self, target: Guard, thread: Thread, theirs: Snapshot, ours: Snapshot) -> None:
        self._target = target
        self._thread = thread
        self._theirs = theirs
        self._tail = ours.tail
        self._active = ours.active
        self._docs = dict(ours.docs)
        self._marked = read_info(ours.docs).body.get(COPYING) == theirs.tail.epoch
        self._kept = [record for record in ours.records if not (self._marked and record.digest == _FILLER)]
        self._newest = self._kept[-1].position if self._kept else 0
        """The position of the newest message; the tail is above it while there are fillers."""
        self._commits = 0

    def check(self) -> None:
        """Raises Refused where what the target has is not a part of what it is to get."""
        if self._tail == MISSING:
            return
        if fault := beginning_fault(self._theirs.records, self._kept):
            raise _refused(self._thread, fault)
        if not self._marked:
            _check_same(self._thread, self._theirs.docs, self._docs)

    async def run(self) -> Count:
        theirs = self._theirs
        if self._tail == MISSING:
            mark = canonical_json({**read_info(theirs.docs).body, "incomplete": True, COPYING: theirs.tail.epoch}, INFO)
            await self._commit(theirs.created, puts=(Put(INFO, mark),), if_epoch="")
        new = theirs.records[len(self._kept) :]
        for batch in _batches(new, self._target.limits):
            await self._append(batch)
        for slot, doc in theirs.docs.items():
            if slot != INFO:
                await self._put(slot, doc)
        await self._finish()
        return Count(threads=1 if self._commits else 0, messages=len(new))

    async def _append(self, batch: Sequence[Stored]) -> None:
        """Append stored records of one time and without gaps, at their positions where those are still free."""
        at, first = batch[0].at, batch[0].position
        while (gap := first - self._tail.position - 1) > 0:
            some = min(gap, self._target.limits.commit_messages)
            await self._commit(at, append=tuple(_filler() for _ in range(some)))
        records = tuple(Record(record.id, record.digest, record.body) for record in batch)
        positions = await self._commit(at, append=records, drop_after=self._fillers())
        self._newest = positions[-1]

    def _fillers(self) -> int | None:
        """Above which position fillers lie, None where there are none."""
        return self._newest if self._tail.position > self._newest else None

    async def _put(self, slot: str, doc: Doc) -> None:
        now = self._docs.get(slot, ABSENT)
        if not same_body(slot, now, doc):
            await self._commit(self._theirs.active, puts=(Put(slot, doc.body, now.version),))

    async def _finish(self) -> None:
        """Take the mark off, and touch the thread at the moment of its last activity."""
        info, now = self._theirs.docs.get(INFO, ABSENT), self._docs.get(INFO, ABSENT)
        puts = () if same_body(INFO, info, now) else (Put(INFO, info.body, now.version),)
        if puts or self._fillers() is not None or self._active < self._theirs.active:
            await self._commit(self._theirs.active, puts=puts, drop_after=self._fillers())

    async def _commit(
        self,
        at: int,
        *,
        append: tuple[Record, ...] = (),
        puts: tuple[Put, ...] = (),
        drop_after: int | None = None,
        if_epoch: str | None = None,
    ) -> Sequence[int]:
        """Commit if the target is as it was left; the positions of `append`."""
        changes = Changes(
            at=at,
            # A new epoch: tails and cursors of FROM must not be taken for those of TO, whose history can be another.
            epoch=new_id(),
            append=append,
            puts=puts,
            drop_after=drop_after,
            if_tail=self._tail,
            if_epoch=self._tail.epoch if if_epoch is None else if_epoch,
            seen=self._tail,
        )
        receipt = await self._target.commit(self._thread, changes)
        self._commits += 1
        self._tail = receipt.tail
        self._active = max(self._active, at)
        for put, version in zip(puts, receipt.versions, strict=True):
            self._docs[put.slot] = Doc(version, put.body)
        return receipt.positions


def _batches(records: Sequence[Stored], limits: Limits) -> Iterator[Sequence[Stored]]:
    """Records in commits: of one time each, without gaps in their positions, and within the limits."""
    for _, group in groupby(enumerate(records), key=lambda pair: (pair[1].at, pair[1].position - pair[0])):
        together = [record for _, record in group]
        first = 0
        for batch in batches(together, limits.commit_messages, limits.commit_bytes):
            yield together[first : first + len(batch)]
            first += len(batch)


def _filler() -> Record:
    # A message that can be read, for whoever looks at a thread while it is copied.
    message_id = new_id()
    return Record(message_id, _FILLER, canonical_json({"id": message_id, "role": "system", "parts": []}, "filler"))


def _check_scope(scope: Scope, limits: Limits) -> None:
    try:
        check_id("resource_id", scope.resource_id, limits)
        if isinstance(scope, Thread):
            check_id("thread_id", scope.thread_id, limits)
    except LimitExceeded as error:
        raise _too_large(scope, error) from error


def _check_fits(thread: Thread, snapshot: Snapshot, limits: Limits) -> None:
    """Raises Refused naming the first message or document that is over the target's limits."""
    _check_scope(thread, limits)
    try:
        for record in snapshot.records:
            check_id("message id", record.id, limits)
            check_size("message_bytes", record.body, limits, f"message {record.id[:40]!r}")
        write_info(limits, read_info(snapshot.docs).body)
    except LimitExceeded as error:
        raise _too_large(thread, error) from error
    _check_docs(thread, snapshot.docs, limits)


def _check_docs(scope: Scope, docs: Mapping[str, Doc], limits: Limits) -> None:
    try:
        for slot, doc in docs.items():
            check_id("slot", slot, limits)
            check_size("working_memory_bytes", doc.body or "", limits, f"the {slot_name(slot)}")
    except LimitExceeded as error:
        raise _too_large(scope, error) from error


def _check_same(scope: Scope, theirs: Mapping[str, Doc], ours: Mapping[str, Doc]) -> None:
    """Raises Refused where the target has a document that is not the source's; one that it lacks is no fault."""
    for slot, doc in ours.items():
        if not same_body(slot, doc, theirs.get(slot, ABSENT)):
            raise _refused(scope, f"TO has another {slot_name(slot)} than FROM")


def _refused(scope: Scope, fault: str) -> Refused:
    return Refused(
        f"{name_of(scope)}: {fault}. Nothing of it was changed; if TO's is not wanted, erase it there and copy again"
    )


def _too_large(scope: Scope, error: LimitExceeded) -> Refused:
    return Refused(f"{name_of(scope)} does not fit into TO: {error}. Nothing of it was written")


def _in_use(scope: Scope) -> Refused:
    return Refused(
        f"{name_of(scope)}: it was written to in TO while it was copied; nothing that others wrote was changed. "
        "Let nobody write there until the copy is done"
    )
