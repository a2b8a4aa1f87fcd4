"""The story of one commit, and of one deletion, from the first look to the last request.

Both are attempted until they come in, or are refused. The states of an attempt, each with what leads on from it:

    found         the newest states were read (`Found`)
        SWEPT       a deletion was unfinished, and is finished now: look again
    planned       what will be written is known (`Plan`)
        OUTDATED    the states refuse the changes, and are not the newest any more: look again
        refused     the states refuse the changes, and are the newest: Conflict, for the caller
    registered    the list of resources has the resource, which was empty (`_Registration`)
    inserted      all documents are there, the commit as the last of them: it has happened
        OVERTAKEN   another commit came first, and nothing is left of this one: look again
    tidied up     what the commit replaced is removed (`Receipt`, for the caller)

A deletion is found, planned and inserted likewise, and then what it deleted is swept (`Deleted`).
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from enum import Enum, auto
from typing import Final

from pymongo.errors import PyMongoError

from threadkeep.errors import Conflict, StoreUnavailable
from threadkeep.port import Changes, Receipt, Resource, Scope, Thread
from threadkeep_adapters.mongo.layout import Document, Found, ResourceState, number_of, read_resource
from threadkeep_adapters.mongo.plan import (
    Plan,
    Remainder,
    plan_deletion,
    plan_erasure,
    plan_resource,
    plan_thread,
)
from threadkeep_adapters.mongo.requests import Requests

OVERTAKEN_SECONDS: Final = 30.0
"""For how long a commit or a deletion looks again when those of other processes come first."""


class Again(Enum):
    """Why an attempt ended so that the next one begins with another look."""

    SWEPT = auto()
    """It finished a deletion that somebody had left unfinished."""
    OUTDATED = auto()
    """It was refused by states that were not the newest any more."""
    OVERTAKEN = auto()
    """Another commit came first."""


class Deleted(Enum):
    """Since when there is nothing left of what was to be deleted."""

    NOW = auto()
    BEFORE = auto()


async def commit_changes(requests: Requests, scope: Scope, changes: Changes) -> Receipt:
    """Commit to a scope. Raises Conflict, and StoreUnavailable where others came first for too long."""
    registration = _Registration(requests)
    keys = requests.record_keys(record.id for record in changes.append)
    async for found in _looks(requests, keys):
        end = await _attempt(requests, scope, changes, found, registration)
        if isinstance(end, Receipt):
            return end
    raise StoreUnavailable(f"a commit was overtaken by others for {OVERTAKEN_SECONDS:g} s")


async def _attempt(
    requests: Requests, scope: Scope, changes: Changes, found: Found, registration: _Registration
) -> Receipt | Again:
    """Commit on top of the states that were found: from found to tidied up."""
    if await _finish_deletion(requests, found):
        return Again.SWEPT
    try:
        plan = await _plan(requests, scope, changes, found)
    except Conflict:
        # A commit that is made is tested once more by its keys, a refusal of one to a thread by nothing else.
        if isinstance(scope, Resource) or await _is_newest(requests, found):
            raise
        return Again.OUTDATED
    await registration.renew(found.resource)
    if not await requests.insert(plan.documents):
        return Again.OVERTAKEN
    await _tidy_up(requests, found, plan)
    return plan.receipt


async def _looks(requests: Requests, keys: Sequence[str] = ()) -> AsyncIterator[Found]:
    """What looks find, with records of some keys, for as long as others may come first, after growing random pauses."""
    loop = asyncio.get_running_loop()
    end = loop.time() + OVERTAKEN_SECONDS
    looks = 0
    while loop.time() < end:
        if looks > 0:
            await asyncio.sleep(random.random() * 0.002 * min(looks, 20))
        looks += 1
        yield await requests.look(keys)


async def _finish_deletion(requests: Requests, found: Found) -> bool:
    """Finish a deletion that somebody left unfinished, and tell whether there was one."""
    if found.resource.unswept:
        await requests.sweep_resource(found.resource.floor)
        return True
    if found.thread.gone and found.thread.unswept:
        await requests.sweep_thread(found, found.thread.number)
        if found.resource.is_empty:
            await requests.unregister(below=found.resource.generation)
        return True
    return False


async def _plan(requests: Requests, scope: Scope, changes: Changes, found: Found) -> Plan:
    """What the commit will write. It takes requests where records may be known, or a truncation is or was made."""
    nonce = secrets.token_hex(12)
    if isinstance(scope, Thread):
        known = await _known(requests, changes, found)
        remainder = await _remainder(requests, changes, found)
        plan = plan_thread(scope.thread_id, found.resource, found.thread, known, remainder, changes, nonce)
        if found.thread.cut is not None:
            # The state after this commit does not tell of it any more.
            await requests.sweep_cut(found.thread.cut)
        return plan
    return plan_resource(found.resource, changes, nonce)


async def _known(requests: Requests, changes: Changes, found: Found) -> dict[str, Document]:
    """The thread's records with ids that are to be appended, by id, but for those that the commit drops.

    One query is no instant: beside a state it may show a record that was dropped before, and miss one that is new. So
    they are looked for again, unless there is none and the caller saw this very tail before the query began.
    """
    if not changes.append or not found.thread.exists:
        return {}
    hints = found.records
    if not hints and changes.seen == found.thread.tail:
        return {}
    keys = requests.record_keys(record.id for record in changes.append)
    known = await requests.confirmed(found.thread, keys, hints)
    drop = changes.drop_after
    return {record["id"]: record for record in known if drop is None or int(record["p"]) <= drop}


async def _remainder(requests: Requests, changes: Changes, found: Found) -> Remainder | None:
    """What the commit's truncation leaves; None where it drops nothing."""
    drop = changes.drop_after
    if drop is None or not found.thread.exists or drop >= found.thread.position:
        return None
    last = await requests.newest_until(found.thread, drop)
    if last is None:
        return Remainder(0, 0)
    return Remainder(int(last["o"]) + 1, int(last["p"]))


async def _is_newest(requests: Requests, found: Found) -> bool:
    """Whether a thread, and the documents of its resource, are as they were found: one round trip.

    If so, both were so at one moment, and no record was removed that was looked for in between.
    """
    now = await requests.look()
    return (now.thread.number, now.resource.floor, now.resource.docs) == (
        found.thread.number,
        found.resource.floor,
        found.resource.docs,
    )


class _Registration:
    """The entry of one commit in the list of resources, through all of its attempts.

    The first commit to a resource puts it on the list before it happens, so that no resource is missing there.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._generation: int | None = None
        """Of the resource, in the entry; None before there is one."""

    async def renew(self, resource: ResourceState) -> None:
        """Make the entry where the resource is empty, and remove the one for a generation that has ended meanwhile."""
        if self._generation is not None and self._generation != resource.generation:
            await self._requests.unregister(below=resource.generation)
        if resource.is_empty and self._generation != resource.generation:
            self._generation = resource.generation
            await self._requests.register(resource.generation)


async def _tidy_up(requests: Requests, found: Found, plan: Plan) -> None:
    """Remove what a commit has replaced. What is not removed is passed over by all, and removed by a later commit."""
    with suppress(PyMongoError):
        await requests.supersede(found, plan.number)
        await requests.forget_bodies(plan.replaced)
        if plan.cut is not None:
            await requests.sweep_cut(plan.cut)


async def delete_scope(requests: Requests, scope: Scope) -> None:
    """Delete a thread, or erase a resource. Raises StoreUnavailable where commits came first for too long."""
    attempt = _delete_thread if isinstance(scope, Thread) else _erase_resource
    async for found in _looks(requests):
        end = await attempt(requests, found)
        if isinstance(end, Deleted):
            return
    raise StoreUnavailable(f"a deletion was overtaken by commits for {OVERTAKEN_SECONDS:g} s")


async def _delete_thread(requests: Requests, found: Found) -> Deleted | Again:
    """Delete the thread that was found: from found to swept."""
    if await _finish_deletion(requests, found):
        return Again.SWEPT
    if not found.thread.exists:
        if found.resource.is_empty and found.resource.number > 0:
            await requests.unregister(below=found.resource.generation)
        return Deleted.BEFORE
    deletion = plan_deletion(found.resource, found.thread, secrets.token_hex(12))
    if not await requests.insert([deletion]):
        return Again.OVERTAKEN
    after = read_resource(deletion)
    await requests.sweep_thread(found, after.number)
    if after.is_empty:
        await requests.unregister(below=after.generation)
    return Deleted.NOW


async def _erase_resource(requests: Requests, found: Found) -> Deleted | Again:
    """Erase the resource that was found: from found to swept."""
    if await _finish_deletion(requests, found):
        return Again.SWEPT
    if found.resource.is_empty and not await requests.is_registered(found.resource.generation):
        await requests.unregister(below=found.resource.generation)
        return Deleted.BEFORE
    # An entry of an empty resource is of a commit that never came, or is about to: it may be removed only after an
    # erasure that comes first, since the commit, once overtaken, makes itself another one.
    erasure = plan_erasure(found.resource, secrets.token_hex(12))
    if not await requests.insert([erasure]):
        return Again.OVERTAKEN
    await requests.sweep_resource(number_of(erasure))
    return Deleted.NOW
