"""What the memory of this process holds: by store, by resource and by thread."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

from threadkeep.port import Changes, Doc, Resource, Scope, Stored, Tail, Window


@dataclass(slots=True)
class Log:
    """A thread: its records in order, the positions beside them for bisection, and where each id is."""

    epoch: str
    created: int
    active: int
    newest: int = 0
    """The largest position that this epoch ever gave."""
    records: list[Stored] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    by_id: dict[str, Stored] = field(default_factory=dict)
    docs: dict[str, Doc] = field(default_factory=dict)

    @property
    def tail(self) -> Tail:
        return Tail(self.epoch, self.positions[-1] if self.positions else 0)

    def window(self, window: Window) -> list[Stored]:
        """The records of a window."""
        match window.anchor:
            case None:
                cut = len(self.records)
            case int(position):
                cut = bisect_left(self.positions, position)
            case str(record_id):
                if record_id not in self.by_id:
                    return []
                cut = bisect_left(self.positions, self.by_id[record_id].position)
        return self.records[max(0, cut - window.before) : cut + window.after]

    def append(self, changes: Changes) -> None:
        """Do what a commit says about the records."""
        if changes.drop_after is not None:
            cut = bisect_right(self.positions, changes.drop_after)
            for dropped in self.records[cut:]:
                del self.by_id[dropped.id]
            del self.records[cut:], self.positions[cut:]
        for record in changes.append:
            if record.id not in self.by_id:
                self.newest += 1
                stored = Stored(self.newest, changes.at, *record)
                self.records.append(stored)
                self.positions.append(stored.position)
                self.by_id[record.id] = stored


@dataclass(slots=True)
class Space:
    """What one name holds. The lock is held for the whole of each verb, and no verb awaits inside it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    threads: dict[str, dict[str, Log]] = field(default_factory=dict)
    docs: dict[str, dict[str, Doc]] = field(default_factory=dict)

    def find(self, scope: Scope) -> Log | None:
        """The thread of a scope, None where it is not there or the scope is a resource."""
        if isinstance(scope, Resource):
            return None
        return self.threads.get(scope.resource_id, {}).get(scope.thread_id)


spaces: dict[str, Space] = {}
spaces_lock = threading.Lock()
