"""Handles whose every page is beyond the place from which it was asked to go on, so that each walk ends.

Whoever walks through a list asks for the page behind the last row that it saw, as long as pages are full: the checks
do, and so does the library itself within one call. A store that shows a row again would let them walk for ever. So it
is looked for in each full page of each handle that a check is given, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from threadkeep.port import After, Order, Resource, Scope, Snapshot, Store, ThreadRow, Window
from threadkeep_contract.history import History, Recorded

Require: TypeAlias = Callable[[str, bool, object, object], None]
"""As `Harness.require`: LawBroken unless the promise is kept; with what was expected and what was seen."""

PROMISE: Final = "a walk shows each once and ends: a page has what is beyond the place from which it was asked to go on"


def place(row: ThreadRow, order: Order) -> After:
    """The place of a row in a list."""
    return After(row.created if order == "created" else row.active, row.thread_id)


class Walked(Recorded):
    """A recorded guard. Its verbs raise LawBroken for a page by which a walk would not get on."""

    def __init__(self, store: Store, history: History, name: str, require: Require) -> None:
        super().__init__(store, history, name)
        self._require = require

    async def load(self, scope: Scope, window: Window = Window()) -> Snapshot:  # noqa: B008 - an immutable value
        snapshot = await super().load(scope, window)
        anchor, places = window.anchor, [entry.position for entry in snapshot.records]
        if isinstance(anchor, int) and len(places) >= window.before + window.after > 0:
            if not window.before:
                self._require(PROMISE, min(places) >= anchor, f"positions from {anchor} on", places)
            elif not window.after:
                self._require(PROMISE, max(places) < anchor, f"positions before {anchor}", places)
        return snapshot

    async def threads(
        self,
        resource: Resource,
        after: After | None = None,
        limit: int = 100,
        order: Order = "created",
        slots: Sequence[str] = (),
    ) -> Sequence[ThreadRow]:
        page = await super().threads(resource, after, limit, order, slots)
        if after is not None and len(page) >= limit:
            places = [place(row, order) for row in page]
            beyond = min(places) > after if order == "created" else max(places) < after
            self._require(PROMISE, beyond, f"rows beyond {after}", places)
        return page

    async def resources(self, after: str | None = None, limit: int = 100) -> Sequence[str]:
        page = await super().resources(after, limit)
        if after is not None and len(page) >= limit:
            self._require(PROMISE, min(page) > after, f"ids beyond {after!r}", page)
        return page
