"""The faults that cut connections, jumping clocks and a proxy's counts bring to light are real: a few calls show each,
and show nothing on the sound store that it is made of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import pytest
from script_calls import ALICE, ALL, BOB, OF_ALICE, ids, say

import threadkeep_contract.saboteurs as plugin
from threadkeep.errors import ThreadkeepError
from threadkeep.port import Changes, Guard, Put, Record, Thread, Window, clock, open_store, proxied, register
from threadkeep_contract.faults import clocks
from threadkeep_contract.faults.proxy import Cut, Proxy
from threadkeep_contract.saboteurs import SABOTEURS, WireStore

YEAR: Final = 365 * clocks.DAY


async def ended(call: Awaitable[object]) -> object:
    """What a call gave, or its error in a word."""
    try:
        return await call
    except ThreadkeepError as error:
        return type(error).__name__


@dataclass
class Way:
    """A place, the way to it through a proxy, and what was opened there."""

    url: str
    opened: AsyncExitStack
    proxies: list[Proxy] = field(default_factory=list)

    def at(self) -> Guard:
        """One more handle that goes straight to the place."""
        return self._open(self.url)

    def through(self) -> tuple[Guard, Proxy]:
        """A handle on the place through a proxy of its own."""

        def proxy(host: str, port: int) -> tuple[str, int]:
            self.proxies.append(self.opened.enter_context(Proxy(host, port)))
            return "127.0.0.1", self.proxies[-1].port

        url = proxied(self.url, proxy)
        assert url is not None
        return self._open(url), self.proxies[-1]

    def _open(self, url: str) -> Guard:
        store = open_store(url)
        self.opened.push_async_callback(store.close)
        return store


Script: TypeAlias = Callable[[Way], Awaitable[object]]


# Connections


async def _cut_in_second_request(way: Way) -> object:
    store, proxy = way.through()
    await say(store, ALICE, "a1", "a2")
    proxy.cut_next(Cut.BEFORE_REQUEST, after=1)
    await ended(say(store, ALICE, "b1", puts=(Put("title", "1"),), drop_after=1))
    found = await way.at().load(ALICE, ALL)
    return [stored.id for stored in found.records], dict(found.docs)


async def _answer_lost(way: Way) -> object:
    store, proxy = way.through()
    await store.open()
    proxy.cut_next(Cut.AFTER_REQUEST)
    how = await ended(say(store, ALICE, puts=(Put("title", "1"),)))
    return how, (await way.at().load(ALICE)).docs["title"].version


async def _after_a_cut(way: Way) -> object:
    store, proxy = way.through()
    await say(store, ALICE, "a1")
    proxy.cut_next(Cut.BEFORE_REQUEST)
    await ended(ids(store, ALICE))
    return await ended(ids(store, ALICE))


async def _reading_lost(way: Way) -> object:
    store, proxy = way.through()
    await say(store, ALICE, "a1")
    proxy.cut_next(Cut.IN_ANSWER)
    return await ended(ids(store, ALICE))


async def _reading_lost_beside_another(way: Way) -> object:
    store, proxy = way.through()
    await say(store, ALICE, "a1")
    await say(store, BOB, "b1")
    proxy.cut_next(Cut.BEFORE_REQUEST)
    own, other = await asyncio.gather(ended(ids(store, ALICE)), ended(ids(store, BOB)))
    return own in (["a1"], "StoreUnavailable"), other in (["b1"], "StoreUnavailable")


async def _idle_ones_lost(way: Way) -> object:
    store, proxy = way.through()
    await say(store, ALICE, "a1")
    await asyncio.gather(*(ids(store, ALICE) for _ in range(8)))
    proxy.forget_all()
    return await ended(ids(store, ALICE))


# The meter


async def _uncounted_trips(way: Way) -> object:
    store, proxy = way.through()
    await say(store, ALICE, "a1")
    before = proxy.turns, store.meter.trips
    await store.load(ALICE, ALL)
    return proxy.turns - before[0], store.meter.trips - before[1]


async def _uncounted_rows(way: Way) -> object:
    store, proxy = way.through()
    for number in range(10):
        body = f'"{"x" * 1000}"'
        record = Record(f"m{number}", "d", body)
        await store.commit(ALICE, Changes(1, "e", (record,)))
        await store.commit(Thread("alice", f"t{number}"), Changes(1, "e", puts=(Put("info", body),)))
    before = proxy.bytes
    await store.load(ALICE, Window(before=1))
    await store.threads(OF_ALICE, limit=1, slots=("info",))
    return proxy.bytes - before > 10_000


# Clocks


async def _a_year_later(way: Way) -> object:
    store = way.at()
    await say(store, ALICE, "a1")
    with clocks.of_process() as move:
        move(YEAR)
        return await ids(store, ALICE)


async def _a_year_later_on_the_server(way: Way) -> object:
    store = way.at()
    await say(store, ALICE, "a1")
    assert clock(way.url, YEAR)
    found = await ids(store, ALICE)
    clock(way.url, 0)
    return found


async def _a_year_back(way: Way) -> object:
    store = way.at()
    await say(store, ALICE, "a1")
    first = [row.thread_id for row in await store.threads(OF_ALICE)]
    with clocks.of_process() as move:
        move(-YEAR)
        await say(store, ALICE, "a2")
        await say(store, Thread("alice", "u"), "a1")
        return first, await ids(store, ALICE), [row.thread_id for row in await store.threads(OF_ALICE)]


async def _a_year_on_the_way(way: Way) -> object:
    store = way.at()
    await say(store, ALICE, "a1")
    with clocks.of_process() as move:
        loading = asyncio.ensure_future(ended(ids(store, ALICE)))
        await asyncio.sleep(0)
        move(YEAR)
        return await loading


SCRIPTS: Final[dict[str, Script]] = {
    "wire-documents-in-second-request": _cut_in_second_request,
    "wire-truncation-in-two-requests": _cut_in_second_request,
    "wire-lost-commit-sent-again": _answer_lost,
    "wire-lost-answer-told-as-outage": _answer_lost,
    "wire-breaker-never-closes": _after_a_cut,
    "wire-lost-reading-is-empty": _reading_lost,
    "wire-retry-sends-last-request": _reading_lost_beside_another,
    "wire-repeats-on-the-next-dead-one": _idle_ones_lost,
    "wire-trips-under-the-meter": _uncounted_trips,
    "wire-rows-under-the-meter": _uncounted_rows,
    "wire-list-under-the-meter": _uncounted_rows,
    "threads-expire-by-the-clock": _a_year_later,
    "wire-threads-expire-on-the-server": _a_year_later_on_the_server,
    "ordered-by-time-of-writing": _a_year_back,
    "page-kept-until-a-time": _a_year_back,
    "deadline-by-the-clock": _a_year_on_the_way,
}


@pytest.mark.parametrize("fault", SCRIPTS)
def test_the_fault_is_real(fault: str) -> None:
    register("saboteur", plugin)
    base = "sound-wire" if issubclass(SABOTEURS[fault], WireStore) else "sound-dict"

    async def run(name: str) -> object:
        async with AsyncExitStack() as opened:
            return await SCRIPTS[fault](Way(f"saboteur://{name}/{fault}", opened))

    assert asyncio.run(run(fault)) != asyncio.run(run(base))


def test_every_store_on_a_wire_is_shown_here() -> None:
    assert {fault for fault, kind in SABOTEURS.items() if issubclass(kind, WireStore)} <= set(SCRIPTS)


def test_the_clock_of_the_process_is_right_again() -> None:
    before = time.time()
    with clocks.of_process() as move:
        move(YEAR)
        assert time.time() > before + YEAR - clocks.DAY
        move(-YEAR)
        assert time.time() < before - YEAR + clocks.DAY
    assert 0 <= time.time() - before < clocks.DAY
