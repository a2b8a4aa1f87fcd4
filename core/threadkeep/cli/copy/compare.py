"""How what one store holds differs from what another holds, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from threadkeep.cli.output import visible_id
from threadkeep.handles import INFO
from threadkeep.port import MISSING, Doc, Resource, Scope, Snapshot, Stored, from_micros, sorted_json

ABSENT = Doc(0, None)
"""A document that was never put."""

_NAMES: Mapping[str, str] = {INFO: "title, metadata or archived flag", "working_memory": "working memory"}


def name_of(scope: Scope) -> str:
    """A scope as it is named to people."""
    resource = f"resource {visible_id(scope.resource_id)}"
    return resource if isinstance(scope, Resource) else f"thread {visible_id(scope.thread_id)} of {resource}"


def slot_name(slot: str) -> str:
    """A document's slot as it is named to people."""
    return _NAMES.get(slot, f"document {visible_id(slot)}")


def same_body(slot: str, one: Doc, other: Doc) -> bool:
    """Whether two documents say the same. A thread without title, metadata and flag has any of three `info`s."""
    return _said(slot, one) == _said(slot, other)


def _said(slot: str, doc: Doc) -> str | None:
    if slot == INFO and not doc.body:
        return "{}"
    return doc.body


def beginning_fault(source: Sequence[Stored], target: Sequence[Stored]) -> str | None:
    """Where the target's messages are not those with which the source's begin; None where they are."""
    known = {record.id for record in source}
    for number, (theirs, ours) in enumerate(zip(source, target, strict=False), 1):
        place = f"message {visible_id(ours.id)}, number {number} in TO,"
        if ours.id not in known:
            return f"{place} is not in FROM"
        if ours.id != theirs.id:
            return f"{place} is at another place in FROM, where number {number} is {visible_id(theirs.id)}"
        if ours.digest != theirs.digest:
            return f"{place} has another content in FROM"
    if len(target) > len(source):
        extra = target[len(source)]
        return f"message {visible_id(extra.id)}, number {len(source) + 1} in TO, is not in FROM"
    return None


def difference(source: Snapshot, target: Snapshot) -> str | None:
    """The first difference between two snapshots of a thread, or None. All that a copy keeps is compared."""
    if source.tail == MISSING or target.tail == MISSING:
        if source.tail == target.tail:
            return None
        return f"it is not in {'FROM' if source.tail == MISSING else 'TO'}"
    if fault := beginning_fault(source.records, target.records):
        return fault
    if len(target.records) < len(source.records):
        first = source.records[len(target.records)]
        return f"message {visible_id(first.id)}, number {len(target.records) + 1} in FROM, is not in TO"
    for theirs, ours in zip(source.records, target.records, strict=True):
        if theirs.position != ours.position:
            return f"message {visible_id(ours.id)} has position {theirs.position} in FROM and {ours.position} in TO"
        if theirs.at != ours.at:
            return f"message {visible_id(ours.id)} was stored at {_moments(theirs.at, ours.at)}"
        if theirs.body != ours.body and sorted_json(json.loads(theirs.body)) != sorted_json(json.loads(ours.body)):
            return f"message {visible_id(ours.id)} has another content in FROM"
    for what, one, other in (
        ("it was created", source.created, target.created),
        ("it was last active", source.active, target.active),
    ):
        if one != other:
            return f"{what} at {_moments(one, other)}"
    return docs_difference(source.docs, target.docs)


def docs_difference(source: Mapping[str, Doc], target: Mapping[str, Doc]) -> str | None:
    """The first difference between the documents of two scopes, or None."""
    for slot in {**source, **target}:
        theirs, ours = source.get(slot, ABSENT), target.get(slot, ABSENT)
        if not same_body(slot, theirs, ours):
            return f"its {slot_name(slot)} is another in FROM"
    return None


def _moments(source: int, target: int) -> str:
    return f"{from_micros(source).isoformat()} in FROM and {from_micros(target).isoformat()} in TO"
