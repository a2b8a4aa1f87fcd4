"""Faults that law 11, limits, must find."""

from __future__ import annotations

import json
from typing import Final

from threadkeep.errors import LimitExceeded, StoreUnavailable
from threadkeep.port import KIB, MIB, Changes, Doc, Limits, Put, Scope, Stored, Thread
from threadkeep_contract.saboteurs.base import DictStore

THREAD_BYTES: Final = 16 * MIB
"""The largest document of the imagined backend, as MongoDB's."""

ITEM_BYTES: Final = 400 * 1000
"""A little less than DynamoDB takes in one item (400 KB)."""


class MessageCut(DictStore):
    """The last text of a message is cut so that the message fits into 64 KiB."""

    fault = "message-cut-to-64-kib"
    caught_by = 11
    seen_in = "TEXT columns of MySQL outside strict mode; Mastra #12341"

    def kept(self, body: str) -> str:
        over = len(body.encode()) - 64 * KIB
        if over <= 0:
            return body
        value = json.loads(body)
        return json.dumps(_shortened(value, over), ensure_ascii=False, separators=(",", ":"))


class ItemTooLarge(DictStore):
    """A message over 400 KB fails at the backend, though the store declares 1 MiB."""

    fault = "item-over-400-kb-fails"
    caught_by = 11
    seen_in = "LangChain and Agno DynamoDB"

    def kept(self, body: str) -> str:
        if len(body.encode()) > ITEM_BYTES:
            raise ValueError("Item size has exceeded the maximum allowed size")
        return body


class CommitOver25Fails(DictStore):
    """A commit of more than 25 records fails at the backend."""

    fault = "commit-over-25-records-fails"
    caught_by = 11
    seen_in = "BatchWriteItem of DynamoDB takes 25 items"

    def check_records(self, thread: Thread, changes: Changes) -> None:
        super().check_records(thread, changes)
        if len(changes.append) > 25:
            raise ValueError("Too many items requested for the BatchWriteItem call")


class CommitOver1MibFails(DictStore):
    """A commit of more than 1 MiB in all is refused, though each of its messages is small enough."""

    fault = "commit-over-1-mib-fails"
    caught_by = 11
    seen_in = "servers with a limit on the size of a request"

    def check(self, scope: Scope, changes: Changes) -> None:
        super().check(scope, changes)
        if sum(len(record.body.encode()) for record in changes.append) > MIB:
            raise StoreUnavailable("413 Payload Too Large")


class LongIdsRefused(DictStore):
    """Ids of more than 255 bytes are refused by the backend."""

    fault = "long-ids-refused"
    caught_by = 11
    seen_in = "VARCHAR(255) keys; indexes whose entries are too small for three long ids"

    def check_records(self, thread: Thread, changes: Changes) -> None:
        super().check_records(thread, changes)
        for value in (thread.resource_id, thread.thread_id, *(record.id for record in changes.append)):
            if len(value.encode()) > 255:
                raise ValueError("value too long for type character varying(255)")


class DocumentOver64KibFails(DictStore):
    """A document over 64 KiB is refused by the backend."""

    fault = "document-over-64-kib-fails"
    caught_by = 11
    seen_in = "TEXT columns of MySQL; key-value stores with small values"

    def next_doc(self, docs: dict[str, Doc], put: Put) -> Doc:
        if put.body is not None and len(put.body.encode()) > 64 * KIB:
            raise ValueError("Data too long for column 'body'")
        return super().next_doc(docs, put)


class RefusedAtLimit(DictStore):
    """What is exactly as large as the limit is refused."""

    fault = "refused-at-the-limit"
    caught_by = 11
    seen_in = "sizes compared with `>=` where `>` is meant"

    def check_records(self, thread: Thread, changes: Changes) -> None:
        super().check_records(thread, changes)
        for record in changes.append:
            size = len(record.body.encode())
            if size >= self.limits.message_bytes:
                raise LimitExceeded("message_bytes", self.limits.message_bytes, size, "message")


class DeclaresMoreThanItKeeps(DictStore):
    """The store declares messages of 4 MiB and refuses those over 1 MiB."""

    fault = "declares-more-than-it-keeps"
    caught_by = 11
    seen_in = "limits copied from a page about another backend"
    limits = Limits(message_bytes=4 * MIB, commit_bytes=8 * MIB)

    def check_records(self, thread: Thread, changes: Changes) -> None:
        super().check_records(thread, changes)
        if any(len(record.body.encode()) > MIB for record in changes.append):
            raise ValueError("string longer than max_string_length")


class ThreadOver16MibFails(DictStore):
    """A thread is one document of the backend: a commit that makes it larger than 16 MiB fails, small as it is."""

    fault = "thread-over-16-mib-fails"
    caught_by = 11
    seen_in = "LlamaIndex and LangChain on MongoDB: messages pushed into an array of the session's document"

    def check_records(self, thread: Thread, changes: Changes) -> None:
        super().check_records(thread, changes)
        size: int = self.values.get(("size", *self.ids(thread)), 0)
        if size + sum(len(record.body.encode()) for record in changes.append) > THREAD_BYTES:
            raise ValueError("Resulting document after update is larger than 16777216")

    def store(self, thread: Thread, stored: Stored) -> None:
        super().store(thread, stored)
        key = ("size", *self.ids(thread))
        self.values[key] = self.values.get(key, 0) + len(stored.body.encode())

    def drop(self, thread: Thread, position: int) -> None:
        super().drop(thread, position)
        self.values["size", *self.ids(thread)] = sum(len(record.body.encode()) for record in self.log(thread))

    def remove_thread(self, thread: Thread) -> None:
        super().remove_thread(thread)
        self.values.pop(("size", *self.ids(thread)), None)


def _shortened(value: object, over: int) -> object:
    """A JSON value whose longest text is shorter by `over` characters."""
    if isinstance(value, str):
        return value[: max(0, len(value) - over)]
    if isinstance(value, list) and value:
        longest = max(range(len(value)), key=lambda index: len(json.dumps(value[index])))
        return [_shortened(item, over) if index == longest else item for index, item in enumerate(value)]
    if isinstance(value, dict) and value:
        longest_key = max(value, key=lambda key: len(json.dumps(value[key])))
        return {key: _shortened(item, over) if key == longest_key else item for key, item in value.items()}
    return value
