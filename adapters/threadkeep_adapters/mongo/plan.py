"""What a commit or a deletion will write, from what was read: no request is made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from threadkeep.port import Changes, Put, Receipt, Record, Tail, check_thread, next_versions
from threadkeep_adapters.mongo.layout import (
    INLINE_BYTES,
    INLINE_TOTAL,
    Cut,
    Docs,
    Document,
    Kept,
    ResourceState,
    ThreadState,
    commit_id,
    record_key,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """One commit: documents to insert in this order, the commit last, and what the caller is told."""

    number: int
    """The commit's."""
    documents: list[Document]
    replaced: list[str]
    """The `_id`s of bodies that no state names any more after it."""
    receipt: Receipt
    cut: Cut | None = None
    """Records to sweep after it."""


@dataclass(frozen=True, slots=True)
class Remainder:
    """What a truncation leaves: so many records, the last of which is at a position."""

    count: int
    position: int


def plan_resource(resource: ResourceState, changes: Changes, nonce: str) -> Plan:
    """A commit to a resource. Raises VersionMoved."""
    given = next_versions(resource.docs, changes.puts)
    number = resource.number + 1
    bodies = _Bodies(nonce, {"r": resource.key, "w": number, "z": nonce})
    docs = bodies.put(resource.docs, changes.puts, given, {"t": ""})
    state = replace(resource, number=number, unswept=False, docs=docs)
    commit = {
        **_commit_fields(resource, number, _follows_no_thread(resource, number), nonce),
        **state.write(),
    }
    return Plan(number, [*bodies.documents, commit], bodies.replaced, Receipt(Tail("", 0), versions=given))


def plan_thread(
    thread_id: str,
    resource: ResourceState,
    thread: ThreadState,
    known: Mapping[str, Document],
    remainder: Remainder | None,
    changes: Changes,
    nonce: str,
) -> Plan:
    """A commit to a thread. Raises Conflict.

    `known` has the valid records of the ids to append, by id; `remainder` is what `drop_after` leaves, None where it
    drops nothing.
    """
    check_thread(thread.tail, {record_id: record["digest"] for record_id, record in known.items()}, changes)
    given = next_versions(thread.docs if thread.exists else {}, changes.puts)
    resource_given = next_versions(resource.docs, changes.resource_puts)
    number = resource.number + 1
    common = {"r": resource.key, "w": number, "z": nonce}

    state = _begun(thread_id, thread, number, changes)
    if remainder is not None:
        cut = Cut(number, remainder.count)
        state = replace(state, count=remainder.count, position=remainder.position, cut=cut)
    records: list[Document] = []
    positions: list[int] = []
    for record in changes.append:
        if record.id in known:
            positions.append(int(known[record.id]["p"]))
            continue
        state = _with_record(state, record)
        positions.append(state.position)
        records.append(_write_record(state, record, changes.at, f"{nonce}.{len(records)}", common))

    bodies = _Bodies(nonce, common)
    state = replace(state, docs=bodies.put(state.docs, changes.puts, given, {"t": thread.key}))
    after = replace(
        resource,
        number=number,
        unswept=False,
        threads=resource.threads if thread.exists else resource.threads + 1,
        docs=bodies.put(resource.docs, changes.resource_puts, resource_given, {"t": ""}),
    )
    commit = {
        **_commit_fields(resource, number, _follows(thread, resource), nonce),
        **after.write(),
        **state.write(resource.key),
    }
    return Plan(
        number,
        [*records, *bodies.documents, commit],
        bodies.replaced,
        Receipt(state.tail, positions, given, resource_given),
        state.cut,
    )


def plan_deletion(resource: ResourceState, thread: ThreadState, nonce: str) -> Document:
    """The commit that deletes a thread that exists."""
    number = resource.number + 1
    after = replace(resource, number=number, unswept=False, threads=resource.threads - 1)
    if after.is_empty:
        after = replace(after, generation=number)
    gone = ThreadState(thread.key, number, gone=True, unswept=True)
    return {
        **_commit_fields(resource, number, _follows(thread, resource), nonce),
        **after.write(),
        **gone.write(resource.key),
    }


def plan_erasure(resource: ResourceState, nonce: str) -> Document:
    """The commit that erases a resource."""
    number = resource.number + 1
    after = ResourceState(resource.key, number, generation=number, floor=number, unswept=True)
    return {
        **_commit_fields(resource, number, _follows_no_thread(resource, number), nonce),
        **after.write(),
    }


def _commit_fields(resource: ResourceState, number: int, follows: str, nonce: str) -> Document:
    """A commit but for the states that it carries. `follows` is unique, as its number is."""
    return {"_id": commit_id(resource.key, number), "n": follows, "z": nonce}


def _follows(thread: ThreadState, resource: ResourceState) -> str:
    """The unique name of "the commit that follows this state of the thread"."""
    return f"{thread.key}/{max(thread.number, resource.floor):016x}"


def _follows_no_thread(resource: ResourceState, number: int) -> str:
    """The unique name of a commit to a resource."""
    return f"{resource.key}+{number:016x}"


def _begun(thread_id: str, thread: ThreadState, number: int, changes: Changes) -> ThreadState:
    """The state of a thread in a commit that has put nothing into it yet."""
    if thread.exists:
        return replace(thread, number=number, active=max(thread.active, changes.at), cut=None)
    return ThreadState(
        thread.key,
        number,
        thread_id=thread_id,
        epoch=changes.epoch,
        born=number,
        created=changes.at,
        active=changes.at,
    )


def _with_record(state: ThreadState, record: Record) -> ThreadState:
    """The state of a thread with one more record at its end."""
    position = state.newest + 1
    largest = max(state.largest, len(record.body.encode()))
    return replace(state, newest=position, position=position, count=state.count + 1, largest=largest)


def _write_record(state: ThreadState, record: Record, at: int, place: str, common: Document) -> Document:
    """The document of a record that is the last one in a state."""
    return {
        "_id": place,
        "n": place,
        **common,
        "t": state.key,
        "k": record_key(state.key, record.id),
        "o": state.count - 1,
        "p": state.position,
        "at": at,
        "id": record.id,
        "digest": record.digest,
        "body": record.body,
    }


class _Bodies:
    """Documents to insert for the texts that no state can carry, and those that are replaced."""

    def __init__(self, nonce: str, common: Document) -> None:
        self.documents: list[Document] = []
        self.replaced: list[str] = []
        self._nonce = nonce
        self._common = common

    def put(self, docs: Docs, puts: Sequence[Put], given: Sequence[int], extra: Document) -> Docs:
        """Documents with puts applied."""
        after = dict(docs)
        for put, version in zip(puts, given, strict=True):
            before = after.pop(put.slot, None)
            if before is not None and before.place is not None:
                self.replaced.append(before.place)
            inline = sum(len(doc.body.encode()) for doc in after.values() if doc.body is not None)
            size = 0 if put.body is None else len(put.body.encode())
            if size <= INLINE_BYTES and inline + size <= INLINE_TOTAL:
                after[put.slot] = Kept(version, put.body)
                continue
            place = f"{self._nonce}.b{len(self.documents)}"
            self.documents.append({"_id": place, "n": place, **self._common, **extra, "body": put.body})
            after[put.slot] = Kept(version, None, place)
        return after
