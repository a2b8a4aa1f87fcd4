"""What lies where: the keys of documents, and the states that commits carry.

A store is one collection of commits (or several, see `buckets` in docs/stores/mongodb.md), one of resources and one
document about the store. In a collection of commits lie

    commit  _id RESOURCE/NUMBER   h, hd: the state of the resource after it    s, sd: the state of its thread after it
    record  _id random            valid if the commit number `w` exists and has the same `z`
    body    _id random            a large document's text, valid if a state names it

RESOURCE is a digest of the resource id, NUMBER counts the resource's commits from 1 without gaps. Ids are never part of
a key, so that nothing in them can mean anything, and what stays after a deletion names nobody. States are JSON text,
which costs a server that scans less than fields do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from threadkeep.port import KIB, MISSING, Doc, Scope, Stored, Tail, Thread, ThreadRow, canonical_json

SCHEMA_VERSION: Final = 1

INLINE_BYTES: Final = 16 * KIB
"""Documents up to this size are carried along by every state; larger ones are kept apart, and named by it."""
INLINE_TOTAL: Final = 256 * KIB
"""A state carries at most so much in documents."""

_TIME_OFFSET: Final = 1 << 62
"""Makes times before 1970 positive, so that their digits sort as they do."""

RESOURCE_FIELDS: Final = ("h", "hd", "hu")
"""Of a commit, the state of its resource: key, text, whether it was erased and is not swept yet."""
THREAD_FIELDS: Final = ("s", "sd", "su", "lc", "la")
"""Of a commit, the state of its thread: as for a resource, and the places in lists. A deleted one has no text."""

Document = dict[str, Any]


def resource_key(resource_id: str) -> str:
    """What stands for a resource id: 64 hexadecimal digits."""
    return sha256(resource_id.encode()).hexdigest()


def bucket_of(resource_id: str, buckets: int) -> int:
    """Which of so many collections has a resource's commits: from 0 on."""
    return int(resource_key(resource_id)[:8], 16) % buckets


def thread_key(resource: str, thread_id: str) -> str:
    """What stands for a thread, given the key of its resource, whose length is fixed."""
    return sha256(f"{resource}/{thread_id}".encode()).hexdigest()


def scope_keys(scope: Scope) -> tuple[str, str]:
    """What stands for a scope's resource and thread; "" for the thread where the scope is a resource."""
    resource = resource_key(scope.resource_id)
    if isinstance(scope, Thread):
        return resource, thread_key(resource, scope.thread_id)
    return resource, ""


def record_key(thread: str, record_id: str) -> str:
    """What stands for a record's id in a thread, given the thread's key, whose length is fixed."""
    return sha256(f"{thread}/{record_id}".encode()).hexdigest()


def commit_id(resource: str, number: int) -> str:
    """The `_id` of a resource's commit. As text they sort by number."""
    return f"{resource}/{number:016x}"


def number_of(commit: Document) -> int:
    """A commit's number."""
    _, _, number = str(commit["_id"]).rpartition("/")
    return int(number, 16)


def list_key(resource: str, at: int, thread_id: str) -> str:
    """A place in a resource's list of threads. As text, places sort by time, then by the id's code points."""
    # UTF-8 sorts as its code points do, and its hexadecimal digits as they do, whatever a server's order of text is.
    return f"{resource}{at + _TIME_OFFSET:016x}{thread_id.encode().hex()}"


def registry_id(resource_id: str, generation: int) -> str:
    """The `_id` of a resource in the list of all. A slash sorts before all digits, so ids sort by code point."""
    return f"{resource_id.encode().hex()}/{generation:016x}"


@dataclass(frozen=True, slots=True)
class Kept:
    """A document in a state: with its text, or with the `_id` where that lies."""

    version: int
    body: str | None
    place: str | None = None


Docs = dict[str, Kept]


def _write_docs(docs: Docs) -> list[Any]:
    return [[slot, doc.version, doc.body, doc.place] for slot, doc in docs.items()]


def _read_docs(written: list[Any]) -> Docs:
    return {slot: Kept(version, body, place) for slot, version, body, place in written}


@dataclass(frozen=True, slots=True)
class ResourceState:
    """A resource after a commit. Number 0 is one that never had any."""

    key: str
    number: int = 0
    generation: int = 0
    """The number of the commit that emptied it last."""
    floor: int = 0
    """The number of the commit that erased it last. States of threads up to here are void."""
    threads: int = 0
    docs: Docs = field(default_factory=dict)
    unswept: bool = False
    """It was erased, and what it held may still lie about."""

    @property
    def is_empty(self) -> bool:
        return not self.threads and not self.docs

    def write(self) -> Document:
        """The fields of a commit that carries it."""
        written = [self.generation, self.floor, self.threads, _write_docs(self.docs)]
        fields: Document = {"h": self.key, "hd": canonical_json(written, "the state of a resource")}
        return {**fields, "hu": True} if self.unswept else fields


def read_resource(commit: Document) -> ResourceState:
    """The state of the resource that a commit carries."""
    generation, floor, threads, docs = json.loads(commit["hd"])
    return ResourceState(
        commit["h"], number_of(commit), generation, floor, threads, _read_docs(docs), bool(commit.get("hu"))
    )


@dataclass(frozen=True, slots=True)
class Cut:
    """A truncation: records of commits before `number`, from `ordinal` on, are dropped, and may still lie about."""

    number: int
    ordinal: int


@dataclass(frozen=True, slots=True)
class ThreadState:
    """A thread after a commit. Number 0 is one of which nothing is known; a deleted one is `gone`."""

    key: str
    number: int = 0
    gone: bool = False
    unswept: bool = False
    """It was deleted, and what it held may still lie about."""
    thread_id: str = ""
    epoch: str = ""
    born: int = 0
    """The number of the commit that created it."""
    created: int = 0
    active: int = 0
    position: int = 0
    """Of its newest record."""
    newest: int = 0
    """The largest position that it ever gave."""
    count: int = 0
    """How many records it has; they have the ordinals from 0 on."""
    largest: int = 0
    """The bytes of the largest body that it ever had."""
    docs: Docs = field(default_factory=dict)
    cut: Cut | None = None

    @property
    def exists(self) -> bool:
        return self.number > 0 and not self.gone

    @property
    def tail(self) -> Tail:
        return Tail(self.epoch, self.position) if self.exists else MISSING

    def holds(self, record: Document) -> bool:
        """Whether a record can be one of its own, by its place; whether its commit happened is another question."""
        ordinal, number = int(record["o"]), int(record["w"])
        dropped = self.cut is not None and ordinal >= self.cut.ordinal and number < self.cut.number
        return self.exists and self.born <= number <= self.number and ordinal < self.count and not dropped

    def write(self, resource: str) -> Document:
        """The fields of a commit that carries it."""
        if self.gone:
            return {"s": self.key, "su": True} if self.unswept else {"s": self.key}
        written = {
            "thread_id": self.thread_id,
            "epoch": self.epoch,
            "born": self.born,
            "created": self.created,
            "active": self.active,
            "position": self.position,
            "newest": self.newest,
            "count": self.count,
            "largest": self.largest,
        }
        cut = None if self.cut is None else [self.cut.number, self.cut.ordinal]
        return {
            "s": self.key,
            "sd": canonical_json([written, _write_docs(self.docs), cut], "the state of a thread"),
            "lc": list_key(resource, self.created, self.thread_id),
            "la": list_key(resource, self.active, self.thread_id),
        }


def read_thread(commit: Document) -> ThreadState:
    """The state of the thread that a commit carries."""
    if "sd" not in commit:
        return ThreadState(commit["s"], number_of(commit), gone=True, unswept=bool(commit.get("su")))
    written, docs, cut = json.loads(commit["sd"])
    return ThreadState(
        commit["s"], number_of(commit), **written, docs=_read_docs(docs), cut=None if cut is None else Cut(*cut)
    )


def newest_resource(key: str, commits: Sequence[Document]) -> ResourceState:
    """The newest state of a resource among commits that were read."""
    newest = max((commit for commit in commits if commit.get("h") == key), key=number_of, default=None)
    return ResourceState(key) if newest is None else read_resource(newest)


def newest_thread(key: str, commits: Sequence[Document], resource: ResourceState) -> ThreadState:
    """The newest state of a thread among commits that were read; void where its resource was erased since."""
    newest = max((commit for commit in commits if commit.get("s") == key), key=number_of, default=None)
    if newest is None or number_of(newest) <= resource.floor:
        return ThreadState(key)
    return read_thread(newest)


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at a resource and a thread found: their newest states, and the documents that it read."""

    resource: ResourceState
    thread: ThreadState
    """Of the key "" where the look was at a resource alone."""
    documents: Sequence[Document]

    @property
    def records(self) -> list[Document]:
        """Those documents that are records, and may be the thread's own."""
        return possible_records(self.documents, self.thread)


def read_found(documents: Sequence[Document], resource: str, thread: str) -> Found:
    """What documents say about the resource and the thread of two keys."""
    newest = newest_resource(resource, documents)
    return Found(newest, newest_thread(thread, documents, newest), documents)


def possible_records(documents: Sequence[Document], thread: ThreadState) -> list[Document]:
    """Those documents that are records, and may be the thread's own: whether they happened is another question."""
    return [each for each in documents if each.get("t") == thread.key and "p" in each and thread.holds(each)]


def happened(records: Sequence[Document], resource: str, commits: Sequence[Document]) -> list[Document]:
    """Those records whose commits are among some that were read."""
    nonces = {commit["_id"]: commit["z"] for commit in commits}
    return [record for record in records if nonces.get(commit_of(record, resource)) == record["z"]]


def commit_of(record: Document, resource: str) -> str:
    """The `_id` of the commit that a record belongs to, if that happened."""
    return commit_id(resource, int(record["w"]))


def stored(record: Document) -> Stored:
    """A record as the port has it."""
    return Stored(int(record["p"]), int(record["at"]), record["id"], record["digest"], record["body"])


def thread_row(state: ThreadState, docs: dict[str, Doc]) -> ThreadRow:
    """A thread in a list, with documents that were asked for."""
    return ThreadRow(state.thread_id, state.tail, state.created, state.active, docs)
