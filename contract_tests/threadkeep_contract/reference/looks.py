"""A look at everything after a race, a kill, or any work: all views of a resource compared with each other.

A store that answers a commit well may still write an index entry, a row of a list or an entry of its map of ids behind
it, wrongly or not at all. One view does not show that. So every view is read, through every handle: the whole threads,
their ends, the windows around ids and positions, the lists in both orders, whole and page by page, the documents, and
the list of resources. Each has to be what the reference model says of the same state. The state is the model's where
the outcome is known. Where it is not, it is what the whole loads show: then the views are compared with those.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from threadkeep.port import MISSING, Order, Resource, Scope, Stored, Thread, ThreadRow, Window
from threadkeep_contract.harness import ALL, Harness, ids_of
from threadkeep_contract.history import Recorded, source
from threadkeep_contract.inputs.confusable import just_before
from threadkeep_contract.reference.beside import ORDERS
from threadkeep_contract.reference.machine import plain
from threadkeep_contract.reference.model import Model, ModelThread
from threadkeep_contract.walks import place

T = TypeVar("T")

SPOTS: Final = 5
"""Messages, positions and ids of one thread that are looked at one by one, at most."""

PAGES: Final = 4
"""Pages in which a list is walked, about."""

MANY: Final = 1000
"""The longest page."""


class View(NamedTuple):
    """One call that only reads. Some are made through every handle, the others through one, in turn."""

    verb: str
    args: tuple[Any, ...]
    everywhere: bool = False


async def look_everywhere(
    harness: Harness,
    handles: Sequence[Recorded],
    scopes: Collection[Scope],
    ids: Collection[str] = (),
    model: Model | None = None,
) -> None:
    """Compare all views of the resources of these scopes; LawBroken at the first that disagrees.

    `scopes` are the threads and resources that the work was about, deleted ones too: what is not listed is looked for
    by name. `ids` are ids of messages that were in use. `model` is the state, where it is known.
    """
    for resource_id in sorted({scope.resource_id for scope in scopes}):
        threads = {scope for scope in scopes if isinstance(scope, Thread) and scope.resource_id == resource_id}
        await _look_at(harness, handles, Resource(resource_id), threads, ids, model)


async def _look_at(
    harness: Harness,
    handles: Sequence[Recorded],
    resource: Resource,
    threads: set[Thread],
    ids: Collection[str],
    known: Model | None,
) -> None:
    calls = harness.history.calls
    before = len(calls)
    for order in ORDERS:
        rows = await handles[0].threads(resource, None, MANY, order)
        threads |= {Thread(resource.resource_id, row.thread_id) for row in rows}
    model = known or await _as_loaded(harness, handles[0], resource, threads)
    del calls[before:]
    for number, view in enumerate(_views(model, resource, sorted(threads, key=lambda thread: thread.thread_id), ids)):
        for handle in handles if view.everywhere else [handles[number % len(handles)]]:
            seen = plain(await getattr(handle, view.verb)(*view.args))
            expected = plain(getattr(model, view.verb)(*view.args))
            if view.verb == "resources":
                # The page may hold a resource of somebody else instead.
                seen, expected = (tuple(_only(found, resource.resource_id)) for found in (seen, expected))
            if seen != expected:
                raise harness.broken(
                    "afterwards, all views of a resource agree: loads, windows, both lists, documents and resources()",
                    source(expected),
                    f"{source(seen)}\nby {handle.name}.{view.verb}({', '.join(map(source, view.args))})",
                )
            # What agreed is no part of the history that is shown.
            del calls[before:]


def _only(found: object, resource_id: str) -> list[str]:
    return [each for each in found if each == resource_id] if isinstance(found, tuple) else []


async def _as_loaded(harness: Harness, handle: Recorded, resource: Resource, threads: Collection[Thread]) -> Model:
    """A model in the state that whole loads show."""
    model = Model()
    if docs := (await handle.load(resource)).resource_docs:
        model.resource_docs[resource.resource_id] = dict(docs)
    for thread in threads:
        found = await handle.load(thread, ALL)
        records = [Stored(*entry) for entry in found.records]
        places = [entry.position for entry in records]
        harness.expect("the messages of a thread are at positions that rise", sorted(set(places)), places)
        harness.expect("a thread has a message once", len(records), len(set(ids_of(records))))
        if found.tail != MISSING:
            model.by_scope[thread] = ModelThread(
                found.tail.epoch, found.created, found.active, found.tail.position, records, dict(found.docs)
            )
    return model


def _views(model: Model, resource: Resource, threads: Sequence[Thread], ids: Collection[str]) -> Iterator[View]:
    """The calls that show everything there is of a resource."""
    yield View("load", (resource, Window()), True)
    slots = sorted({slot for thread in threads for slot in model.load(thread).docs} | {"info"})
    for order in ORDERS:
        yield View("threads", (resource, None, MANY, order, slots), True)
        yield from _pages(model.threads(resource, None, MANY, order), resource, order, slots[:1])
    for thread in threads:
        yield View("load", (thread, ALL), True)
        for window in _windows(model.load(thread, ALL).records, ids):
            yield View("load", (thread, window))
    # Nothing that begins otherwise is between this and the id. What ends in NUL comes right after what lacks the NUL.
    resource_id = resource.resource_id
    yield View("resources", (resource_id[:-1] if resource_id.endswith("\x00") else just_before(resource_id), 1), True)


def _pages(rows: Sequence[ThreadRow], resource: Resource, order: Order, slots: Sequence[str]) -> Iterator[View]:
    """A walk through a list, a few rows at a time, and beyond its last row."""
    limit = max(1, len(rows) // PAGES)
    yield View("threads", (resource, None, limit, order, slots))
    for row in rows[limit - 1 :: limit]:
        yield View("threads", (resource, place(row, order), limit, order, slots))


def _windows(records: Sequence[Stored], ids: Collection[str]) -> Iterator[Window]:
    """Windows of one thread: its end, around messages, around positions, and around ids that may be there or not."""
    end = records[-1].position if records else 0
    yield from (Window(None, 1, 1), Window(None, len(records) // 2))
    for entry in _spread(records):
        yield Window(entry.id, 1, 2)
    for position in _spread(range(end + 2)):
        yield Window(position, 2, 1)
    for each in _spread(sorted(set(ids) - set(ids_of(records)))):
        yield Window(each, 1, 1)


def _spread(entries: Sequence[T]) -> Sequence[T]:
    """So many of them that each can be looked at: the first, the last, and some between."""
    if len(entries) <= SPOTS:
        return entries
    return [entries[number * (len(entries) - 1) // (SPOTS - 1)] for number in range(SPOTS)]
