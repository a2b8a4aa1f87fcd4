"""The store and the reference model side by side: one call given to both, and all that can be seen of a resource."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from threadkeep.errors import ThreadkeepError
from threadkeep.port import MAX_PAGE, Order, Resource, Thread
from threadkeep_contract.harness import ALL, Harness
from threadkeep_contract.history import Recorded, source
from threadkeep_contract.inputs.confusable import just_before
from threadkeep_contract.reference.machine import Outcome, Verb, outcome, plain
from threadkeep_contract.reference.model import Model

ORDERS: tuple[Order, ...] = ("created", "active")


class Given(NamedTuple):
    """A call of a verb, to be made on a handle or on the model."""

    verb: Verb
    args: tuple[Any, ...]


def by_model(model: Model, call: Given) -> Outcome:
    """What the model answers, comparable."""
    try:
        return outcome(getattr(model, call.verb)(*call.args), None)
    except ThreadkeepError as error:
        return outcome(None, error)


async def by_store(handle: Recorded, call: Given) -> Outcome:
    """What the store answers, comparable with `by_model`."""
    try:
        return outcome(await getattr(handle, call.verb)(*call.args), None)
    except ThreadkeepError as error:
        return outcome(None, error)


async def agree(harness: Harness, handle: Recorded, model: Model, verb: Verb, *args: Any, promise: str = "") -> None:
    """Make one call on a handle and on the model; LawBroken where they do not answer the same."""
    call = Given(verb, args)
    expected, seen = by_model(model, call), await by_store(handle, call)
    if expected != seen:
        raise harness.broken(promise or f"{verb} answers as the port says", _shown(expected), _shown(seen))


def _shown(seen: Outcome) -> str:
    return seen.error or source(seen.result)


class Look(NamedTuple):
    """All views of a resource and of some of its threads, comparable."""

    threads: tuple[object, ...]
    resource: object
    lists: tuple[object, ...]
    listed: tuple[str, ...]
    """The resources of the clean room in the list of resources."""


async def look(handle: Recorded, room: str, resource: Resource, ids: Sequence[str], slots: Sequence[str]) -> Look:
    """All views of a resource in a clean room, one call after the other. `ids` are the threads that are loaded."""
    threads = [plain(await handle.load(Thread(resource.resource_id, thread_id), ALL)) for thread_id in ids]
    documents = plain(await handle.load(resource))
    lists = [plain(await handle.threads(resource, None, MAX_PAGE, order, slots)) for order in ORDERS]
    page = await handle.resources(just_before(room), 3)
    listed = tuple(resource_id for resource_id in page if resource_id.startswith(room))
    return Look(tuple(threads), documents, tuple(lists), listed)


def imagined(model: Model, room: str, resource: Resource, ids: Sequence[str], slots: Sequence[str]) -> Look:
    """As `look`, by the model."""
    threads = [plain(model.load(Thread(resource.resource_id, thread_id), ALL)) for thread_id in ids]
    documents = plain(model.load(resource))
    lists = [plain(model.threads(resource, None, MAX_PAGE, order, slots)) for order in ORDERS]
    listed = tuple(resource_id for resource_id in model.resources(just_before(room), 3) if resource_id.startswith(room))
    return Look(tuple(threads), documents, tuple(lists), listed)


def differing(expected: Sequence[Look], seen: Look) -> tuple[object, object]:
    """Where `seen` is none of the looks expected: the views in which it differs from the one that is most like it."""

    def views(one: Look) -> dict[str, object]:
        threads = {f"load of thread {number}": view for number, view in enumerate(one.threads)}
        lists = dict(zip((f"list by {order}" for order in ORDERS), one.lists, strict=True))
        return {**threads, "load of the resource": one.resource, **lists, "resources": one.listed}

    found = views(seen)
    others = [{name: view for name, view in views(one).items() if view != found[name]} for one in expected]
    nearest = min(others, key=len)
    return nearest, {name: found[name] for name in nearest}
