"""Commits and deletions: one script each, and in a cluster the registration of a resource beside it.

In a cluster the list of resources is in a slot of its own; `registry` says how it is kept.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Final

from threadkeep.errors import OutcomeUnknown, StoreUnavailable
from threadkeep.port import Changes, Receipt, Scope, Thread
from threadkeep_adapters.redis import registry, scripts, wire
from threadkeep_adapters.redis.layout import ResourceKeys
from threadkeep_adapters.redis.requests import FAILURES, Requests, repeated

REGISTRATIONS: Final = 3
"""How often a first commit registers its resource; one that came too late is registered again."""


async def commit_changes(requests: Requests, scope: Scope, changes: Changes) -> Receipt:
    """A commit. Raises Conflict, and what requests raise."""
    keys = ResourceKeys(requests.place.prefix, scope.resource_id)
    # A commit to a resource touches no thread, and still has to name keys for one.
    thread_id = scope.thread_id if isinstance(scope, Thread) else ""
    named = (*keys.of_thread(thread_id), keys.created, keys.active, keys.docs)
    if requests.place.cluster:
        return await _commit_registered(requests, scope, changes, (*named, keys.registration))
    given = wire.commit_arguments(scope, changes, wire.INDEXED)
    return wire.receipt(await requests.run(scripts.COMMIT, (*named, requests.index), *given), scope)


async def _commit_registered(requests: Requests, scope: Scope, changes: Changes, named: Sequence[bytes]) -> Receipt:
    index = requests.index
    token = ""
    for _ in range(REGISTRATIONS):
        reply = await requests.run(scripts.COMMIT, named, *wire.commit_arguments(scope, changes, token))
        if token and not (reply[0] == b"done" and reply[1]):
            # The commit did not take this registration, and no other will. What it came to stands all the same.
            with suppress(*FAILURES):
                await requests.call(index, "ZREM", index, registry.entry(scope.resource_id, token))
        if reply[0] != b"unregistered":
            return wire.receipt(reply, scope)
        token = registry.token(reply[1], secrets.token_hex(8))
        entry = registry.entry(scope.resource_id, token)
        await repeated(lambda: requests.call(index, "ZADD", index, 0, entry))  # noqa: B023 - awaited at once
    raise StoreUnavailable(
        f"the first commit of a resource came later than {registry.TOKEN_SECONDS} s after its registration, "
        f"{REGISTRATIONS - 1} times"
    )


async def delete_scope(requests: Requests, scope: Scope) -> None:
    """A deletion. Raises OutcomeUnknown where only the name of what is gone may be left, and what requests raise."""
    keys = ResourceKeys(requests.place.prefix, scope.resource_id)
    in_cluster = requests.place.cluster
    if in_cluster:
        mode, book = "", keys.registration
    else:
        mode, book = wire.INDEXED, requests.index
    common = (keys.created, keys.active, keys.docs, book)
    if isinstance(scope, Thread):
        named = (*keys.of_thread(scope.thread_id), *common)
        token = await requests.run(scripts.DELETE_THREAD, named, scope.thread_id, scope.resource_id, mode)
        if token:
            await _finish(_forget(requests, keys, scope.resource_id, token.decode(), None))
        return
    token, now = await requests.run(scripts.DELETE_RESOURCE, common, keys.base, scope.resource_id, mode)
    if in_cluster:
        await _finish(_forget(requests, keys, scope.resource_id, token.decode(), now))


async def _forget(requests: Requests, keys: ResourceKeys, resource_id: str, emptied: str, now: int | None) -> None:
    """Take a resource that was emptied out of the list; with `now`, also what clients that died left there."""
    index = requests.index
    if now is None:
        entries = [registry.entry(resource_id, emptied)]
    else:
        found = await requests.call(index, "ZRANGEBYLEX", index, *registry.entries_of(resource_id))
        entries = [entry for entry in found if registry.is_spent(entry, emptied, now)]
    if entries:
        await requests.call(index, "ZREM", index, *entries)
    if emptied:
        await requests.run(scripts.FORGET_REGISTRATION, (keys.registration,), emptied)


async def _finish(forgetting: Awaitable[None]) -> None:
    try:
        await forgetting
    except FAILURES as error:
        raise OutcomeUnknown(
            f"what was to be deleted is gone, but its name may still be in the list of resources: {error}"
        ) from error
