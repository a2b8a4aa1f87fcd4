"""The conditions of a commit, in the port's order, for stores that test them in Python (`Store.commit`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from threadkeep.errors import MessageConflict, TailMoved, VersionMoved
from threadkeep.port.store import Changes, Put, Tail

__all__ = ["Versioned", "check_thread", "next_versions"]


def check_thread(tail: Tail, known: Mapping[str, str], changes: Changes) -> None:
    """Conditions 1 to 3, on a thread with this tail, MISSING where there is none.

    `known` has the digests of those records of `append`, by id, that are in the thread and stay there: what stands
    above `drop_after` does not. Raises TailMoved and MessageConflict.
    """
    if changes.if_epoch is not None and changes.if_epoch != tail.epoch:
        raise TailMoved(*tail)
    if known:
        for record in changes.append:
            if known.get(record.id, record.digest) != record.digest:
                raise MessageConflict(record.id)
    if changes.if_tail is None or changes.if_tail == tail:
        return
    is_repetition = changes.append and len(known) == len(changes.append) and changes.drop_after is None
    if not is_repetition:
        raise TailMoved(*tail)


class Versioned(Protocol):
    """A document, or what a store keeps of it."""

    @property
    def version(self) -> int:
        """How often it was put."""
        ...


def next_versions(docs: Mapping[str, Versioned], puts: Sequence[Put]) -> list[int]:
    """Condition 4: the versions that puts will give, in their order, where these are the documents by slot.

    Raises VersionMoved.
    """
    versions = []
    for put in puts:
        version = docs[put.slot].version if put.slot in docs else 0
        if put.if_version is not None and put.if_version != version:
            raise VersionMoved(put.slot, version)
        versions.append(version + 1)
    return versions
