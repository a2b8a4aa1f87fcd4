"""The check of law 10 that a deletion leaves no trace in what the backend stores."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from threadkeep.port import (
    Changes,
    Clause,
    Put,
    Resource,
    Thread,
    open_store,
    scan_backend,
)
from threadkeep_contract.evidence import least
from threadkeep_contract.harness import Harness, Law, NotJudged, appending, raw_record
from threadkeep_contract.reference.machine import START

_MARKED: Final = ("resource", "thread", "message", "text", "title", "metadata", "memory")
"""What a scan may see: the ids of resource, thread and message, and contents."""


def _not_seen(harness: Harness, names: Sequence[str]) -> None:
    """Decline the scan of these for a store that says why its scan cannot see them; else raise NotJudged."""
    what = ", ".join(names)
    reason = open_store(harness.url).not_offered.get(Clause.SCAN)
    if reason is None:
        raise NotJudged(
            "whether a deletion leaves no trace is seen by a scan that shows what is stored",
            f"a scan that finds each of {', '.join(_MARKED)} before the deletion",
            f"before the deletion it does not find {what}",
            "Let `scan_backend` decode what the store compresses or encrypts, or say in `not_offered`, under "
            "`Clause.SCAN`, why it cannot",
        )
    harness.decline(f"scan of {what}", reason)


def _found(harness: Harness, marks: dict[str, str]) -> set[str]:
    """Which of the marks a scan finds, in UTF-8 or UTF-16, also across the borders of its chunks."""
    chunks = scan_backend(harness.url)
    found = set()
    overlap = b""
    for chunk in chunks or ():
        text = overlap + chunk
        for name, mark in marks.items():
            if mark.encode() in text or mark.encode("utf-16-le") in text:
                found.add(name)
        overlap = text[-256:]
    return found


class Traces(Law):
    """What a raw scan of the backend finds."""

    @least(commits=10, loads=0, deletions=2)
    def test_no_trace_is_left(self, harness: Harness) -> None:
        """A scan of the backend finds no trace of what was deleted. It is made through the plugin's hook
        `scan_backend`. What it can see is found out first: ids, a message's text, a title, metadata and working memory
        are stored, and looked for. Of what it saw, it finds nothing after the deletion. What it does not see, as where
        a store compresses or encrypts and its scan does not decode, is not judged. Where the store names the clause
        `scan`, or has no such hook, the report says NOT OFFERED.
        """
        if scan_backend(harness.url) is None:
            harness.decline(
                "raw scan", "the plugin has no scan_backend hook, so traces were looked for by reading only"
            )
            return
        unseen: set[str] = set()

        async def check(erase: bool) -> None:
            (handle,) = await harness.reused(1)
            marks = {name: f"{name}{secrets.token_hex(12)}" for name in _MARKED}
            scope = Thread(harness.fresh() + marks["resource"], marks["thread"])
            memory = Put("working_memory", f'"{marks["memory"]}"')
            info = Put("info", f'{{"title":"{marks["title"]}","metadata":{{"key":"{marks["metadata"]}"}}}}')
            for number in range(5):
                made = raw_record(f"{marks['message']}{number}", f'{{"text":"{marks["text"]}{number}"}}')
                await handle.commit(
                    scope, appending(harness, START, made, puts=(memory, info), resource_puts=(memory,))
                )
            await handle.commit(scope, Changes(at=START, epoch=harness.epoch(), drop_after=3))
            seen = _found(harness, marks)
            unseen.update(marks.keys() - seen)
            await handle.delete(Resource(scope.resource_id) if erase else scope)
            # Without an erasure the resource stays, with its document.
            gone = seen if erase else seen - {"resource", "memory"}
            looked = {name: marks[name] for name in gone}
            harness.expect("no trace after the deletion", [], sorted(_found(harness, looked)))

        harness.run(check, False)
        harness.run(check, True)
        if unseen:
            _not_seen(harness, sorted(unseen))
