"""Saboteurs over Redis servers: most have one changed line in a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha1
from typing import Any, ClassVar, Final

from adapter_saboteurs import plugins, swapped

from threadkeep.port import Changes, Costs, Receipt, Resource, Scope, Snapshot, Thread, Window
from threadkeep_adapters.redis import scripts, wire
from threadkeep_adapters.redis import store as sound
from threadkeep_adapters.redis.layout import ResourceKeys
from threadkeep_adapters.redis.requests import Requests
from threadkeep_adapters.redis.scripts import Script
from threadkeep_adapters.redis.store import RedisStore
from threadkeep_adapters.redis.url import Place, read_url

ALL_OF_IT: Final = 2**31 - 1
"""More records than a thread has."""

BEYOND_STACK: Final = 100_000
"""More values than Lua's stack takes in one call."""


def changed(script: Script, *swaps: tuple[str, str]) -> Script:
    """A script with other lines."""
    text = swapped(script.text.decode(), *swaps).encode()
    return Script(text, sha1(text, usedforsecurity=False).hexdigest())


class PatchedRequests(Requests):
    """Requests in which a script stands for another."""

    instead: Mapping[str, Script] = {}
    """By the digest of the sound script."""

    async def run(self, script: Script, keys: Sequence[bytes], *given: Any) -> Any:
        return await super().run(self.instead.get(script.sha, script), keys, *given)


class PatchedStore(RedisStore):
    """A store with changed scripts."""

    scripts: ClassVar[Sequence[tuple[Script, Script]]] = ()
    """The sound ones, each with what runs in its place."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        requests = PatchedRequests(place, self._servers)
        requests.instead = {there.sha: instead for there, instead in self.scripts}
        self._requests = requests


class ActiveEntryStays(PatchedStore):
    """A commit adds the thread's new place in the list by activity and leaves the old one: a thread is listed twice."""

    fault: ClassVar = "redis-active-entry-stays"
    caught_by: ClassVar = 8
    seen_in: ClassVar = "sorted sets whose member holds its own sort key"
    scripts = ((scripts.COMMIT, changed(scripts.COMMIT, ("redis.call('ZREM', active_list, active .. thread_id)", ""))),)


class DeleteForgetsActiveList(PatchedStore):
    """A deletion takes the thread out of the list by creation, and forgets the one by activity: its id stays there."""

    fault: ClassVar = "redis-delete-forgets-active-list"
    caught_by: ClassVar = 10
    seen_in: ClassVar = "several stores, whose second index outlives what it points to"
    scripts = (
        (
            scripts.DELETE_THREAD,
            changed(scripts.DELETE_THREAD, ("redis.call('ZREM', active_list, found[2] .. thread_id)", "")),
        ),
        (
            scripts.THREADS,
            # What is listed and not there is passed over.
            changed(
                scripts.THREADS,
                (
                    "  table.insert(row, 1, thread_id)\n  page[number] = row\n",
                    "  if row[1] then\n    table.insert(row, 1, thread_id)\n    page[#page + 1] = row\n  end\n",
                ),
            ),
        ),
    )


class DroppedIdsStay(PatchedStore):
    """A truncation drops records and leaves their ids: appended again, they are taken for repeats."""

    fault: ClassVar = "redis-dropped-ids-stay"
    caught_by: ClassVar = 10
    seen_in: ClassVar = "sets of seen ids beside a list that is trimmed"
    scripts = ((scripts.COMMIT, changed(scripts.COMMIT, ("redis.call('HDEL', ids, unpack(gone))", ""))),)


class DropsFirstTwoHundred(PatchedStore):
    """A truncation drops as many records as one step takes, and no more."""

    fault: ClassVar = "redis-drops-first-200"
    caught_by: ClassVar = 10
    seen_in: ClassVar = "deletions in steps whose loop ends after the first"
    scripts = (
        (
            scripts.COMMIT,
            changed(
                scripts.COMMIT,
                (
                    "redis.call('ZREMRANGEBYSCORE', log, '(' .. text(drop_after), last)\n    end",
                    "redis.call('ZREMRANGEBYSCORE', log, '(' .. text(drop_after), last)\n      break\n    end",
                ),
            ),
        ),
    )


class ErasesFirstThousand(PatchedStore):
    """An erasure removes the first thousand threads, and both lists."""

    fault: ClassVar = "redis-erases-first-1000"
    caught_by: ClassVar = 10
    seen_in: ClassVar = "deletions in steps whose loop ends after the first"
    scripts = (
        (
            scripts.DELETE_RESOURCE,
            changed(
                scripts.DELETE_RESOURCE,
                (
                    "redis.call('ZREMRANGEBYRANK', created_list, 0, #members - 1)\nend",
                    "redis.call('UNLINK', created_list)\nend",
                ),
            ),
        ),
    )


class ErasureForgetsToEscape(PatchedStore):
    """An erasure makes the keys of threads without the escapes that commits put into them: odd ids leave their keys."""

    fault: ClassVar = "redis-erasure-forgets-to-escape"
    caught_by: ClassVar = 10
    seen_in: ClassVar = "keys built in two places: in the client and in a script"
    scripts = (
        (
            scripts.DELETE_RESOURCE,
            changed(
                scripts.DELETE_RESOURCE,
                ("string.gsub(string.sub(member, 20), '[%%:{}]', escapes)", "string.sub(member, 20)"),
            ),
        ),
    )


class UnpackTakesTooMany(PatchedStore):
    """A script hands all fields of a commit to one command: with some thousand documents Lua refuses."""

    fault: ClassVar = "redis-unpack-takes-too-many"
    caught_by: ClassVar = 11
    seen_in: ClassVar = "Lua: `too many results to unpack`"
    scripts = ((scripts.COMMIT, changed(scripts.COMMIT, ("local STEP = 4000", f"local STEP = {BEYOND_STACK}"))),)


class DocumentsInSecondScript(PatchedStore):
    """A commit is two scripts: one for the records, and one for the thread's documents."""

    fault: ClassVar = "redis-documents-in-second-script"
    caught_by: ClassVar = 4
    seen_in: ClassVar = "repositories of messages and of memory, each with a script of its own"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        if isinstance(scope, Resource) or not changes.append or not changes.puts:
            return await super().commit(scope, changes)
        first = await super().commit(scope, replace(changes, puts=()))
        later = Changes(changes.at, changes.epoch, puts=changes.puts)
        second = await super().commit(scope, later)
        return replace(first, versions=second.versions)


class RegisteredBehindCommit(PatchedStore):
    """A resource goes into the list in a command behind its first commit: who erases it in between is overruled."""

    fault: ClassVar = "redis-registered-behind-commit"
    caught_by: ClassVar = 5
    seen_in: ClassVar = "SADD of the user behind the script that saved the message"
    costs = Costs(load=1, commit=1, first_commit=2)
    scripts = (
        (
            scripts.COMMIT,
            changed(scripts.COMMIT, ("redis.call('ZADD', registry, 0, resource_id)", "token_used = 1")),
        ),
    )

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        keys = ResourceKeys(self.place.prefix, scope.resource_id)
        thread_id = scope.thread_id if isinstance(scope, Thread) else ""
        named = (*keys.of_thread(thread_id), keys.created, keys.active, keys.docs, self._requests.index)
        self.meter.rows += len(changes.append) + len(changes.puts) + len(changes.resource_puts)
        given = wire.commit_arguments(scope, changes, wire.INDEXED)
        reply = await self._requests.run(scripts.COMMIT, named, *given)
        if reply[0] == b"done" and reply[1]:
            await self._requests.call(self._requests.index, "ZADD", self._requests.index, 0, scope.resource_id)
        return wire.receipt(reply, scope)


class TripsNotCounted(PatchedStore):
    """A load asks for the resource's documents once more, one by one, and does not count that."""

    fault: ClassVar = "redis-trips-not-counted"
    caught_by: ClassVar = 13
    seen_in: ClassVar = "meters in the verb, where the driver is called by something below it"

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        snapshot = await super().load(scope, window)
        trips = self.meter.trips
        keys = ResourceKeys(self.place.prefix, scope.resource_id)
        for slot in snapshot.resource_docs:
            await self._requests.call(keys.docs, "HGET", keys.docs, slot)
        self.meter.trips = trips
        return snapshot


class RowsNotCounted(PatchedStore):
    """A load of the newest records fetches the thread whole, cuts the window out of it, and counts what is left."""

    fault: ClassVar = "redis-rows-not-counted"
    caught_by: ClassVar = 13
    seen_in: ClassVar = "LangGraph, Dapr, ADK and OpenAI defaults: LRANGE 0 -1"

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        if isinstance(scope, Resource) or window.anchor is not None:
            return await super().load(scope, window)
        whole = await super().load(scope, Window(before=ALL_OF_IT))
        wanted = whole.records[max(0, len(whole.records) - window.before) :]
        self.meter.rows -= len(whole.records) - len(wanted)
        return replace(whole, records=wanted)


BROKEN: Final[Sequence[type[RedisStore]]] = [
    ActiveEntryStays,
    DeleteForgetsActiveList,
    DroppedIdsStay,
    DropsFirstTwoHundred,
    ErasesFirstThousand,
    ErasureForgetsToEscape,
    UnpackTakesTooMany,
    DocumentsInSecondScript,
    RegisteredBehindCommit,
    TripsNotCounted,
    RowsNotCounted,
]

PLUGINS: Final = plugins("redis", BROKEN, sound, read_url)
"""By fault, and registered."""
