"""Law 10 on stores that compress or encrypt: good ones are accepted, and what one leaves behind is found."""

from __future__ import annotations

import base64
import secrets
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import pytest

from threadkeep.port import (
    Clause,
    Doc,
    Put,
    Record,
    Scope,
    Store,
    Stored,
    Thread,
    Window,
    hookimpl,
    register,
)
from threadkeep_contract.report import Finding, judge
from threadkeep_contract.saboteurs import FileStore

SCAN = "test_no_trace_is_left"


class _Packed(FileStore):
    """A store in one SQLite file whose bodies cannot be read in the file."""

    key: ClassVar[bytes] = b"a key that is kept elsewhere"

    @classmethod
    def pack(cls, text: str) -> str:
        raise NotImplementedError

    @classmethod
    def unpack(cls, packed: str) -> str:
        raise NotImplementedError

    def docs(self, connection: sqlite3.Connection, scope: Scope) -> dict[str, Doc]:
        found = super().docs(connection, scope)
        return {
            slot: Doc(doc.version, None if doc.body is None else self.unpack(doc.body)) for slot, doc in found.items()
        }

    def window(self, connection: sqlite3.Connection, thread: Thread, window: Window) -> list[Stored]:
        found = super().window(connection, thread, window)
        return [stored._replace(body=self.unpack(stored.body)) for stored in found]

    def add(self, connection: sqlite3.Connection, thread: Thread, record: Record, at: int) -> int:
        return super().add(connection, thread, record._replace(body=self.pack(record.body)), at)

    def put(self, connection: sqlite3.Connection, scope: Scope, puts: Sequence[Put]) -> list[int]:
        packed = [put if put.body is None else put._replace(body=self.pack(put.body)) for put in puts]
        return super().put(connection, scope, packed)


class _Compressing(_Packed):
    """Bodies are compressed."""

    @classmethod
    def pack(cls, text: str) -> str:
        return base64.b64encode(zlib.compress(text.encode())).decode()

    @classmethod
    def unpack(cls, packed: str) -> str:
        return zlib.decompress(base64.b64decode(packed)).decode()


class _Encrypting(_Packed):
    """Bodies are encrypted: a nonce, and the text under a keystream."""

    @classmethod
    def pack(cls, text: str) -> str:
        nonce = secrets.token_bytes(16)
        return base64.b64encode(nonce + cls.under_keystream(nonce, text.encode())).decode()

    @classmethod
    def unpack(cls, packed: str) -> str:
        sealed = base64.b64decode(packed)
        return cls.under_keystream(sealed[:16], sealed[16:]).decode()

    @classmethod
    def under_keystream(cls, nonce: bytes, text: bytes) -> bytes:
        blocks = -(-len(text) // 32)
        stream = b"".join(sha256(cls.key + nonce + number.to_bytes(8)).digest() for number in range(blocks))
        return (int.from_bytes(text) ^ int.from_bytes(stream[: len(text)])).to_bytes(len(text))


class _Decoding(_Packed):
    """The scan shows the file, and every text in every table of it unpacked."""

    @classmethod
    def scan(cls, url: str, path: str) -> Iterator[bytes]:
        yield from super().scan(url, path)
        with closing(sqlite3.connect(path)) as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                for row in connection.execute(f"SELECT * FROM {table}"):
                    yield from (cls.shown(cell) for cell in row if isinstance(cell, str))

    @classmethod
    def shown(cls, cell: str) -> bytes:
        try:
            return cls.unpack(cell).encode()
        except (ValueError, zlib.error):
            # An id, which is not packed.
            return cell.encode()


class _CompressingDecoded(_Decoding, _Compressing): ...


class _EncryptingDecoded(_Decoding, _Encrypting): ...


class _EncryptingDeclared(_Encrypting):
    not_offered = {Clause.SCAN: "the key is not in the file"}


class _Attic(FileStore):
    """A deletion leaves the records behind, where no verb of the store looks."""

    def set_up(self, connection: sqlite3.Connection) -> None:
        super().set_up(connection)
        connection.execute("CREATE TABLE IF NOT EXISTS attic AS SELECT * FROM records")

    async def delete(self, scope: Scope) -> None:
        with self.transaction("IMMEDIATE") as connection:
            of = (scope.resource_id, scope.thread_id if isinstance(scope, Thread) else "%")
            connection.execute("INSERT INTO attic SELECT * FROM records WHERE resource_id = ? AND thread_id LIKE ?", of)
        await super().delete(scope)


class _BodiesInAttic(_Attic):
    """Of what is left behind only the bodies can be told; the ids are blanked."""

    async def delete(self, scope: Scope) -> None:
        await super().delete(scope)
        with self.transaction("IMMEDIATE") as connection:
            connection.execute("UPDATE attic SET resource_id = '', thread_id = '', id = ''")


class _CompressingLeavesBodies(_BodiesInAttic, _Decoding, _Compressing): ...


class _EncryptingLeavesIds(_Attic, _EncryptingDeclared): ...


class _Plugin:
    def __init__(self, kind: type[FileStore]) -> None:
        self.kind = kind

    @hookimpl
    def open_store(self, url: str) -> Store:
        return self.kind(url, url.partition("://")[2])

    @hookimpl
    def scan_backend(self, url: str) -> Iterator[bytes]:
        return self.kind.scan(url, url.partition("://")[2])


def judged(kind: type[FileStore], tmp_path: Path, law: int = 10) -> dict[str, Finding]:
    """What came of each check of a law."""
    register("packed", _Plugin(kind))
    report = judge(f"packed://{tmp_path}/store.db", laws=[law], profile="brief")
    return {finding.check: finding for finding in report.law(law).findings}


@pytest.mark.parametrize("law", [7, 10])
@pytest.mark.parametrize("kind", [_CompressingDecoded, _EncryptingDecoded])
def test_a_good_store_whose_scan_decodes_is_accepted(kind: type[FileStore], law: int, tmp_path: Path) -> None:
    found = judged(kind, tmp_path, law)
    assert {finding.status for finding in found.values()} == {"kept"}, found


def test_a_good_store_that_says_why_its_scan_cannot_see_is_accepted(tmp_path: Path) -> None:
    found = judged(_EncryptingDeclared, tmp_path)
    scan = found.pop(SCAN)
    assert scan.status == "not offered"
    assert scan.not_offered == {"scan of memory, metadata, text, title": "the key is not in the file"}
    assert {finding.status for finding in found.values()} == {"kept"}


@pytest.mark.parametrize("kind", [_Compressing, _Encrypting])
def test_what_a_scan_cannot_see_is_not_judged_and_the_rest_of_the_law_is(kind: type[FileStore], tmp_path: Path) -> None:
    found = judged(kind, tmp_path)
    scan = found.pop(SCAN)
    assert (scan.status, scan.seen) == (
        "not judged",
        "before the deletion it does not find memory, metadata, text, title",
    )
    assert "Let `scan_backend` decode" in scan.promise
    assert {finding.status for finding in found.values()} == {"kept"}


@pytest.mark.parametrize(
    ("kind", "left"),
    [(_CompressingLeavesBodies, ["text"]), (_EncryptingLeavesIds, ["message", "thread"])],
)
def test_what_is_left_behind_is_found(kind: type[FileStore], left: list[str], tmp_path: Path) -> None:
    scan = judged(kind, tmp_path)[SCAN]
    assert (scan.status, scan.promise, scan.seen) == ("broken", "no trace after the deletion", repr(left))
