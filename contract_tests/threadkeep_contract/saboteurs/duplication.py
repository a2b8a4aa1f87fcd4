"""Faults that law 2, no duplication, must find."""

from __future__ import annotations

import json
import unicodedata
from typing import Final

from threadkeep.errors import MessageConflict, TailMoved
from threadkeep.port import Changes, Record, Stored, Thread
from threadkeep_contract.saboteurs.base import DictStore, Row

RECENT: Final = 500
"""Records among which the forgetful store looks for a repeat."""

IN_LIST: Final = 50
"""Ids in a query of the imagined backend."""


class RepeatStoredAgain(DictStore):
    """Nothing looks for known ids: a repeated append stores its records again."""

    fault = "repeat-stored-again"
    caught_by = 2
    seen_in = "OpenAI Agents sessions, LangGraph (three runs, three copies)"

    def known(self, thread: Thread, record: Record, drop_after: int | None = None) -> Stored | None:
        return None


class OnlyNewestRecordKnown(DictStore):
    """A repeat is recognised only while the record is the newest of its thread."""

    fault = "only-newest-record-known"
    caught_by = 2
    seen_in = "clients that compare with the last stored message only"

    def known(self, thread: Thread, record: Record, drop_after: int | None = None) -> Stored | None:
        stored = super().known(thread, record, drop_after)
        return stored if stored in self.log(thread)[-1:] else None


class KnownToWriterOnly(DictStore):
    """Each store object remembers the ids that it wrote itself; a second one stores them again."""

    fault = "known-to-writer-only"
    caught_by = 2
    seen_in = "session caches of one worker: Strands file and S3 sessions"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.written: set[tuple[Thread, str]] = set()

    def known(self, thread: Thread, record: Record, drop_after: int | None = None) -> Stored | None:
        return super().known(thread, record, drop_after) if (thread, record.id) in self.written else None

    def add(self, thread: Thread, row: Row, record: Record, at: int) -> int:
        position = super().add(thread, row, record, at)
        self.written.add((thread, record.id))
        return position


class RepeatIsError(DictStore):
    """Appending a record that is there, equal, is a conflict."""

    fault = "repeat-is-error"
    caught_by = 2
    seen_in = "ADK: an error on one backend, a no-op on another"

    def check_records(self, thread: Thread, changes: Changes) -> None:
        for record in changes.append:
            if self.known(thread, record, changes.drop_after) is not None:
                raise MessageConflict(record.id)


class RepeatMovesToEnd(DictStore):
    """A repeated record is taken out of its place and appended anew."""

    fault = "repeat-moves-to-end"
    caught_by = 2
    seen_in = "INSERT OR REPLACE with a growing row id"

    def add(self, thread: Thread, row: Row, record: Record, at: int) -> int:
        stored = self.known(thread, record)
        if stored is not None:
            self.log(thread).remove(stored)
        return super().add(thread, row, record, at)


class RepeatGetsAnotherPosition(DictStore):
    """A repeated record stays as it is, but the receipt gives the thread's newest position for it."""

    fault = "repeat-gets-another-position"
    caught_by = 2
    seen_in = "ON CONFLICT DO NOTHING, followed by the last row id"

    def add(self, thread: Thread, row: Row, record: Record, at: int) -> int:
        super().add(thread, row, record, at)
        return self.log(thread)[-1].position


class LastWriteWins(DictStore):
    """The same id with another body overwrites what was stored."""

    fault = "last-write-wins"
    caught_by = 2
    seen_in = "Mastra, and every upsert by message id"

    def check_records(self, thread: Thread, changes: Changes) -> None:
        pass

    def add(self, thread: Thread, row: Row, record: Record, at: int) -> int:
        log, stored = self.log(thread), self.known(thread, record)
        if stored is not None:
            log[log.index(stored)] = stored._replace(digest=record.digest, body=record.body)
        return super().add(thread, row, record, at)


class OtherBodyIgnored(DictStore):
    """The same id with another body is taken for a repeat: the new body is dropped without a word."""

    fault = "other-body-ignored"
    caught_by = 2
    seen_in = "clients of AI SDK continuation: id seen, message dropped although it had grown"

    def check_records(self, thread: Thread, changes: Changes) -> None:
        pass


class DeduplicatedByContent(DictStore):
    """Two messages that say the same are taken for one, whatever their ids are."""

    fault = "deduplicated-by-content"
    caught_by = 2
    seen_in = 'Agent Framework 1.23: the second real "yes" was dropped'

    def add(self, thread: Thread, row: Row, record: Record, at: int) -> int:
        content = _content(record.body)
        for stored in self.log(thread):
            if _content(stored.body) == content:
                return stored.position
        return super().add(thread, row, record, at)


class ConflictWritesRest(DictStore):
    """A conflict is found while writing: the records before it are stored all the same."""

    fault = "conflict-writes-the-rest"
    caught_by = 2
    seen_in = "loops of single inserts without a transaction"

    def check_records(self, thread: Thread, changes: Changes) -> None:
        pass

    def add(self, thread: Thread, row: Row, record: Record, at: int) -> int:
        stored = self.known(thread, record)
        if stored is not None and stored.digest != record.digest:
            raise MessageConflict(record.id)
        return super().add(thread, row, record, at)


class MixedBatchTakenForRepeat(DictStore):
    """An append of which one record is known is taken for a repeat as a whole: the new ones are dropped."""

    fault = "mixed-batch-taken-for-repeat"
    caught_by = 2
    seen_in = "idempotency keys taken from the first message of a batch"

    def write_log(self, thread: Thread, row: Row, changes: Changes) -> list[int]:
        known = [self.known(thread, record) for record in changes.append]
        if changes.drop_after is None and any(known):
            return [stored.position if stored else row.newest for stored in known]
        return super().write_log(thread, row, changes)


class RepeatRefusedByOwnTail(DictStore):
    """A conditional append that happened moves the tail, so that its own repetition is refused."""

    fault = "repeat-refused-by-own-tail"
    caught_by = 2
    seen_in = "compare-and-set appends without an idempotency check, such as event stores"

    def check_tail(self, thread: Thread, changes: Changes) -> None:
        if changes.if_tail is not None and not self.same_tail(thread, changes.if_tail):
            raise TailMoved(*self.tail(thread))


def _content(body: str) -> str:
    """A message without its id."""
    value = json.loads(body)
    if isinstance(value, dict):
        value.pop("id", None)
    return json.dumps(value, sort_keys=True)


class RepeatKnownAmongNewest(DictStore):
    """A repeat is recognised among the newest 500 records of its thread, and stored again where it is older."""

    fault = "repeat-known-among-newest-500"
    caught_by = 2
    seen_in = "lookups of known ids with a LIMIT; Bloom filters and recent-id sets of a fixed size"

    def known(self, thread: Thread, record: Record, drop_after: int | None = None) -> Stored | None:
        for stored in self.log(thread)[-RECENT:]:
            if stored.id == record.id and (drop_after is None or stored.position <= drop_after):
                return stored
        return None


class KnownIdsAskedForFirstFifty(DictStore):
    """Which records of an append are known is asked with a list of 50 ids: those behind are stored again."""

    fault = "known-ids-asked-for-first-50"
    caught_by = 2
    seen_in = "IN lists and BatchGetItem cut to what a backend takes at once"

    def write_log(self, thread: Thread, row: Row, changes: Changes) -> list[int]:
        if changes.drop_after is not None:
            self.drop(thread, changes.drop_after)
        asked = [self.add(thread, row, record, changes.at) for record in changes.append[:IN_LIST]]
        return asked + [self.add_unasked(thread, row, record, changes.at) for record in changes.append[IN_LIST:]]

    def add_unasked(self, thread: Thread, row: Row, record: Record, at: int) -> int:
        position = self.next_position(thread, row, at)
        row.newest = max(row.newest, position)
        self.store(thread, Stored(position, at, record.id, record.digest, record.body))
        return position


class DigestsComparedByPrefix(DictStore):
    """Digests are compared by their first eight characters: another body with such a digest is taken for a repeat."""

    fault = "digests-compared-by-prefix"
    caught_by = 2
    seen_in = "short hashes, as of Git, kept in place of whole ones"

    def check_records(self, thread: Thread, changes: Changes) -> None:
        for record in changes.append:
            stored = self.known(thread, record, changes.drop_after)
            if stored is not None and stored.digest[:8] != record.digest[:8]:
                raise MessageConflict(record.id)


class RecordIdsCompared(DictStore):
    """Records are known by what `compared` makes of their ids."""

    def compared(self, record_id: str) -> str:
        raise NotImplementedError

    def known(self, thread: Thread, record: Record, drop_after: int | None = None) -> Stored | None:
        wanted = self.compared(record.id)
        for stored in self.log(thread):
            if self.compared(stored.id) == wanted and (drop_after is None or stored.position <= drop_after):
                return stored
        return None


class RecordIdsWithoutCase(RecordIdsCompared):
    """The unique index of record ids ignores case, though threads and resources are told apart."""

    fault = "record-ids-without-case"
    caught_by = 2
    seen_in = "a unique index under MySQL's default collation"

    def compared(self, record_id: str) -> str:
        return record_id.casefold()


class RecordIdsPadded(RecordIdsCompared):
    """Record ids are compared as if the shorter one were padded with spaces: `m` and `m ` are one."""

    fault = "record-ids-padded-with-spaces"
    caught_by = 2
    seen_in = "CHAR columns and PAD SPACE collations of MySQL and SQL Server"

    def compared(self, record_id: str) -> str:
        return record_id.rstrip(" ")


class RecordIdsNormalised(RecordIdsCompared):
    """Record ids are brought into Unicode normal form C before they are compared."""

    fault = "record-ids-normalised"
    caught_by = 2
    seen_in = "validators that normalise text before it reaches a unique index"

    def compared(self, record_id: str) -> str:
        return unicodedata.normalize("NFC", record_id)
