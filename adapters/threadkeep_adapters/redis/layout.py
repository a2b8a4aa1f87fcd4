"""Where things are in Redis, and how a record, a document and a moment are written.

Keys, with the default prefix; what is in braces is the hash tag, so that all keys of a resource are in one slot:

    threadkeep:schema                  string: the schema's version
    threadkeep:resources               sorted set: the resource ids, or in a cluster the entries of `registry`
    threadkeep:{RESOURCE}:docs         hash: slot -> document
    threadkeep:{RESOURCE}:created      sorted set: moment and id of each thread, by bytes
    threadkeep:{RESOURCE}:active       the same, with the moment of the last commit
    threadkeep:{RESOURCE}:registered   string, in a cluster: the registration of `registry`
    threadkeep:{RESOURCE}:thread:THREAD   hash: epoch, position, newest, created, active, and `:` + slot -> document
    threadkeep:{RESOURCE}:log:THREAD      sorted set: record, by position
    threadkeep:{RESOURCE}:ids:THREAD      hash: id -> position:digest

A document is `VERSION:BODY`, without the colon where it was removed; a record is
`POSITION:AT:SIZE OF ID:SIZE OF DIGEST:` and then id, digest and body. The scripts read and write the same.
"""

from __future__ import annotations

from typing import Final

from threadkeep.port import Doc, Record, Stored, escape, hash_tag

_LEAST_MOMENT: Final = -(10**18)
"""Below every time that a datetime can say, in microseconds since 1970."""


class ResourceKeys:
    """The keys of a resource and of its threads."""

    __slots__ = ("active", "base", "created", "docs", "registration")

    def __init__(self, prefix: str, resource_id: str) -> None:
        self.base = f"{escape(prefix)}:{hash_tag(resource_id)}:".encode()
        self.docs = self.base + b"docs"
        self.created = self.base + b"created"
        self.active = self.base + b"active"
        self.registration = self.base + b"registered"

    def of_thread(self, thread_id: str) -> tuple[bytes, bytes, bytes]:
        """The keys of a thread: its fields, its log and its ids."""
        name = escape(thread_id).encode()
        return self.base + b"thread:" + name, self.base + b"log:" + name, self.base + b"ids:" + name


def schema_key(prefix: str) -> bytes:
    """The key of the schema's version."""
    return f"{escape(prefix)}:schema".encode()


def index_key(prefix: str) -> bytes:
    """The key of the list of resources."""
    return f"{escape(prefix)}:resources".encode()


def moment(at: int) -> str:
    """A time in microseconds as 19 digits, which sort as the times do; Lua's numbers are not exact that far."""
    return f"{at - _LEAST_MOMENT:019d}"


def time_of(written: bytes) -> int:
    """The time that a moment was made of."""
    return int(written) + _LEAST_MOMENT


def write_record(at: int, record: Record) -> bytes:
    """What is stored of a record behind its position."""
    record_id, digest = record.id.encode(), record.digest.encode()
    return b"%d:%d:%d:%b%b%b" % (at, len(record_id), len(digest), record_id, digest, record.body.encode())


def read_record(written: bytes) -> Stored:
    """A record in its place."""
    position, at, id_size, digest_size, rest = written.split(b":", 4)
    end_of_id = int(id_size)
    end_of_digest = end_of_id + int(digest_size)
    text = rest.decode()
    if len(text) == len(rest):
        return Stored(int(position), int(at), text[:end_of_id], text[end_of_id:end_of_digest], text[end_of_digest:])
    return Stored(
        int(position),
        int(at),
        rest[:end_of_id].decode(),
        rest[end_of_id:end_of_digest].decode(),
        rest[end_of_digest:].decode(),
    )


def write_body(body: str | None) -> str:
    """What is stored of a document behind its version."""
    return "" if body is None else f":{body}"


def read_doc(written: bytes) -> Doc:
    """A document."""
    version, colon, body = written.partition(b":")
    return Doc(int(version), body.decode() if colon else None)
