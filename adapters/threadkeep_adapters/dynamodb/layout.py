"""Where things are in the table, and how a head, a record and a document are written.

One table with a binary partition key `pk` and a binary sort key `sk`. What is in brackets is hashed.

    schema                    0                  v: the schema's version
    T [resource, thread]      H                  the thread's head: all about it that changes
    T [resource, thread]      L position         a pack of up to three records, or one piece of a large record
    T [resource, thread]      I [record id]      where a record is
    T [resource, thread]      D [slot]           a document that is too large for the head
    R [resource]              H                  the resource's head
    R [resource]              D [slot]           a document that is too large for the head
    R [resource]              C moment, thread   a thread, by creation
    R [resource]              A moment, thread   the same, by last activity
    R [resource]              G T [...]          a thread that was deleted and is still to be swept
    X                         resource           a resource

Every change of a thread changes its head, on the condition that nobody has changed it since: `m`, the mark, is a new
random token each time. So the head is the lock, the snapshot and the place where the outcome of a lost call is read.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeAlias

from threadkeep.port import MISSING, Doc, Scope, Stored, Tail, Thread

Value: TypeAlias = dict[str, Any]
Item: TypeAlias = dict[str, Value]
"""An item or key as botocore takes and gives it: {"name": {"B": b"..."}}."""

Range: TypeAlias = tuple[int, int]
"""Positions from the first to the second, both taken in."""

SCHEMA: Final = 1
SCHEMA_KEY: Final[Item] = {"pk": {"B": b"schema"}, "sk": {"B": b"0"}}

HEAD: Final = b"H"
GONE: Final = b"G"
REGISTRY: Final = b"X"
"""The partition of the list of resources. It is written once in a resource's life."""

PACK: Final = 3
"""Records in one item, at most: a window then reads at most two records at each end that it was not asked for."""
PIECE: Final = 350_000
"""Bytes of records in one item, at most; an item may have 400 KB with everything."""
INLINE: Final = 1024
"""Bytes of a document that is kept in the head, at most: one unit of writing."""

LEAST_MOMENT: Final = -(10**18)
MOST_MOMENT: Final = 10**18
"""Below and above every time that a datetime can say, in microseconds since 1970."""


def _hash(*parts: str) -> bytes:
    """A hash of a list of texts, each with its length before it, so that no two lists are written alike."""
    digest = sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(4, "big") + data)
    return digest.digest()


def key(pk: bytes, sk: bytes) -> Item:
    """The key of an item."""
    return {"pk": {"B": pk}, "sk": {"B": sk}}


def thread_partition(resource_id: str, thread_id: str) -> bytes:
    """The partition key of a thread. A hash, since it outlives the thread until all is swept."""
    return b"T" + _hash(resource_id, thread_id)


def resource_partition(resource_id: str) -> bytes:
    """The partition key of a resource's own items."""
    return b"R" + _hash(resource_id)


def partitions(scope: Scope) -> tuple[bytes, bytes]:
    """The partition keys of a scope's thread, or b"" for a resource, and of its resource."""
    thread = thread_partition(scope.resource_id, scope.thread_id) if isinstance(scope, Thread) else b""
    return thread, resource_partition(scope.resource_id)


def registry_key(resource_id: str) -> Item:
    """The key of a resource in the list of resources."""
    return key(REGISTRY, resource_id.encode())


def doc_sort(slot: str) -> bytes:
    """The sort key of a document."""
    return b"D" + _hash(slot)[:20]


def id_hash(record_id: str) -> bytes:
    """What stands for a record's id in keys: 160 bits, of which no two ids can be made to have the same."""
    return _hash(record_id)[:20]


def id_sort(hashed: bytes) -> bytes:
    """The sort key of a record's id."""
    return b"I" + hashed


def id_key(pk: bytes, record_id: str) -> Item:
    """The key of a record's id."""
    return key(pk, id_sort(id_hash(record_id)))


def log_sort(position: int, piece: int = 0) -> bytes:
    """The sort key of a pack by its first position, and of a piece of it."""
    return b"L" + position.to_bytes(8, "big") + piece.to_bytes(2, "big")


def gone_sort(pk: bytes) -> bytes:
    """The sort key, among a resource's items, of a partition that is still to be swept."""
    return GONE + pk


def read_log_sort(item: Item) -> int:
    """The first position of the pack that an item is, or is a piece of."""
    return int.from_bytes(item["sk"]["B"][1:9], "big")


def list_sort(order: str, at: int, thread_id: str) -> bytes:
    """The sort key of a thread in a list: by time, then by code point, which UTF-8 keeps."""
    return (b"C" if order == "created" else b"A") + (at - LEAST_MOMENT).to_bytes(8, "big") + thread_id.encode()


def list_key(resource_pk: bytes, order: str, at: int, thread_id: str) -> Item:
    """The key of a thread in a list of its resource's threads. It is all that its item there says."""
    return key(resource_pk, list_sort(order, at, thread_id))


def read_list_sort(written: bytes) -> tuple[int, str]:
    """Time and thread id of a sort key in a list."""
    return int.from_bytes(written[1:9], "big") + LEAST_MOMENT, written[9:].decode()


def new_mark() -> bytes:
    """A token that was never used."""
    return secrets.token_bytes(16)


class Kept(NamedTuple):
    """A document as its head knows it: with its body, or with None where that is in an item of its own or removed."""

    version: int
    body: str | None
    is_elsewhere: bool = False


class RecordPlace(NamedTuple):
    """Where a record is, and its digest: what is stored under its id."""

    position: int
    digest: str


@dataclass(slots=True)
class Head:
    """A thread's head. With an empty epoch, the thread is missing, or is being removed."""

    mark: bytes = b""
    """Empty where there is no item."""
    is_gone: bool = False
    """The thread was deleted, and what it left behind is still to be swept."""
    epoch: str = ""
    position: int = 0
    newest: int = 0
    """The largest position that this epoch ever gave."""
    created: int = 0
    active: int = 0
    dead: tuple[Range, ...] = ()
    """Positions that were dropped and of which something may still be stored."""
    docs: dict[str, Kept] = field(default_factory=dict)
    pending: dict[bytes, RecordPlace] = field(default_factory=dict)
    """By hash: records for whose ids a commit had no room left in its transaction."""
    frozen: bytes = b""
    """The token of the erasure of its resource for which the thread takes no commit any more."""

    @property
    def tail(self) -> Tail:
        return Tail(self.epoch, self.position) if self.epoch else MISSING

    def is_live(self, position: int) -> bool:
        """Whether a position that was found in the log holds a record of the thread."""
        return position <= self.position and not any(first <= position <= last for first, last in self.dead)

    def place_of(self, record_id: str, written: RecordPlace | None) -> RecordPlace | None:
        """Where a record of the thread is, given what its id's item says; None where it is not in the thread."""
        # What is pending comes first: the id's item may be that of a record that was dropped.
        place = self.pending.get(id_hash(record_id), written) if self.pending else written
        if place is None or not self.is_live(place.position):
            return None
        return place

    def write(self, pk: bytes) -> Item:
        """The item."""
        item = {**key(pk, HEAD), "m": {"B": self.mark}}
        if self.is_gone:
            return {**item, "g": {"N": "1"}}
        state: dict[str, Any] = {"n": self.newest, "c": self.created, "a": self.active, "d": _encode_docs(self.docs)}
        if self.dead:
            state["x"] = self.dead
        if self.pending:
            state["q"] = [[hashed.hex(), *place] for hashed, place in self.pending.items()]
        if self.frozen:
            item["z"] = {"B": self.frozen}
        return {
            **item,
            "e": {"S": self.epoch},
            "p": {"N": str(self.position)},
            "s": {"B": json.dumps(state, ensure_ascii=False, separators=(",", ":")).encode()},
        }


def read_head(item: Item | None) -> Head:
    """A thread's head as it was written."""
    if not item:
        return Head()
    mark = bytes(item["m"]["B"])
    if "g" in item:
        return Head(mark, is_gone=True)
    state = json.loads(item["s"]["B"])
    return Head(
        mark,
        epoch=item["e"]["S"],
        position=int(item["p"]["N"]),
        newest=state["n"],
        created=state["c"],
        active=state["a"],
        dead=tuple((first, last) for first, last in state.get("x", ())),
        docs=_decode_docs(state["d"]),
        pending={bytes.fromhex(hashed): RecordPlace(*place) for hashed, *place in state.get("q", ())},
        frozen=bytes(item["z"]["B"]) if "z" in item else b"",
    )


@dataclass(slots=True)
class ResourceHead:
    """A resource's head: its documents, and how many threads it has."""

    mark: bytes = b""
    """Empty where there is no item."""
    erasure: bytes = b""
    """The token of an erasure that has begun: no thread is made any more, and those that are there are frozen."""
    is_gone: bool = False
    """The resource was erased, and what it left behind is still to be swept."""
    threads: int = 0
    docs: dict[str, Kept] = field(default_factory=dict)

    def write_docs(self) -> bytes:
        """The documents as an attribute."""
        return json.dumps(_encode_docs(self.docs), ensure_ascii=False, separators=(",", ":")).encode()


def read_resource_head(item: Item | None) -> ResourceHead:
    """A resource's head as it was written."""
    if not item:
        return ResourceHead()
    mark, threads = bytes(item["m"]["B"]), int(item["n"]["N"])
    erasure = bytes(item["z"]["B"]) if "z" in item else b""
    if "g" in item:
        return ResourceHead(mark, erasure, is_gone=True, threads=threads)
    return ResourceHead(mark, erasure, threads=threads, docs=_decode_docs(json.loads(item["s"]["B"])))


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads of a thread and of its resource, as they were at one moment. For a resource, the thread's is empty."""

    thread: Head
    resource: ResourceHead

    @property
    def has_docs_elsewhere(self) -> bool:
        """Whether documents are to be read beside the heads."""
        return any(kept.is_elsewhere for docs in (self.thread.docs, self.resource.docs) for kept in docs.values())


def _encode_docs(docs: dict[str, Kept]) -> dict[str, list[Any]]:
    written: dict[str, list[Any]] = {}
    for slot, kept in docs.items():
        written[slot] = [kept.version, kept.body]
        if kept.is_elsewhere:
            written[slot].append(1)
    return written


def _decode_docs(written: dict[str, list[Any]]) -> dict[str, Kept]:
    # What comes after version and body says that the document is elsewhere.
    return {slot: Kept(found[0], found[1], len(found) > 2) for slot, found in written.items()}


def write_doc(pk: bytes, slot: str, doc: Doc) -> Item:
    """The item of a document that is too large for a head."""
    body = (doc.body or "").encode()
    return {
        **key(pk, doc_sort(slot)),
        "v": {"N": str(doc.version)},
        "b": {"B": body},
        "z": {"N": str(len(body))},
    }


@dataclass(slots=True)
class Pack:
    """Records that stand next to each other in the log."""

    before: int
    """The position of the record before the first, 0 for none: with it, a reader sees that nothing is missing."""
    epoch: str
    records: Sequence[Stored]


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a truncation ends: the position of the newest record that stays, and its pack."""

    position: int
    pack: Pack | None


def write_packs(pk: bytes, pack: Pack) -> Iterator[Item]:
    """The items of any number of records that follow each other, as packs of PACK and PIECE."""
    before = pack.before
    for group in _groups(pack.records):
        data = b"".join(group.data)
        pieces = [data[start : start + PIECE] for start in range(0, len(data), PIECE)]
        for number, piece in enumerate(pieces):
            yield {
                **key(pk, log_sort(group.first, number)),
                "e": {"S": pack.epoch},
                "f": {"N": str(before)},
                "k": {"N": str(len(pieces))},
                "b": {"B": piece},
                "z": {"N": str(len(piece))},
            }
        before = group.last


@dataclass(slots=True)
class _Group:
    first: int
    last: int
    data: list[bytes]
    size: int


def _groups(records: Iterable[Stored]) -> list[_Group]:
    groups: list[_Group] = []
    for record in records:
        data = _write_record(record)
        group = groups[-1] if groups else None
        if group is None or len(group.data) == PACK or group.size + len(data) > PIECE:
            groups.append(_Group(record.position, record.position, [data], len(data)))
        else:
            group.last = record.position
            group.data.append(data)
            group.size += len(data)
    return groups


def _write_record(record: Stored) -> bytes:
    parts = (record.id.encode(), record.digest.encode(), record.body.encode())
    sizes = b":".join(b"%d" % len(part) for part in parts)
    return b"%d:%d:%b:%b%b%b" % (record.position, record.at, sizes, *parts)


def _read_records(data: bytes) -> Iterator[Stored]:
    start = 0
    while start < len(data):
        numbers = []
        for _ in range(5):
            end = data.index(b":", start)
            numbers.append(int(data[start:end]))
            start = end + 1
        position, at, *sizes = numbers
        texts = []
        for size in sizes:
            texts.append(data[start : start + size].decode())
            start += size
        yield Stored(position, at, *texts)


def read_packs(items: Iterable[Item]) -> dict[int, Pack]:
    """The packs of items in any order, by first position; one of which a piece is missing is left out."""
    pieces: dict[int, dict[int, Item]] = {}
    for item in items:
        pieces.setdefault(read_log_sort(item), {})[int.from_bytes(item["sk"]["B"][9:11], "big")] = item
    packs = {}
    for first, found in pieces.items():
        count = int(next(iter(found.values()))["k"]["N"])
        if len(found) == count:
            data = b"".join(bytes(found[number]["b"]["B"]) for number in range(count))
            packs[first] = Pack(int(found[0]["f"]["N"]), found[0]["e"]["S"], list(_read_records(data)))
    return packs


def write_id(pk: bytes, hashed: bytes, place: RecordPlace) -> Item:
    """The item of a record's id, given by its hash."""
    return {
        **key(pk, id_sort(hashed)),
        "p": {"N": str(place.position)},
        "d": {"S": place.digest},
    }


def read_id(item: Item) -> RecordPlace:
    """Where a record is, as its id's item says it."""
    return RecordPlace(int(item["p"]["N"]), item["d"]["S"])
