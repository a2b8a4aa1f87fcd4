"""Faults that law 7, fidelity, must find."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from threadkeep.port import Changes, Doc, Put, Stored, Thread
from threadkeep_contract.saboteurs.base import DictStore, Row

Json: TypeAlias = Any

CHUNK_BYTES: Final = 64 * 1024
"""Bytes of a body in a chunk of the imagined backend."""


def _dumped(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _mapped(value: Json, change: Callable[[Json], Json]) -> Json:
    """A JSON value rebuilt from the leaves up, each value and each object as `change` leaves it."""
    if isinstance(value, dict):
        value = {key: _mapped(item, change) for key, item in value.items()}
    elif isinstance(value, list):
        value = [_mapped(item, change) for item in value]
    return change(value)


class ValuesChanged(DictStore):
    """Bodies are read as JSON, changed value by value, and written again."""

    def changed(self, value: Json) -> Json:
        raise NotImplementedError

    def kept(self, body: str) -> str:
        before = json.loads(body)
        after = _mapped(before, self.changed)
        return body if _dumped(after) == _dumped(before) else _dumped(after)


class NulDropped(ValuesChanged):
    """NUL characters are dropped from texts."""

    fault = "nul-dropped"
    caught_by = 7
    seen_in = "Mastra Postgres #21726: text and jsonb of Postgres take no NUL"

    def changed(self, value: Json) -> Json:
        return value.replace("\0", "") if isinstance(value, str) else value


class AstralTextReplaced(ValuesChanged):
    """Characters beyond U+FFFF become question marks."""

    fault = "astral-text-replaced"
    caught_by = 7
    seen_in = "MySQL's three-byte utf8"

    def changed(self, value: Json) -> Json:
        return re.sub(r"[\U00010000-\U0010ffff]", "?", value) if isinstance(value, str) else value


class TextNormalised(ValuesChanged):
    """Texts are brought into Unicode normal form C."""

    fault = "text-normalised"
    caught_by = 7
    seen_in = "input cleaning in front of a store"

    def changed(self, value: Json) -> Json:
        return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


class TextTrimmed(ValuesChanged):
    """White space around texts is dropped."""

    fault = "text-trimmed"
    caught_by = 7
    seen_in = "ADK: ` pad `; pydantic's str_strip_whitespace"

    def changed(self, value: Json) -> Json:
        return value.strip() if isinstance(value, str) else value


class BigIntegersThroughFloat(ValuesChanged):
    """Integers beyond 2**53 are rounded to the next double."""

    fault = "big-integers-through-float"
    caught_by = 7
    seen_in = "JSON.parse of JavaScript, and stores that keep numbers as doubles"

    def changed(self, value: Json) -> Json:
        return int(float(value)) if isinstance(value, int) and 2**53 < abs(value) < 10**300 else value


class FloatsRounded(ValuesChanged):
    """Floats are kept to fifteen digits."""

    fault = "floats-rounded"
    caught_by = 7
    seen_in = "DynamoDB numbers, text protocols of SQL databases"

    def changed(self, value: Json) -> Json:
        return float(f"{value:.15g}") if isinstance(value, float) else value


class WholeFloatsBecomeIntegers(ValuesChanged):
    """`1.0` comes back as `1`."""

    fault = "whole-floats-become-integers"
    caught_by = 7
    seen_in = "JavaScript, DynamoDB numbers"

    def changed(self, value: Json) -> Json:
        return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


class EmptyStringBecomesNull(ValuesChanged):
    """Empty texts come back as null."""

    fault = "empty-string-becomes-null"
    caught_by = 7
    seen_in = "Oracle, DynamoDB before 2020"

    def changed(self, value: Json) -> Json:
        return None if value == "" else value


class EmptyMembersDropped(ValuesChanged):
    """Members that are empty lists or empty objects are left out."""

    fault = "empty-members-dropped"
    caught_by = 7
    seen_in = "serialisers told to omit empty fields, such as Go's omitempty"

    def changed(self, value: Json) -> Json:
        return {key: item for key, item in value.items() if item not in ([], {})} if isinstance(value, dict) else value


class DollarKeysDropped(ValuesChanged):
    """Members whose key begins with `$` are left out."""

    fault = "dollar-keys-dropped"
    caught_by = 7
    seen_in = "MongoDB drivers and sanitizers against operator injection"

    def changed(self, value: Json) -> Json:
        return {key: item for key, item in value.items() if key[:1] != "$"} if isinstance(value, dict) else value


class DottedKeysNested(ValuesChanged):
    """A member with the key `a.b` becomes a member `b` of an object `a`."""

    fault = "dotted-keys-nested"
    caught_by = 7
    seen_in = "MongoDB updates with field paths"

    def changed(self, value: Json) -> Json:
        if not isinstance(value, dict):
            return value
        nested: dict[str, Json] = {}
        for key, item in value.items():
            head, dot, rest = key.partition(".")
            nested[head] = {rest: item} if dot else item
        return nested


class ProtoKeyDropped(ValuesChanged):
    """A member with the key `__proto__` is left out."""

    fault = "proto-key-dropped"
    caught_by = 7
    seen_in = "JavaScript objects, and parsers hardened against prototype pollution"

    def changed(self, value: Json) -> Json:
        return {key: item for key, item in value.items() if key != "__proto__"} if isinstance(value, dict) else value


class UnknownPartsDropped(ValuesChanged):
    """Parts of a kind that the store does not know are left out."""

    fault = "unknown-parts-dropped"
    caught_by = 7
    seen_in = "langchain-redis, LlamaIndex #12313: fields lost in conversion"

    def changed(self, value: Json) -> Json:
        if isinstance(value, dict) and isinstance(value.get("parts"), list):
            known = {"text", "reasoning", "tool_call", "tool_result", "file", "source", "data"}
            value = {**value, "parts": [part for part in value["parts"] if part.get("type") in known]}
        return value


class ToolCallIdsLost(ValuesChanged):
    """Tool results come back without the id of their call."""

    fault = "tool-call-ids-lost"
    caught_by = 7
    seen_in = "langchain-redis, LlamaIndex #12313"

    def changed(self, value: Json) -> Json:
        if isinstance(value, dict) and value.get("type") == "tool_result":
            value = {key: item for key, item in value.items() if key != "tool_call_id"}
        return value


class KeyOrderChanged(DictStore):
    """Objects come back with their keys in another order."""

    fault = "key-order-changed"
    caught_by = 7
    seen_in = "jsonb of Postgres"

    def kept(self, body: str) -> str:
        return json.dumps(json.loads(body), ensure_ascii=False, separators=(",", ":"), sort_keys=True)


class BodyReserialised(DictStore):
    """Bodies are parsed and written again, with other spaces and escapes."""

    fault = "body-reserialised"
    caught_by = 7
    seen_in = "JSON columns of SQL databases"

    def kept(self, body: str) -> str:
        return json.dumps(json.loads(body))


class DeepNestingCut(DictStore):
    """What is nested deeper than 32 levels comes back as null."""

    fault = "deep-nesting-cut"
    caught_by = 7
    seen_in = "DynamoDB: 32 levels; MongoDB: 100"

    def kept(self, body: str) -> str:
        value = json.loads(body)
        return _dumped(self.cut_below(value, 32)) if self.cut_below(value, 32) != value else body

    def cut_below(self, value: Json, levels: int) -> Json:
        if isinstance(value, dict):
            return {key: self.cut_below(item, levels - 1) for key, item in value.items()} if levels else None
        if isinstance(value, list):
            return [self.cut_below(item, levels - 1) for item in value] if levels else None
        return value


class TimesToMilliseconds(DictStore):
    """The time of a commit is kept to the millisecond."""

    fault = "times-to-milliseconds"
    caught_by = 7
    seen_in = "BSON dates, JavaScript dates"

    def born(self, thread: Thread, changes: Changes) -> Row:
        row = super().born(thread, changes)
        row.created -= row.created % 1000
        row.active = row.created
        return row

    def store(self, thread: Thread, stored: Stored) -> None:
        super().store(thread, stored._replace(at=stored.at - stored.at % 1000))


class CreatedResetByUpdate(DictStore):
    """Every commit sets the thread's time of creation anew."""

    fault = "created-reset-by-update"
    caught_by = 7
    seen_in = "LangGraph SQLite store"

    def touch(self, thread: Thread, changes: Changes) -> Row:
        row = super().touch(thread, changes)
        row.created = changes.at
        return row


class DocumentsReserialised(DictStore):
    """Documents, unlike records, are parsed and written again with their keys sorted."""

    fault = "documents-reserialised"
    caught_by = 7
    seen_in = "metadata in a jsonb column beside messages in a text column"

    def next_doc(self, docs: dict[str, Doc], put: Put) -> Doc:
        body = None if put.body is None else json.dumps(json.loads(put.body), sort_keys=True)
        return super().next_doc(docs, put._replace(body=body))


class ChunkCutsCharacter(DictStore):
    """Large bodies are kept in chunks of 64 KiB, each decoded by itself: a character on the border is lost."""

    fault = "chunk-cuts-a-character"
    caught_by = 7
    seen_in = "streams decoded chunk by chunk; GridFS and S3 parts"

    def kept(self, body: str) -> str:
        raw = body.encode()
        chunks = [raw[start : start + CHUNK_BYTES] for start in range(0, len(raw), CHUNK_BYTES)]
        return "".join(chunk.decode(errors="ignore") for chunk in chunks)


class TimesOfServer(DictStore):
    """Records carry the time of the server's clock, and not that of the commit."""

    fault = "times-of-the-server"
    caught_by = 7
    seen_in = "DEFAULT now() columns"

    def store(self, thread: Thread, stored: Stored) -> None:
        super().store(thread, stored._replace(at=time.time_ns() // 1000))
