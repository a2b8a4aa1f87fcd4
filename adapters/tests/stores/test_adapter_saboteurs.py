"""The suite judged on real stores: each saboteur over SQLite, Redis and PostgreSQL is rejected by its law.

Each is really broken, too: a few calls show it, and show nothing on the store that it is made of.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import hypothesis
import pytest
import saboteurs_postgresql
import saboteurs_redis
import saboteurs_sqlite
import servers
from adapter_saboteurs import Plugin
from postgresql_server import POSTGRESQL
from redis_server import REDIS
from script_calls import ALICE, ALL, BOB, OF_ALICE, ended, ids, say

from threadkeep.errors import ThreadkeepError
from threadkeep.port import (
    After,
    Changes,
    Guard,
    Put,
    Resource,
    Thread,
    Window,
    open_store,
    replace_place,
    scan_backend,
)
from threadkeep_contract.faults.proxy import Cut, Proxy
from threadkeep_contract.report import judge

PLUGINS: Final[dict[str, Plugin]] = {
    **saboteurs_sqlite.PLUGINS,
    **saboteurs_redis.PLUGINS,
    **saboteurs_postgresql.PLUGINS,
}
_KINDS: Final[list[type[Any]]] = [*saboteurs_sqlite.BROKEN, *saboteurs_redis.BROKEN, *saboteurs_postgresql.BROKEN]
BROKEN: Final = {kind.fault: kind for kind in _KINDS}
WORKERS_OWN: Final = "a worker process"
"""How a broken promise begins that says nothing of the store: a worker process did not start."""


Open: TypeAlias = Callable[[], Guard]
"""Opens one more handle on the place."""


@pytest.fixture
def _found_is_enough() -> Iterator[None]:
    """Hypothesis does not look for the smallest failing example: here one is as good as another."""
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    before = hypothesis.settings.get_current_profile_name()
    hypothesis.settings.register_profile("found is enough", phases=phases)
    hypothesis.settings.load_profile("found is enough")
    yield
    hypothesis.settings.load_profile(before)


def place_of(fault: str, name: str, folder: Path) -> str:
    """The URL of a sound store, at a place of its own where the server is shared."""
    place = re.sub(r"\W", "_", f"{fault}_{name}")
    match fault.partition("-")[0]:
        case "sqlite":
            return f"sqlite:///{folder / place}.db"
        case "redis":
            return f"{servers.shared(REDIS).url}?prefix={place}"
    return f"{servers.shared(POSTGRESQL).url}?schema={place[:60]}"


@pytest.mark.slow
@pytest.mark.usefixtures("_found_is_enough")
@pytest.mark.parametrize("fault", [fault for fault in PLUGINS if not getattr(BROKEN[fault], "slips", "")])
def test_every_saboteur_is_rejected_by_its_law(fault: str, seed: int, tmp_path: Path) -> None:
    number = BROKEN[fault].caught_by
    url = PLUGINS[fault].url(place_of(fault, "judged", tmp_path))
    report = judge(url, laws=[number], profile="default", seed=seed, until_broken=True)
    findings = report.law(number).broken
    found = [finding for finding in findings if finding.violation and not finding.promise.startswith(WORKERS_OWN)]
    assert found, [(finding.check, finding.seen) for finding in findings]


@pytest.mark.parametrize("fault", PLUGINS)
def test_every_saboteur_says_what_is_broken_and_where_it_was_seen(fault: str) -> None:
    kind = BROKEN[fault]
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", fault)
    assert kind.seen_in
    assert re.fullmatch(r"[A-Z`].* .*[.)]", " ".join((kind.__doc__ or "").split()))


# The faults are real


async def _anchors(at: Open, url: str) -> object:
    store = at()
    await say(store, BOB, "b0", "b1", "b2", "here")
    await say(store, ALICE, "a1", "a2", "a3", "a4", "A9")
    return [await ids(store, ALICE, Window(anchor, 1, 1)) for anchor in ("here", "a9")]


async def _tied_threads(at: Open, url: str) -> object:
    store = at()
    for name in ("b", "a", "c"):
        await say(store, Thread("alice", name))
    first = await store.threads(OF_ALICE, limit=1, order="active")
    rest = await store.threads(OF_ALICE, After(first[-1].active, first[-1].thread_id), order="active")
    return [row.thread_id for row in (*first, *rest)]


async def _dropped(at: Open, url: str) -> object:
    store = at()
    await say(store, ALICE, "a1", "a2")
    await say(store, ALICE, drop_after=1)
    return (await say(store, ALICE, "a2", "a3")).positions, await ids(store, ALICE)


async def _thread_of_next_user(at: Open, url: str) -> object:
    store = at()
    await say(store, ALICE, "a1", puts=(Put("title", '"secret"'),))
    await store.delete(ALICE)
    await say(store, BOB, "b1")
    return {**(await store.load(BOB, ALL)).docs}


async def _many_records(at: Open, url: str) -> object:
    store = at()
    for part in range(2):
        await say(store, ALICE, *(f"m{number}" for number in range(part * 600, part * 600 + 600)))
    whole = await ids(store, ALICE)
    how = await ended(say(store, ALICE, *(f"m{number}" for number in range(150))))
    await say(store, ALICE, drop_after=10)
    return len(whole), how, len(await ids(store, ALICE))


def _found(url: str, name: str) -> bool:
    """Whether the backend holds a name."""
    return name.encode() in b"".join(scan_backend(url) or ())


async def _many_threads(at: Open, url: str) -> object:
    store, erased = at(), uuid.uuid4().hex
    await asyncio.gather(*(say(store, Thread(erased, f"t{number}")) for number in range(1001)))
    await store.delete(Resource(erased))
    return _found(url, erased)


async def _odd_thread(at: Open, url: str) -> object:
    store, erased = at(), uuid.uuid4().hex
    await say(store, Thread(erased, "a:b"))
    await store.delete(Resource(erased))
    return _found(url, erased)


async def _many_documents(at: Open, url: str) -> object:
    return await ended(say(at(), ALICE, puts=tuple(Put(f"slot {number}", "1") for number in range(5000))))


async def _touched(at: Open, url: str) -> object:
    store = at()
    await say(store, ALICE, "a1", at=5)
    await say(store, ALICE, "a2", at=9)
    await say(store, ALICE, "a3", at=2)
    return [(row.thread_id, row.active) for row in await store.threads(OF_ALICE, order="active")]


async def _deleted(at: Open, url: str) -> object:
    store, deleted = at(), uuid.uuid4().hex
    await say(store, ALICE, "a1")
    await say(store, Thread("alice", deleted), "a1")
    await store.delete(Thread("alice", deleted))
    return _found(url, deleted)


async def _documents_alone(at: Open, url: str) -> object:
    store = at()
    await store.commit(OF_ALICE, Changes(1, puts=(Put("notes", "1"),)))
    return "alice" in await store.resources()


async def _both_orders(at: Open, url: str) -> object:
    store = at()
    for number in range(3):
        await say(store, Thread("alice", f"t{number}"), at=number)
    created = await store.threads(OF_ALICE, limit=2)
    rest = await store.threads(OF_ALICE, After(created[-1].created, created[-1].thread_id))
    active = await store.threads(OF_ALICE, order="active")
    return [[row.thread_id for row in rows] for rows in (created, rest, active)]


async def _lists_of_two(at: Open, url: str) -> object:
    store = at()
    for number in range(4):
        await say(store, Thread(f"user {number}", f"t{number}"))
    found = []
    for _ in range(5):
        lists = await asyncio.gather(*(store.threads(Resource(f"user {number}")) for number in range(4)))
        found.append([[row.thread_id for row in rows] for rows in lists])
    return found


async def _torn(at: Open, url: str) -> object:
    """Whether a reader beside a writer sees half a commit, or half an erasure."""
    store, reader = at(), at()
    torn = False

    async def write() -> None:
        for number in range(60):
            body = f'"{number}"'
            puts = (Put("title", body),)
            await say(store, ALICE, f"m{number}", puts=puts, resource_puts=(Put("notes", body),))
            if number % 5 == 4:
                await store.delete(OF_ALICE)

    writing = asyncio.ensure_future(write())
    while not writing.done():
        snapshot = await reader.load(ALICE, Window(before=1))
        bodies = {body for doc in (*snapshot.docs.values(), *snapshot.resource_docs.values()) if (body := doc.body)}
        bodies |= {stored.body.replace("m", "") for stored in snapshot.records}
        torn = torn or len(bodies) > 1 or len(snapshot.docs) != len(snapshot.resource_docs)
    await writing
    return torn


async def _first_writers(at: Open, url: str) -> object:
    store = at()
    await store.open()
    made = []
    for number in range(20):
        both = [ended(say(store, Thread("alice", f"t{number}"), f"m{who}")) for who in range(4)]
        made += await asyncio.gather(*both)
    return set(made)


async def _versions_in_race(at: Open, url: str) -> object:
    store = at()
    await say(store, ALICE)
    won = []
    for number in range(20):
        threads = [Thread("alice", f"t{who}") for who in range(4)]
        puts = (Put("notes", "1", number),)
        won.append(
            (await asyncio.gather(*(ended(say(store, one, resource_puts=puts)) for one in threads))).count("done")
        )
    return won


async def _own_versions_in_race(at: Open, url: str) -> object:
    store = at()
    await say(store, ALICE)
    won = []
    for number in range(20):
        racing = [ended(say(store, ALICE, puts=(Put("title", "1", number),))) for _ in range(4)]
        won.append((await asyncio.gather(*racing)).count("done"))
    return won


async def _erased_beside_first(at: Open, url: str) -> object:
    """Whether a resource is listed and not there, or has half of a commit."""
    store = at()
    await store.open()
    odd = False
    for number in range(60):
        thread = Thread("alice", f"t{number}")
        putting = say(store, thread, "m", resource_puts=(Put("notes", "1"),))
        await asyncio.gather(putting, _turns_later(number % 6, store.delete(OF_ALICE)))
        snapshot = await store.load(thread, ALL)
        there = [bool(snapshot.records), bool(snapshot.resource_docs), "alice" in await store.resources()]
        odd = odd or len(set(there)) > 1
        await store.delete(OF_ALICE)
    return odd


async def _turns_later(turns: int, call: Awaitable[object]) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    await call


async def _after_cancellation(at: Open, url: str) -> object:
    """Whether a commit that was cancelled and not done is done by a later load."""
    store, other = at(), at()
    await say(store, ALICE, "a0")
    done_later = False
    for turns in range(0, 400, 4):
        task = asyncio.ensure_future(say(store, ALICE, f"a{turns + 1}"))
        # The loop turns about a hundred times while a server answers, so that these are moments of all kinds.
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        seen = await ids(other, ALICE)
        with suppress(ThreadkeepError):
            await store.load(ALICE, ALL)
        done_later = done_later or await ids(other, ALICE) != seen
    return done_later


async def _uncounted(at: Open, url: str) -> object:
    """Whether the store asks for more than its meter says; its connections are asked for by this side of them."""
    store = at()
    slots = tuple(Put(f"slot {number}", "1") for number in range(5))
    await say(store, ALICE, *(f"m{number}" for number in range(50)), resource_puts=slots)
    requests: Any = store.store._requests  # type: ignore[attr-defined] # only Redis's stores come here
    asked: list[Any] = []
    run, call = requests.run, requests.call

    async def count_run(*given: Any) -> Any:
        found = await run(*given)
        asked.append(found)
        return found

    async def count_call(*given: Any) -> Any:
        found = await call(*given)
        asked.append(found)
        return found

    requests.run, requests.call = count_run, count_call
    before = store.meter.trips, store.meter.rows
    await store.load(ALICE, Window(before=1))
    fetched = sum(len(found[2]) for found in asked if isinstance(found, list))
    return len(asked) - (store.meter.trips - before[0]), fetched


async def _lost_file(at: Open, url: str) -> object:
    store = at()
    await say(store, ALICE, "a1")
    replace_place(url, None)
    deleted = await ended(say(store, ALICE, "a2"))
    await say(at(), ALICE, "b1")
    return deleted, await ended(say(store, ALICE, "a3"))


SCRIPTS: Final[dict[str, Callable[[Open, str], Awaitable[object]]]] = {
    "sqlite-anchor-of-any-thread": _anchors,
    "sqlite-anchor-without-case": _anchors,
    "sqlite-active-ties-rising": _tied_threads,
    "sqlite-newest-follows-tail": _dropped,
    "sqlite-documents-outlive-thread": _thread_of_next_user,
    "sqlite-first-500-rows-of-batch": _many_records,
    "sqlite-documents-in-second-transaction": _torn,
    "sqlite-erasure-in-two-transactions": _torn,
    "sqlite-resource-read-apart": _torn,
    "sqlite-resources-of-threads-alone": _documents_alone,
    "sqlite-window-clamped-to-1000": _many_records,
    "sqlite-list-statement-kept-by-order": _both_orders,
    "sqlite-lost-file-goes-on": _lost_file,
    "sqlite-lost-file-known-by-name": _lost_file,
    "redis-active-entry-stays": _touched,
    "redis-delete-forgets-active-list": _deleted,
    "redis-dropped-ids-stay": _dropped,
    "redis-drops-first-200": _many_records,
    "redis-erases-first-1000": _many_threads,
    "redis-erasure-forgets-to-escape": _odd_thread,
    "redis-unpack-takes-too-many": _many_documents,
    "redis-documents-in-second-script": _torn,
    "redis-registered-behind-commit": _erased_beside_first,
    "redis-trips-not-counted": _uncounted,
    "redis-rows-not-counted": _uncounted,
    "postgresql-resource-lock-forgotten": _versions_in_race,
    "postgresql-select-without-for-update": _own_versions_in_race,
    "postgresql-erasure-without-lock": _erased_beside_first,
    "postgresql-create-race-fails": _first_writers,
    "postgresql-known-ids-of-first-100": _many_records,
    "postgresql-activity-goes-back": _touched,
    "postgresql-tenant-on-connection": _lists_of_two,
    "postgresql-left-in-transaction": _after_cancellation,
    "postgresql-statement-kept-by-parameters": _both_orders,
    "postgresql-resource-read-apart": _torn,
}
"""But for a commit that is sent again: that needs a lost answer, as in the next test."""


@pytest.mark.slow
@pytest.mark.parametrize("fault", SCRIPTS)
def test_the_fault_is_real(fault: str, tmp_path: Path) -> None:
    async def run(url: str) -> object:
        async with AsyncExitStack() as opened:

            def at() -> Guard:
                store = open_store(url)
                opened.push_async_callback(store.close)
                return store

            return await SCRIPTS[fault](at, url)

    broken = asyncio.run(run(PLUGINS[fault].url(place_of(fault, "broken", tmp_path))))
    sound = asyncio.run(run(place_of(fault, "sound", tmp_path)))
    assert broken != sound


@pytest.mark.slow
def test_a_commit_whose_answer_is_lost_is_sent_again() -> None:
    async def run(url: str, proxy: Proxy) -> object:
        store = open_store(url)
        await say(store, BOB, "b1")  # from now on the connection knows the statement
        cut = proxy.cut_next(Cut.AFTER_REQUEST)
        how = await ended(say(store, ALICE, "a1", puts=(Put("title", "1"),)))
        version = (await store.load(ALICE, ALL)).docs["title"].version
        await store.close()
        return how, version, cut.done()

    fault = "postgresql-lost-commit-sent-again"
    server = servers.shared(POSTGRESQL)
    parts = urlsplit(server.url)
    with Proxy(server.host or parts.hostname or "", server.port or parts.port or 0) as proxy:
        through = POSTGRESQL.url("127.0.0.1", proxy.port)
        found = [
            asyncio.run(run(url, proxy))
            for url in (f"{through}?schema=sent_once", f"{PLUGINS[fault].url(through)}?schema=sent_twice")
        ]
    assert found == [("OutcomeUnknown", 1, True), ("done", 2, True)]
