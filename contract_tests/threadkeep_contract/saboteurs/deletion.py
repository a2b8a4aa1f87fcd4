"""Faults that law 10, deletion, must find."""

from __future__ import annotations

from typing import Final

from threadkeep.errors import ThreadNotFound
from threadkeep.port import Changes, Record, Resource, Scope, Stored, Tail, Thread
from threadkeep_contract.saboteurs.base import DictStore, Row

MANY: Final = 500
"""Rows that one statement of the imagined backend deletes."""

BATCH: Final = 25
"""What DynamoDB's BatchWriteItem deletes at once."""


class DeleteLeavesRecords(DictStore):
    """A deleted thread's records stay, and are there again when the thread is created again."""

    fault = "delete-leaves-records"
    caught_by = 10
    seen_in = "stores without cascading deletes"

    def remove_thread(self, thread: Thread) -> None:
        self.values.pop(self.row_key(thread), None)
        self.values.pop(self.docs_key(thread), None)


class DeleteLeavesDocuments(DictStore):
    """A deleted thread's documents stay, and are there again when the thread is created again."""

    fault = "delete-leaves-documents"
    caught_by = 10
    seen_in = "several stores, whose working memory comes back"

    def remove_thread(self, thread: Thread) -> None:
        self.values.pop(self.row_key(thread), None)
        self.values.pop(self.log_key(thread), None)


class DeleteLeavesIds(DictStore):
    """The ids of a deleted thread's records stay known: appended again, they are dropped as repeats."""

    fault = "delete-leaves-ids"
    caught_by = 10
    seen_in = "several stores, whose indexes outlive the messages"

    def add(self, thread: Thread, row: Row, record: Record, at: int) -> int:
        seen: set[str] = self.values.setdefault(("seen", *self.ids(thread)), set())
        if record.id in seen and self.known(thread, record) is None:
            return row.newest
        seen.add(record.id)
        return super().add(thread, row, record, at)

    def drop(self, thread: Thread, position: int) -> None:
        super().drop(thread, position)
        self.values["seen", *self.ids(thread)] = {record.id for record in self.log(thread)}


class DroppedIdsNotFree(DictStore):
    """The ids of records that a truncation dropped stay known: appended again, they are not written."""

    fault = "dropped-ids-not-free"
    caught_by = 10
    seen_in = "several stores, whose indexes outlive the messages"

    def add(self, thread: Thread, row: Row, record: Record, at: int) -> int:
        dropped: dict[str, int] = self.values.get(("dropped", *self.ids(thread)), {})
        return dropped[record.id] if record.id in dropped else super().add(thread, row, record, at)

    def drop(self, thread: Thread, position: int) -> None:
        dropped = self.values.setdefault(("dropped", *self.ids(thread)), {})
        dropped.update({record.id: record.position for record in self.log(thread) if record.position > position})
        super().drop(thread, position)

    def remove_thread(self, thread: Thread) -> None:
        super().remove_thread(thread)
        self.values.pop(("dropped", *self.ids(thread)), None)


class DeleteTakesResourceDocuments(DictStore):
    """Deleting one thread deletes the resource's documents as well."""

    fault = "delete-takes-resource-documents"
    caught_by = 10
    seen_in = "cascades that run in both directions"

    def remove_thread(self, thread: Thread) -> None:
        super().remove_thread(thread)
        self.values.pop(self.docs_key(Resource(thread.resource_id)), None)


class DeleteByPrefix(DictStore):
    """Deleting a thread deletes all threads of the resource whose ids begin with its id."""

    fault = "delete-by-prefix"
    caught_by = 10
    seen_in = "pattern deletes: KEYS or SCAN with a star, then DEL"

    def remove(self, scope: Scope) -> None:
        if isinstance(scope, Thread):
            for row in self.listed(Resource(scope.resource_id), "created"):
                if row.thread_id.startswith(scope.thread_id):
                    self.remove_thread(Thread(row.resource_id, row.thread_id))
        super().remove(scope)


class EraseByPrefix(DictStore):
    """Erasing a resource erases the threads of all resources whose ids begin with its id."""

    fault = "erase-by-prefix"
    caught_by = 10
    seen_in = "pattern deletes: KEYS or SCAN with a star, then DEL"

    def remove_resource(self, resource: Resource) -> None:
        super().remove_resource(resource)
        for row in self.rows():
            if row.resource_id.startswith(resource.resource_id):
                self.remove_thread(Thread(row.resource_id, row.thread_id))


class EraseLeavesResourceDocuments(DictStore):
    """Erasing a resource deletes its threads and forgets its own documents."""

    fault = "erase-leaves-resource-documents"
    caught_by = 10
    seen_in = "several stores, whose working memory comes back"

    def remove_resource(self, resource: Resource) -> None:
        for row in self.listed(resource, "created"):
            self.remove_thread(Thread(row.resource_id, row.thread_id))


class EraseFirstBatchOnly(DictStore):
    """Erasing a resource deletes as many threads as one batch takes, and no more."""

    fault = "erase-first-batch-only"
    caught_by = 10
    seen_in = "Mastra DynamoDB #19550: only the first page of the backend's own paging is read"

    def remove_resource(self, resource: Resource) -> None:
        for row in self.listed(resource, "created")[:BATCH]:
            self.remove_thread(Thread(row.resource_id, row.thread_id))
        self.values.pop(self.docs_key(resource), None)


class DeleteOfMissingIsError(DictStore):
    """Deleting a thread that is not there is an error."""

    fault = "delete-of-missing-is-error"
    caught_by = 10
    seen_in = "stores that answer a repeated DELETE with 404"

    def remove_thread(self, thread: Thread) -> None:
        if self.row(thread) is None:
            raise ThreadNotFound(thread.thread_id)
        super().remove_thread(thread)


class DeleteOfMissingIsErrorBesideOthers(DictStore):
    """Deleting a thread that is not there is an error where its resource has other threads."""

    fault = "delete-of-missing-is-error-beside-others"
    caught_by = 10
    seen_in = "stores that keep the threads of a user in a dict of their own"

    def remove_thread(self, thread: Thread) -> None:
        beside = [row for row in self.rows() if row.resource_id == thread.resource_id]
        if beside and self.row(thread) is None:
            raise ThreadNotFound(thread.thread_id)
        super().remove_thread(thread)


class DeletedKeptAside(DictStore):
    """What is deleted is moved aside, where every verb overlooks it and a look into the backend does not."""

    fault = "deleted-kept-aside"
    caught_by = 10
    seen_in = "soft deletes with a `deleted_at` column; backup tables, logs, free pages of a file"

    def remove_thread(self, thread: Thread) -> None:
        aside = self.values.setdefault(("aside",), [])
        aside.append((self.ids(thread), self.log(thread)))
        super().remove_thread(thread)


class CreatedAgainInOldEpoch(DictStore):
    """A thread that is created again gets the epoch of the deleted one."""

    fault = "created-again-in-old-epoch"
    caught_by = 10
    seen_in = "stores that know a thread by its id alone"

    def born(self, thread: Thread, changes: Changes) -> Row:
        row = super().born(thread, changes)
        row.epoch = self.values.setdefault(("epoch", *self.ids(thread)), changes.epoch)
        return row


class CreatedAgainAtOldPosition(DictStore):
    """A thread that is created again goes on counting where the deleted one ended."""

    fault = "created-again-at-old-position"
    caught_by = 10
    seen_in = "counters that a delete leaves behind, such as INCR keys"

    def born(self, thread: Thread, changes: Changes) -> Row:
        row = super().born(thread, changes)
        row.newest = self.values.get(("counter", *self.ids(thread)), 0)
        return row

    def store(self, thread: Thread, stored: Stored) -> None:
        super().store(thread, stored)
        self.values["counter", *self.ids(thread)] = stored.position


class TailComparesPositionOnly(DictStore):
    """`if_tail` compares positions alone: who holds the tail of a deleted thread writes into its successor."""

    fault = "tail-compares-position-only"
    caught_by = 10
    seen_in = "expected-version appends where a stream was deleted and created again"

    def same_tail(self, thread: Thread, tail: Tail) -> bool:
        return tail.position == self.tail(thread).position


class TruncationTakesOneMore(DictStore):
    """A truncation drops the record at the position given as well."""

    fault = "truncation-takes-one-more"
    caught_by = 10
    seen_in = "boundaries compared with `>=` where `>` is meant"

    def drop(self, thread: Thread, position: int) -> None:
        super().drop(thread, position - 1)


class EraseFirstFiveHundred(DictStore):
    """Erasing a resource deletes its first 500 threads, and no more."""

    fault = "erase-first-500-threads"
    caught_by = 10
    seen_in = "DELETE with a LIMIT that is not repeated; list calls of object stores (1,000 keys)"

    def remove_resource(self, resource: Resource) -> None:
        for row in self.ordered(self.listed(resource, "created"), "created")[:MANY]:
            self.remove_thread(Thread(row.resource_id, row.thread_id))
        self.values.pop(self.docs_key(resource), None)


class DropFirstFiveHundred(DictStore):
    """A truncation drops the 500 records behind the position, and leaves what is further on."""

    fault = "drop-first-500-records"
    caught_by = 10
    seen_in = "deletions in batches whose loop ends after the first"

    def drop(self, thread: Thread, position: int) -> None:
        log = self.log(thread)
        above = [record for record in log if record.position > position]
        log[:] = [record for record in log if record.position <= position] + above[MANY:]


class DropAfterZeroIgnored(DictStore):
    """A truncation to nothing, `drop_after=0`, counts as none."""

    fault = "drop-after-zero-ignored"
    caught_by = 10
    seen_in = "truthiness where None is meant: Mastra PR #14237"

    def drop(self, thread: Thread, position: int) -> None:
        if position:
            super().drop(thread, position)


class EpochRemembered(DictStore):
    """A handle remembers the epoch that it saw first, and compares and answers with that one when another handle has
    deleted the thread and made it anew."""

    fault = "epoch-remembered-by-handle"
    caught_by = 10
    seen_in = "session objects that load their metadata once: Strands, Agno"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.epochs: dict[Thread, str] = {}

    def tail(self, thread: Thread) -> Tail:
        tail = super().tail(thread)
        return Tail(self.epochs.setdefault(thread, tail.epoch), tail.position) if tail.epoch else tail

    def remove_thread(self, thread: Thread) -> None:
        super().remove_thread(thread)
        self.epochs.pop(thread, None)
