"""Lists: the threads of a resource, and the resources."""

from __future__ import annotations

from collections.abc import Sequence

from threadkeep.port import After, Order, Resource, ThreadRow
from threadkeep_adapters.redis import registry, scripts, wire
from threadkeep_adapters.redis.layout import ResourceKeys, moment
from threadkeep_adapters.redis.requests import Requests, repeated


async def list_threads(
    requests: Requests, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
) -> list[ThreadRow]:
    """A page of threads, with those of their documents whose slots are asked for."""
    keys = ResourceKeys(requests.place.prefix, resource.resource_id)
    asked = list(dict.fromkeys(slots))
    place = "" if after is None else moment(after.at) + after.thread_id
    listed = keys.created if order == "created" else keys.active
    given = (order, place, limit, keys.base, *(f":{slot}" for slot in asked))
    found = await repeated(lambda: requests.run(scripts.THREADS, (listed,), *given))
    return [wire.thread_row(row, asked) for row in found]


async def list_resources(requests: Requests, after: str | None, limit: int) -> list[str]:
    """A page of resources, as the index of a server has them."""
    found = await _page(requests, "-" if after is None else f"({after}", limit)
    return [name.decode() for name in found]


async def list_registered(requests: Requests, after: str | None, limit: int) -> list[str]:
    """A page of resources, as the registry of a cluster has them."""
    found: list[str] = []
    bound = b"-" if after is None else registry.after(after)
    while len(found) < limit and (page := await _page(requests, bound, limit - len(found))):
        bound = b"(" + page[-1]
        entries = [registry.parts(entry) for entry in page]
        keys = [ResourceKeys(requests.place.prefix, resource_id).registration for resource_id, _ in entries]
        held = await repeated(lambda: requests.each_key([(key, ("GET", key)) for key in keys]))  # noqa: B023 - awaited at once
        found += [name for (name, token), holder in zip(entries, held, strict=True) if holder == token.encode()]
    return found


async def _page(requests: Requests, bound: str | bytes, limit: int) -> list[bytes]:
    command = ("ZRANGEBYLEX", requests.index, bound, "+", "LIMIT", 0, limit)
    found: list[bytes] = await repeated(lambda: requests.read(requests.index, *command))
    return found
