"""Law 13: cost.

Each store declares how many round trips `load` and `commit` take; the suite counts them. One each is the aim. Every
cost is independent of the number of other threads and resources, and, but for full reads, of the length of the thread.

A store counts in its `meter`, at the place where it calls its driver: `trips` are requests sent and awaited (for an
embedded database, transactions), `rows` are the records, documents and threads that crossed between the adapter and the
backend. Four rows more than asked for are allowed: the thread's own, its counters, one looked at ahead. Time is not
measured here.

A meter may be wrong. Where the store can be reached through a proxy (the plugin's hook `proxied`), what the meter says
is compared with what goes over the wire.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha512
from typing import Any, Final

from threadkeep.port import After, Changes, Order, Put, Resource, Thread, Window
from threadkeep_contract.evidence import least
from threadkeep_contract.faults.cutting import Wire, through_proxy
from threadkeep_contract.harness import Harness, Law, record
from threadkeep_contract.history import Counted, Recorded
from threadkeep_contract.reference.beside import Given
from threadkeep_contract.reference.machine import Verb

SHORT: Final = 10
"""Messages in a short thread."""

LAST: Final = 5
"""Messages that a load takes from the end of a thread."""

PAGE: Final = 10
"""Threads or resources in a page."""

SLACK: Final = 4
"""Rows that a call may move beyond those it was asked for: the thread's own, its counters, one looked at ahead."""


METERED: Final = 64
"""Messages in a thread, and threads in a resource, whose transfer is compared with what the meter says."""

BODY: Final = 4096
"""Bytes of text in each of these."""

ROW_BYTES: Final = 2 * BODY + 2048
"""Bytes that a row may take on the wire: its text as hexadecimal digits, say, and what is written around it."""

CALL_BYTES: Final = 16_384
"""Bytes that a call may take beside its rows: statements, names, headers."""

TRIES: Final = 3
"""How often a call is made: what a driver sends beside calls, such as heartbeats, hardly meets all of them."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a call took: round trips, and rows that crossed between the adapter and the backend."""

    trips: int
    rows: int


async def _spent(handle: Counted, verb: Callable[..., Awaitable[object]], *args: Any) -> Spent:
    trips, rows = handle.meter.trips, handle.meter.rows
    await verb(*args)
    return Spent(handle.meter.trips - trips, handle.meter.rows - rows)


async def _thread(harness: Harness, handle: Recorded, length: int) -> Thread:
    """A thread of so many messages, without documents, in a resource of its own."""
    thread = Thread(harness.fresh() + "user", "thread")
    size = min(100, handle.limits.commit_messages)
    for first in range(0, length, size):
        records = tuple(record(f"m{number}") for number in range(first, min(length, first + size)))
        await handle.commit(thread, Changes(1, harness.epoch(), records))
    return thread


async def _remember(harness: Harness, handle: Recorded, thread: Thread) -> None:
    """Give a thread and its resource working memory."""
    puts = (Put("work", '{"a": 1}'), Put("info", '{"title": "t"}'))
    await handle.commit(thread, Changes(2, harness.epoch(), puts=puts, resource_puts=puts))


async def _crowd(harness: Harness, handle: Recorded, user: str) -> None:
    """Many other threads of a resource, and as many other resources with ids that begin like its own."""
    for number in range(harness.profile.bystanders):
        for other in (Thread(user, f"other{number:04}"), Thread(f"{user}{number}", "thread")):
            changes = Changes(10 + number, harness.epoch(), (record("m0"), record("m1")), (Put("work", "1"),))
            await Counted.commit(handle, other, changes)


def _commits(harness: Harness, most: int) -> dict[str, Changes]:
    """Commits that have nothing in common but what they ought to cost, to be done in this order."""
    put = (Put("new", "1"),)
    return {
        "one message": Changes(3, harness.epoch(), (record("one"),)),
        "50 messages": Changes(3, harness.epoch(), tuple(record(f"few{index}") for index in range(50))),
        f"{most} messages": Changes(3, harness.epoch(), tuple(record(f"many{index}") for index in range(most))),
        "a document": Changes(3, harness.epoch(), puts=put),
        "a document of the resource": Changes(3, harness.epoch(), resource_puts=put),
        "messages and documents": Changes(3, harness.epoch(), (record("last0"), record("last1")), put, put),
        "nothing": Changes(3, harness.epoch()),
    }


async def _commit(handle: Recorded, scope: Thread, changes: Changes) -> Spent:
    """The cost of a commit by a caller that has just seen the thread."""
    seen = (await Counted.load(handle, scope)).tail
    return await _spent(handle, handle.commit, scope, replace(changes, seen=seen))


def _expect(harness: Harness, promise: str, declared: int, most: int | None, spent: Spent) -> None:
    """LawBroken unless a call took the round trips declared or, with `most`, one to so many."""
    if most is None:
        harness.expect(promise, declared, spent.trips)
    else:
        harness.require(promise, 0 < spent.trips <= most, f"1 to {most}", f"{spent.trips}")


def _incompressible(seed: str, size: int = BODY) -> str:
    """So many hexadecimal digits by chance, which no compression makes shorter than half."""
    return "".join(sha512(f"{seed}{part}".encode()).hexdigest() for part in range(size // 128))


async def _metered(harness: Harness, handle: Recorded) -> dict[str, Callable[[int], Given]]:
    """Make a large thread and a large list; the calls that each take little of them, given the number of the try."""
    user = harness.fresh() + "user"
    thread, resource = Thread(user, "long"), Resource(user)
    for first in range(0, METERED, 16):
        records = tuple(record(f"m{number}", _incompressible(f"m{number}")) for number in range(first, first + 16))
        await handle.commit(thread, Changes(1, harness.epoch(), records))
    await _remember(harness, handle, thread)
    for number in range(METERED):
        put = Put("info", f'"{_incompressible(f"t{number}")}"')
        await handle.commit(Thread(user, f"t{number:02}"), Changes(10 + number, harness.epoch(), puts=(put,)))
    middle, put = After(10 + METERED // 2, "t"), Put("work", "1")
    documents = Changes(3, "epoch", puts=(put,), resource_puts=(put,))
    orders: tuple[Order, ...] = ("created", "active")
    pages = {
        f"a page of threads by {order!r} {name}": partial(_given, "threads", resource, place, 3, order, ("info",))
        for order in orders
        for name, place in (("from the first", None), ("from the middle", middle))
    }
    return {
        "a load of the newest message": partial(_given, "load", thread, Window(before=1)),
        "a load around a message": partial(_given, "load", thread, Window("m30", 1, 1)),
        "a load around a position": partial(_given, "load", thread, Window(30, 1, 1)),
        "a load of documents": partial(_given, "load", thread, Window()),
        "a load of a resource": partial(_given, "load", resource, Window()),
        "a load of a missing thread": partial(_given, "load", Thread(user, "missing"), Window(before=1)),
        "a commit of a message": lambda n: Given("commit", (thread, Changes(3, "epoch", (record(f"new{n}"),)))),
        "a commit of documents": partial(_given, "commit", thread, documents),
        "a commit to a resource": lambda n: Given("commit", (resource, Changes(3, puts=(put,)))),
        **pages,
        "a page of resources": partial(_given, "resources", user[:-1], 3),
        "a deletion": lambda n: Given("delete", (Thread(user, f"t{n:02}"),)),
    }


def _given(verb: Verb, *args: Any) -> Given:
    """A call that is the same in each try, whose number is the last argument."""
    return Given(verb, args[:-1])


def _compare(
    harness: Harness, wire: Wire, promise: str, seen: Callable[[], int], allowed: Callable[[], int], spare: int = 0
) -> None:
    """LawBroken where each try of a call took more of something on the wire than its meter allows, and `spare`."""

    async def run() -> None:
        calls = await _metered(harness, wire.watcher)
        for name, call in calls.items():
            tried: list[tuple[int, int]] = []
            for number in range(TRIES):
                verb, args = call(number)
                before = seen(), allowed()
                await getattr(wire.handle, verb)(*args)
                tried.append((seen() - before[0], allowed() - before[1] + spare))
            on_wire, most = min(tried, key=lambda each: each[0] - each[1])
            harness.require(f"{name}: {promise}", on_wire <= most, f"at most {most}", f"{on_wire}")

    harness.run(run)


class Cost(Law):
    """The round trips of a verb are those declared, whatever is stored; what it moves is what it was asked for."""

    number = 13
    title = "Cost"

    @least(commits=2, loads=10)
    def test_a_load_takes_the_round_trips_declared(self, harness: Harness) -> None:
        """A load takes exactly the round trips declared, in a thread of 1, of 10 and of as many messages as the profile
        says, for every kind of window, with and without working memory. A load of a resource or of a missing thread
        takes at least one and no more than that. A store may declare more for loads of anything but the newest messages
        (`most_load`); these then take at least one round trip and no more than that.
        """

        async def run() -> None:
            handle = await harness.open()
            load, most = handle.costs.load, handle.costs.most_load
            newest = Window(before=LAST)
            for length in (1, SHORT, harness.profile.length):
                thread = await _thread(harness, handle, length)
                promise = f"a load takes the round trips declared, in a thread of {length} messages"
                _expect(harness, promise, load, None, await _spent(handle, handle.load, thread, newest))
                for window in (Window(), Window(length // 2, 2, 2), Window("m0", after=3), Window(before=2 * length)):
                    spent = await _spent(handle, handle.load, thread, window)
                    _expect(harness, f"{promise}, with {window}", load, most, spent)
                await _remember(harness, handle, thread)
                spent = await _spent(handle, handle.load, thread, newest)
                _expect(harness, f"{promise} with working memory", load, None, spent)
                for scope in (Resource(thread.resource_id), Thread(thread.resource_id, "missing")):
                    spent = await _spent(handle, handle.load, scope)
                    promise = "a load of a resource, or of a missing thread, takes no more round trips than declared"
                    _expect(harness, promise, load, most or load, spent)

        harness.run(run)

    @least(commits=20)
    def test_a_commit_takes_the_round_trips_declared(self, harness: Harness) -> None:
        """A commit by a caller that has just seen the thread takes exactly the round trips declared: for one message,
        for 50, for the most that the store declares, for documents of the thread and of the resource, and for an empty
        commit. A store may declare another number for the first commit to a thread (`first_commit`), and more for a
        commit of more than 50 messages (`most_commit`), which then takes at least one and no more than that.
        """

        async def run() -> None:
            handle = await harness.open()
            costs, full = handle.costs, f"{handle.limits.commit_messages} messages"
            for length in (0, SHORT, harness.profile.length):
                thread = await _thread(harness, handle, length)
                first = costs.first_commit if length == 0 else None
                for remembering in (False, True):
                    if remembering:
                        await handle.commit(thread, Changes(4, harness.epoch(), drop_after=length))
                        await _remember(harness, handle, thread)
                    for name, changes in _commits(harness, handle.limits.commit_messages).items():
                        spent = await _commit(handle, thread, changes)
                        promise = f"a commit of {name} takes the round trips declared, after {length} messages"
                        declared = costs.commit if first is None else first
                        _expect(harness, promise, declared, costs.most_commit if name == full else None, spent)
                        first = None

        harness.run(run)

    @least(commits=4, loads=0)
    def test_a_repeated_commit_costs_the_same_for_few_messages_and_for_many(self, harness: Harness) -> None:
        """A commit that is repeated takes as many round trips for 50 messages as for one."""

        async def run() -> None:
            handle = await harness.open()
            spent = []
            for count in (1, 50):
                thread = await _thread(harness, handle, SHORT)
                changes = Changes(3, harness.epoch(), tuple(record(f"new{index}") for index in range(count)))
                await handle.commit(thread, changes)
                spent.append((await _commit(handle, thread, changes)).trips)
            promise = "a commit that is repeated takes as many round trips for 50 messages as for one"
            harness.require(promise, spent[0] == spent[1] > 0, "the same number, above 0", f"{spent[0]} and {spent[1]}")

        harness.run(run)

    @least(commits=2, loads=2)
    def test_the_newest_messages_cost_the_same_in_a_long_thread(self, harness: Harness) -> None:
        """A load of the newest five messages, with working memory, takes the same round trips and moves the same rows
        in a long thread as in a short one.
        """

        async def run() -> None:
            handle = await harness.open()
            spent = []
            for length in (SHORT, harness.profile.length):
                thread = await _thread(harness, handle, length)
                await _remember(harness, handle, thread)
                spent.append(await _spent(handle, handle.load, thread, Window(before=LAST)))
            promise = f"a load of the newest {LAST} messages costs the same in any thread"
            harness.expect(f"{promise}, short or of {harness.profile.length} messages", spent[0], spent[1])
            within = LAST <= spent[1].rows <= LAST + 4 + SLACK
            allowed = f"{LAST} messages, 4 documents, at most {SLACK} more"
            harness.require(promise, within, allowed, f"{spent[1].rows} rows")

        harness.run(run)

    @least(commits=2, loads=2)
    def test_a_window_costs_the_same_anywhere_in_a_long_thread(self, harness: Harness) -> None:
        """A window anywhere in a long thread, by position and by id, moves no more than what is in it."""

        async def run() -> None:
            handle = await harness.open()
            length = harness.profile.length
            thread = await _thread(harness, handle, length)
            for anchor in (2, length // 2, length - 2, f"m{length // 2}", "m1", None, "missing"):
                window = Window(anchor, LAST, LAST)
                spent = await _spent(handle, handle.load, thread, window)
                promise = f"a load of {2 * LAST} messages around {anchor!r} of {length} moves no more than these"
                allowed = 2 * LAST + SLACK
                harness.require(promise, spent.rows <= allowed, f"at most {allowed} rows", f"{spent.rows} rows")

        harness.run(run)

    @least(commits=4)
    def test_a_commit_costs_the_same_in_a_long_thread(self, harness: Harness) -> None:
        """A commit costs the same in a long thread as in a short one, also by a caller that has not seen the thread."""

        async def run() -> None:
            handle = await harness.open()
            spent: list[dict[str, Spent]] = []
            for length in (SHORT, harness.profile.length):
                thread = await _thread(harness, handle, length)
                await _remember(harness, handle, thread)
                blind = Changes(3, harness.epoch(), (record("blind0"), record("blind1")))
                costs = {"two messages, blindly": await _spent(handle, handle.commit, thread, blind)}
                for name, changes in _commits(harness, 100).items():
                    costs[name] = await _commit(handle, thread, changes)
                spent.append(costs)
            for name, short in spent[0].items():
                promise = f"a commit of {name} costs the same after {SHORT} and after {harness.profile.length} messages"
                harness.expect(promise, short, spent[1][name])

        harness.run(run)

    @least(commits=2, loads=4)
    def test_other_threads_and_resources_cost_nothing(self, harness: Harness) -> None:
        """A load, a commit, a commit that creates a thread, and a deletion cost the same alone and beside many other
        threads of the same and of other resources.
        """

        async def run() -> None:
            handle = await harness.open()
            thread = await _thread(harness, handle, SHORT)
            user = thread.resource_id
            await _remember(harness, handle, thread)
            second = Thread(user, "second")

            async def all_verbs(turn: int) -> dict[str, Spent]:
                new = Changes(3, harness.epoch(), (record(f"turn{turn}"),), (Put("work", "2"),), (Put("work", "2"),))
                return {
                    "load": await _spent(handle, handle.load, thread, Window(before=LAST)),
                    "load of a resource": await _spent(handle, handle.load, Resource(user)),
                    "commit": await _commit(handle, thread, new),
                    "commit that creates a thread": await _commit(handle, second, new),
                    "delete": await _spent(handle, handle.delete, second),
                }

            alone = await all_verbs(0)
            await _crowd(harness, handle, user)
            crowded = await all_verbs(1)
            for name, cost in alone.items():
                promise = f"a {name} costs the same beside {2 * harness.profile.bystanders} other threads"
                harness.expect(promise, cost, crowded[name])
                harness.require(f"a {name} is counted", cost.trips > 0, "at least one round trip", "none")

        harness.run(run)

    @least(commits=4, loads=0, lists=4)
    def test_a_page_of_a_list_costs_what_is_on_it(self, harness: Harness) -> None:
        """A page of a list moves what is on it, wherever in the list it is, in as many round trips as a list of one
        page takes, and costs the same beside many threads of others.
        """

        async def run() -> None:
            handle = await harness.open()
            small, large = (harness.fresh() + "user" for _ in range(2))
            for number in range(PAGE):
                changes = Changes(10 + number, harness.epoch(), (record("m0"),), (Put("work", "1"),))
                await handle.commit(Thread(small, f"thread{number}"), changes)
            orders: tuple[Order, ...] = ("created", "active")
            costs: dict[Order, Spent] = {}
            for order in orders:
                listing = partial(handle.threads, Resource(small), None, PAGE, order, ("work",))
                costs[order] = await _spent(handle, listing)
            await _crowd(harness, handle, large)
            last = harness.profile.bystanders
            for order in orders:
                for place in (None, After(10 + last // 2, f"other{last // 2:04}"), After(10 + last - 12, "other")):
                    listing = partial(handle.threads, Resource(large), place, PAGE, order, ("work",))
                    spent = await _spent(handle, listing)
                    promise = f"a page of {PAGE} of {last} threads by {order!r} moves what is on it"
                    allowed = 2 * PAGE + SLACK
                    harness.require(promise, 0 < spent.rows <= allowed, f"at most {allowed} rows", f"{spent.rows} rows")
                    harness.expect(
                        f"{promise}, in as many round trips as a list of {PAGE}", costs[order].trips, spent.trips
                    )
            for order in orders:
                listing = partial(handle.threads, Resource(small), None, PAGE, order, ("work",))
                promise = f"a page of threads by {order!r} costs the same beside {2 * last} threads of others"
                harness.expect(promise, costs[order], await _spent(handle, listing))
            spent = await _spent(handle, handle.resources, large, PAGE)
            promise = f"a page of {PAGE} resources moves what is on it"
            allowed = PAGE + SLACK
            harness.require(promise, spent.rows <= allowed, f"at most {allowed} rows", f"{spent.rows} rows")

        harness.run(run)

    @least(commits=60, loads=6, deletions=2, lists=6)
    def test_the_meter_counts_the_round_trips_on_the_wire(self, harness: Harness) -> None:
        """No call takes more round trips on the wire than the meter counts: times at which a connection's client has
        sent something and waits for an answer, seen by a proxy. Loads, commits, lists and a deletion are made in a
        large thread and a large list, each three times, and the best counts.
        """
        with through_proxy(harness) as wire:
            if wire is not None:
                meter = wire.handle.meter
                promise = "the meter counts each round trip that is on the wire"
                _compare(harness, wire, promise, lambda: wire.turns, lambda: meter.trips)

    @least(commits=60, loads=6, deletions=2, lists=6)
    def test_the_meter_counts_the_rows_on_the_wire(self, harness: Harness) -> None:
        """No call moves more bytes over the wire, both ways, than the rows that the meter counts can hold: twice a
        message's text and 2 KiB for each, and 16 KiB for the call. The calls are those of the check of round trips;
        messages and documents hold 4 KiB of text that compresses to half at best.
        """
        with through_proxy(harness) as wire:
            if wire is not None:
                meter = wire.handle.meter
                promise = "the bytes on the wire are no more than the meter's rows can hold"
                _compare(harness, wire, promise, lambda: wire.bytes, lambda: meter.rows * ROW_BYTES, CALL_BYTES)
