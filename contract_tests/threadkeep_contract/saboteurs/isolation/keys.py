"""Faults that law 1 must find one call at a time: two scopes that are kept as one, or found as one another."""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from typing import ClassVar

from threadkeep.errors import TailMoved
from threadkeep.port import Changes, Order, Record, Resource, Scope, Snapshot, Stored, Thread, Window
from threadkeep_contract.saboteurs.base import DictStore, Key, Row


class OwnerMissingFromKey(DictStore):
    """Threads, records and documents are keyed by the thread id alone: two resources share them."""

    fault = "owner-missing-from-key"
    caught_by = 1
    seen_in = "OpenAI Agents SQLite sessions, LangChain, LlamaIndex, Strands sessions"

    def ids(self, scope: Scope) -> Key:
        return ("", scope.thread_id) if isinstance(scope, Thread) else (scope.resource_id,)


class OwnerMissingOnRecords(DictStore):
    """The thread's row is kept per resource, but its records are found by the thread id alone."""

    fault = "owner-missing-on-records"
    caught_by = 1
    seen_in = "Agno 3.1 runs"

    def log_key(self, thread: Thread) -> Key:
        return ("log", thread.thread_id)


class OwnerMissingOnDocuments(DictStore):
    """The thread's row and records are kept per resource, but its documents are found by the thread id alone."""

    fault = "owner-missing-on-documents"
    caught_by = 1
    seen_in = "working memory tables keyed by thread id, as Agno 3.1 keys runs"

    def docs_key(self, scope: Scope) -> Key:
        return ("docs", "", scope.thread_id) if isinstance(scope, Thread) else super().docs_key(scope)


class OwnerMissingInSecondQuery(DictStore):
    """The list by creation asks for the owner; the query for the other order forgot to."""

    fault = "owner-missing-in-second-query"
    caught_by = 1
    seen_in = "Mastra PR #14237: a branch in which scoping was off"

    def listed(self, resource: Resource, order: Order) -> list[Row]:
        return self.rows() if order == "active" else super().listed(resource, order)


class ThreadIdUniqueAcrossResources(DictStore):
    """The thread id is the primary key of the table, so the second resource cannot have a thread of that id."""

    fault = "thread-id-unique-across-resources"
    caught_by = 1
    seen_in = "thread tables with a global primary key: Mastra, Agno"

    def born(self, thread: Thread, changes: Changes) -> Row:
        if any(row.thread_id == thread.thread_id for row in self.rows()):
            raise KeyError("UNIQUE constraint failed: threads.thread_id")
        return super().born(thread, changes)


class JoinedKeys(DictStore):
    """Keys are made by joining the ids with a separator that ids may contain."""

    separator: ClassVar[str]

    def ids(self, scope: Scope) -> Key:
        joined = self.separator.join(super().ids(scope))
        return ("", joined) if isinstance(scope, Thread) else (joined,)


class KeysJoinedWithColon(JoinedKeys):
    """The ids of a key are joined with a colon: `a` with `b:c`, and `a:b` with `c`, have one key."""

    fault = "keys-joined-with-colon"
    caught_by = 1
    seen_in = "OpenAI RedisSession, langgraph-checkpoint-redis"
    separator = ":"


class KeysJoinedWithSlash(JoinedKeys):
    """The ids of a key are joined with a slash: `a` with `b/c`, and `a/b` with `c`, have one key."""

    fault = "keys-joined-with-slash"
    caught_by = 1
    seen_in = "object and file stores that use ids as path segments"
    separator = "/"


class KeysJoinedWithHash(JoinedKeys):
    """The ids of a key are joined with a hash sign: `a` with `b#c`, and `a#b` with `c`, have one key."""

    fault = "keys-joined-with-hash"
    caught_by = 1
    seen_in = "single-table designs on DynamoDB"
    separator = "#"


class KeysJoinedWithPipe(JoinedKeys):
    """The ids of a key are joined with a pipe: `a` with `b|c`, and `a|b` with `c`, have one key."""

    fault = "keys-joined-with-pipe"
    caught_by = 1
    seen_in = "composite keys of caches and single-table designs"
    separator = "|"


class KeysJoinedWithUnitSeparator(JoinedKeys):
    """The ids of a key are joined with U+001F, on the assumption that no id contains it."""

    fault = "keys-joined-with-unit-separator"
    caught_by = 1
    seen_in = "composite keys joined with a control character"
    separator = "\x1f"


class KeysJoinedWithDot(JoinedKeys):
    """A dot in an id is a step in a path, as in `threads.a.b`: `a` with `b.c`, and `a.b` with `c`, have one key."""

    fault = "keys-joined-with-dot"
    caught_by = 1
    seen_in = "MongoDB field paths, NATS subjects"
    separator = "."


class KeyOfAnotherThread(DictStore):
    """The log of thread `x` lies under the key `x:messages`, where the row of a thread of that id lies as well."""

    fault = "key-of-another-thread"
    caught_by = 1
    seen_in = "OpenAI RedisSession 0.24"

    def row_key(self, thread: Thread) -> Key:
        return (thread.resource_id, thread.thread_id)

    def log_key(self, thread: Thread) -> Key:
        return (thread.resource_id, f"{thread.thread_id}:messages")

    def row(self, thread: Thread) -> Row | None:
        row = self.values.get(self.row_key(thread))
        if row is not None and not isinstance(row, Row):
            raise TypeError("WRONGTYPE operation against a key holding the wrong kind of value")
        return row

    def log(self, thread: Thread) -> list[Stored]:
        log = self.values.get(self.log_key(thread), [])
        if not isinstance(log, list):
            raise TypeError("WRONGTYPE operation against a key holding the wrong kind of value")
        return log


class PrefixMatchInLists(DictStore):
    """Threads are listed by a prefix of the key: `u1` sees the threads of `u10`."""

    fault = "prefix-match-in-lists"
    caught_by = 1
    seen_in = "LangGraph stores before 2026-07"

    def listed(self, resource: Resource, order: Order) -> list[Row]:
        return [row for row in self.rows() if row.resource_id.startswith(resource.resource_id)]


class PatternMatchInLists(DictStore):
    """Threads are listed by a key pattern in which `*`, `?` and `[a]` of a resource id mean something."""

    fault = "pattern-match-in-lists"
    caught_by = 1
    seen_in = "LlamaIndex Redis: `KEYS` with a pattern"

    def listed(self, resource: Resource, order: Order) -> list[Row]:
        if not set(resource.resource_id) & set("*?["):
            return super().listed(resource, order)
        return [row for row in self.rows() if fnmatch.fnmatchcase(row.resource_id, resource.resource_id)]


class LikeInLookup(DictStore):
    """A thread is looked up with LIKE: `%` and `_` in its id match others of the resource."""

    fault = "like-in-lookup"
    caught_by = 1
    seen_in = "SQL stores that look up with LIKE"

    def ids(self, scope: Scope) -> Key:
        if isinstance(scope, Thread) and ("%" in scope.thread_id or "_" in scope.thread_id):
            pattern = "".join({"%": ".*", "_": "."}.get(char, re.escape(char)) for char in scope.thread_id)
            like = re.compile(pattern, re.DOTALL)
            for row in self.rows():
                if row.resource_id == scope.resource_id and like.fullmatch(row.thread_id):
                    return (row.resource_id, row.thread_id)
        return super().ids(scope)


class RegexInLookup(DictStore):
    """A thread is looked up with a regular expression that was made of its id: `a.b` finds `axb`."""

    fault = "regex-in-lookup"
    caught_by = 1
    seen_in = "MongoDB queries with `$regex`"

    def ids(self, scope: Scope) -> Key:
        if isinstance(scope, Thread) and "." in scope.thread_id:
            pattern = re.compile(".".join(re.escape(piece) for piece in scope.thread_id.split(".")), re.DOTALL)
            for row in self.rows():
                if row.resource_id == scope.resource_id and pattern.fullmatch(row.thread_id):
                    return (row.resource_id, row.thread_id)
        return super().ids(scope)


class ChangedIds(DictStore):
    """Ids are changed on their way into keys, so that two of them become one."""

    def changed(self, value: str) -> str:
        raise NotImplementedError

    def ids(self, scope: Scope) -> Key:
        return tuple(self.changed(value) for value in super().ids(scope))


class IdsTrimmed(ChangedIds):
    """White space around an id is dropped."""

    fault = "ids-trimmed"
    caught_by = 1
    seen_in = "ADK sessions: ` pad `"

    def changed(self, value: str) -> str:
        return value.strip()


class IdsFolded(ChangedIds):
    """Ids are compared without case."""

    fault = "ids-case-folded"
    caught_by = 1
    seen_in = "the default collations of MySQL and SQL Server"

    def changed(self, value: str) -> str:
        return value.lower()


class IdsNormalised(ChangedIds):
    """Ids are brought into Unicode normal form C."""

    fault = "ids-normalised"
    caught_by = 1
    seen_in = "file systems and validators that normalise names"

    def changed(self, value: str) -> str:
        return unicodedata.normalize("NFC", value)


class IdsAsNumbers(ChangedIds):
    """Thread ids that look like numbers are numbers: `1`, `01` and `1.0` are one thread."""

    fault = "ids-as-numbers"
    caught_by = 1
    seen_in = "Agno DynamoDB"

    def changed(self, value: str) -> str:
        try:
            return repr(float(value))
        except ValueError:
            return value


class IdsCutTo255Characters(ChangedIds):
    """What is behind the 255th character of an id is dropped."""

    fault = "ids-cut-to-255-characters"
    caught_by = 1
    seen_in = "VARCHAR(255) columns of MySQL outside strict mode"

    def changed(self, value: str) -> str:
        return value[:255]


class IdsCutTo400Bytes(ChangedIds):
    """What is behind the 400th byte of an id is dropped."""

    fault = "ids-cut-to-400-bytes"
    caught_by = 1
    seen_in = "indexes on a prefix of a column"

    def changed(self, value: str) -> str:
        return value.encode()[:400].decode(errors="ignore")


class IdsCutAtNul(ChangedIds):
    """An id ends at its first NUL."""

    fault = "ids-cut-at-nul"
    caught_by = 1
    seen_in = "drivers that hand ids to C as zero-terminated strings"

    def changed(self, value: str) -> str:
        return value.partition("\0")[0]


class InvisibleCharactersDropped(ChangedIds):
    """Direction marks, joiners and other characters that show nothing are dropped from ids."""

    fault = "invisible-characters-dropped"
    caught_by = 1
    seen_in = "collations of ICU, which ignore format characters"

    def changed(self, value: str) -> str:
        return "".join(char for char in value if unicodedata.category(char) != "Cf")


class AstralCharactersReplaced(ChangedIds):
    """Every character beyond U+FFFF becomes a question mark: all emoji are one."""

    fault = "astral-characters-replaced"
    caught_by = 1
    seen_in = "MySQL's three-byte utf8"

    def changed(self, value: str) -> str:
        return re.sub(r"[\U00010000-\U0010ffff]", "?", value)


class BlankIdIsDefault(ChangedIds):
    """An id of white space alone counts as missing and falls back to the shared id `default`."""

    fault = "blank-id-is-default"
    caught_by = 1
    seen_in = "Agent Framework Redis: a missing id became `default`"

    def changed(self, value: str) -> str:
        return value if value.strip() else "default"


class ErrorTellsOfForeignThread(DictStore):
    """A condition that fails on a missing thread is answered with the tail of another resource's thread."""

    fault = "error-tells-of-foreign-thread"
    caught_by = 1
    seen_in = "Mastra recall: the error for a foreign thread named its owner"

    def check_tail(self, thread: Thread, changes: Changes) -> None:
        try:
            super().check_tail(thread, changes)
        except TailMoved as moved:
            for row in self.rows():
                if not moved.epoch and row.thread_id == thread.thread_id:
                    raise TailMoved(*self.tail(Thread(row.resource_id, row.thread_id))) from None
            raise


class RecordMovesBetweenThreads(DictStore):
    """Records are upserted by their id alone: the thread that appends an id last takes it from the other one."""

    fault = "record-moves-between-threads"
    caught_by = 1
    seen_in = "Mastra: upsert by global id; Agno 3.1: three backends, three outcomes"

    def add(self, thread: Thread, row: Row, record: Record, at: int) -> int:
        holder = self.values.get(("holder", record.id))
        if holder is not None and holder != self.log_key(thread):
            self.values[holder] = [stored for stored in self.values.get(holder, []) if stored.id != record.id]
        self.values[("holder", record.id)] = self.log_key(thread)
        return super().add(thread, row, record, at)


class RecordIdUniqueAcrossThreads(DictStore):
    """A record whose id is in any other thread counts as known and is not written."""

    fault = "record-id-unique-across-threads"
    caught_by = 1
    seen_in = "message tables with a global primary key and ON CONFLICT DO NOTHING"

    def add(self, thread: Thread, row: Row, record: Record, at: int) -> int:
        holder = self.values.setdefault(("holder", record.id), self.log_key(thread))
        if holder != self.log_key(thread) and self.values.get(holder):
            return row.newest
        return super().add(thread, row, record, at)


class WindowOfAnotherThread(DictStore):
    """A window around a message id finds the message wherever it is, with its neighbours."""

    fault = "window-of-another-thread"
    caught_by = 1
    seen_in = "Mastra PR #20984 and #21863: include and neighbours"

    def window(self, thread: Thread, log: list[Stored], window: Window) -> list[Stored]:
        if isinstance(window.anchor, str) and self.cut(log, window.anchor) is None:
            for other in self.values.values():
                if isinstance(other, list) and self.cut(other, window.anchor) is not None:
                    return super().window(thread, other, window)
        return super().window(thread, log, window)


class ForeignThreadStandsIn(DictStore):
    """A thread that the resource does not have is answered with another resource's thread of the same id."""

    fault = "foreign-thread-stands-in"
    caught_by = 1
    seen_in = "OpenAI Agents SQLite sessions: one thread id, two users, one history"

    def read(self, scope: Scope, window: Window) -> Snapshot:
        if isinstance(scope, Thread) and self.row(scope) is None:
            for row in self.rows():
                if row.thread_id == scope.thread_id:
                    return super().read(Thread(row.resource_id, row.thread_id), window)
        return super().read(scope, window)
