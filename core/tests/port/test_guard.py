"""The guard: what it stops before a store sees it (laws 7, 11), and what it makes of a driver's errors (laws 6, 12)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from threadkeep.errors import (
    InvalidContent,
    InvalidId,
    InvalidInput,
    LimitExceeded,
    MessageConflict,
    OutcomeUnknown,
    StoreClosed,
    StoreError,
    StoreFull,
    StoreUnavailable,
    ThreadkeepError,
)
from threadkeep.port import (
    MAX_PAGE,
    MAX_TIME,
    MIN_TIME,
    MISSING,
    After,
    Changes,
    Guard,
    Limits,
    Put,
    Receipt,
    Record,
    Resource,
    Scope,
    Snapshot,
    Tail,
    Thread,
    Window,
)
from threadkeep_adapters.memory.store import InProcessStore

LEAST = Limits()
THREAD = Thread("ann", "t")


class Counting(InProcessStore):
    """The in-process store with the least limits that a store may declare; it counts the verbs that reach it."""

    limits = LEAST

    def __init__(self) -> None:
        super().__init__(f"guarded {id(self)}")
        self.reached: list[str] = []

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        self.reached.append("load")
        return await super().load(scope, window)

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.reached.append("commit")
        return await super().commit(scope, changes)


@asynccontextmanager
async def guarded() -> AsyncIterator[tuple[Guard, Counting]]:
    """A guard and the store behind it, closed afterwards."""
    store = Counting()
    guard = Guard(store)
    try:
        yield guard, store
    finally:
        await guard.close()


def record(name: str, size: int = 2, digest: str = "") -> Record:
    """A record whose body is JSON text of so many bytes."""
    return Record(name, digest or f"digest of {name}", '"' + "x" * (size - 2) + '"')


def changes(**fields: Any) -> Changes:
    return Changes(**{"at": 1, "epoch": "e", **fields})


async def refused(
    given: Changes, error: type[ThreadkeepError], says: str | None = None, scope: Scope = THREAD
) -> ThreadkeepError:
    """What a commit is refused with, before the store sees it."""
    async with guarded() as (guard, store):
        with pytest.raises(error, match=says) as caught:
            await guard.commit(scope, given)
        assert store.reached == []
    return caught.value


async def exceeded(given: Changes) -> tuple[str, int, int]:
    error = await refused(given, LimitExceeded)
    assert isinstance(error, LimitExceeded)
    return error.limit, error.allowed, error.given


async def taken(*given: Changes, scope: Scope = THREAD) -> None:
    async with guarded() as (guard, store):
        for each in given:
            await guard.commit(scope, each)
        assert store.reached == ["commit"] * len(given)


async def test_a_message_is_taken_at_its_limit_and_refused_above() -> None:
    most = LEAST.message_bytes
    await taken(changes(append=(record("m", most),)))
    assert await exceeded(changes(append=(record("m", most + 1),))) == ("message_bytes", most, most + 1)
    wide = Record("m", "d", '"' + "é" * (most // 2) + '"')
    assert await exceeded(changes(append=(wide,))) == ("message_bytes", most, most + 2)


async def test_a_commit_is_taken_at_its_number_of_messages_and_refused_above() -> None:
    most = LEAST.commit_messages
    records = tuple(record(str(n)) for n in range(most + 1))
    await taken(changes(append=records[:most]))
    assert await exceeded(changes(append=records)) == ("commit_messages", most, most + 1)
    await taken(changes(append=(*records[:most], *records[:most])))


async def test_a_commit_is_taken_at_its_size_and_refused_above() -> None:
    most = LEAST.commit_bytes
    rest = most - LEAST.message_bytes
    puts = (Put("a", record("", 1000).body),)
    for resource_puts in ((), (Put("a", record("", 500).body), Put("b", None))):
        documents = 1000 + (500 if resource_puts else 0)
        for over in (0, 1):
            given = changes(
                append=(
                    record("m", LEAST.message_bytes),
                    record("n", rest - documents + over - 1000),
                    record("o", 1000),
                ),
                puts=puts,
                resource_puts=resource_puts,
            )
            if over:
                assert await exceeded(given) == ("commit_bytes", most, most + 1)
            else:
                await taken(given)


async def test_a_document_is_taken_at_its_limit_and_refused_above() -> None:
    most = LEAST.working_memory_bytes
    for field in ("puts", "resource_puts"):
        await taken(changes(**{field: (Put("slot", record("", most).body),)}))
        given = changes(**{field: (Put("slot", record("", most + 1).body),)})
        assert await exceeded(given) == ("working_memory_bytes", most, most + 1)


async def test_every_id_is_checked_at_its_limit_in_every_verb() -> None:
    most = "é" * (LEAST.id_bytes // 2)

    async with guarded() as (guard, store):
        for scope in (Thread(most, most), Resource(most)):
            await guard.load(scope, Window(most, after=1))
            await guard.delete(scope)
        await guard.threads(Resource(most), After(0, most))
        await guard.resources(most)
        await guard.commit(Thread(most, most), changes(append=(record(most),), puts=(Put(most, "1"),)))
        store.reached.clear()
        bad: Any
        for bad, error in ((most + "x", LimitExceeded), ("", InvalidId), ("\ud800", InvalidId), (7, InvalidId)):
            for call in (
                guard.load(Thread(bad, "t")),
                guard.load(Thread("ann", bad)),
                guard.load(Resource(bad)),
                guard.commit(Thread(bad, "t"), changes()),
                guard.commit(THREAD, changes(append=(record(bad),))),
                guard.commit(THREAD, changes(puts=(Put(bad, "1"),))),
                guard.delete(Thread("ann", bad)),
                guard.delete(Resource(bad)),
                guard.threads(Resource(bad)),
                guard.threads(Resource("ann"), After(0, bad)),
                guard.resources(bad),
                *((guard.load(THREAD, Window(bad)),) if isinstance(bad, str) else ()),
            ):
                with pytest.raises(error) as caught:
                    await call
                assert isinstance(caught.value, InvalidInput)
        assert store.reached == []


@pytest.mark.parametrize(
    "window",
    [
        Window(before=-1),
        Window(after=-1),
        Window(before=2**31),
        Window(before=1.5),  # type: ignore[arg-type]  # what is refused
        Window(before=True),
        Window(after="1"),  # type: ignore[arg-type]  # what is refused
        Window(anchor=True),
        Window(anchor=1.5),  # type: ignore[arg-type]  # what is refused
        Window(anchor=b"m"),  # type: ignore[arg-type]  # what is refused
        Window(anchor=2**53),
    ],
)
async def test_a_window_that_is_none_never_reaches_the_store(window: Window) -> None:
    async with guarded() as (guard, store):
        with pytest.raises(InvalidInput, match=r"window counts records from 0 up|position or a message id"):
            await guard.load(THREAD, window)
        assert store.reached == []


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE + 1, "1", 1.0, True, None])
async def test_a_page_has_bounds(limit: Any) -> None:
    async with guarded() as (guard, _):
        for call in (guard.threads(Resource("ann"), limit=limit), guard.resources(limit=limit)):
            with pytest.raises(InvalidInput, match="a page has 1 to 1000 entries"):
                await call
        await guard.threads(Resource("ann"), limit=1)
        await guard.threads(Resource("ann"), limit=MAX_PAGE)


async def test_a_place_or_order_of_threads_that_is_none_is_refused() -> None:
    async with guarded() as (guard, _):
        wrong: Any
        for wrong in (MAX_TIME + 1, MIN_TIME - 1, True, 1.5, "1"):
            with pytest.raises(InvalidInput, match="time in microseconds"):
                await guard.threads(Resource("ann"), After(wrong, "t"))
        for wrong in ("updated", "", None, ["created"]):
            with pytest.raises(InvalidInput, match="'created' or 'active'"):
                await guard.threads(Resource("ann"), order=wrong)


async def test_the_same_record_twice_in_one_append_is_one_record_in_both_places() -> None:
    async with guarded() as (guard, _):
        one, two = record("one"), record("two")
        receipt = await guard.commit(THREAD, changes(append=(one, two, one, two, one)))
        assert list(receipt.positions) == [1, 2, 1, 2, 1]
        assert receipt.tail == Tail("e", 2)
        again = await guard.commit(THREAD, changes(append=(two, two, record("three"), one)))
        assert list(again.positions) == [2, 2, 3, 1]


async def test_one_id_with_two_bodies_in_one_append_is_a_conflict() -> None:
    await refused(changes(append=(record("m", digest="1"), record("m", digest="2"))), MessageConflict)


@pytest.mark.parametrize(
    "fields",
    [
        {"append": (record("m"),)},
        {"resource_puts": (Put("s", "1"),)},
        {"drop_after": 0},
        {"if_tail": MISSING},
        {"if_epoch": ""},
        {"seen": MISSING},
        {"epoch": "e"},
    ],
)
async def test_a_commit_to_a_resource_has_puts_and_nothing_else(fields: dict[str, Any]) -> None:
    await taken(Changes(at=1, puts=(Put("s", "1"),)), scope=Resource("ann"))
    given = Changes(at=1, puts=(Put("s", "1"),), **fields)
    await refused(given, InvalidInput, "a commit to a resource has puts and nothing else", Resource("ann"))


async def test_a_commit_to_a_resource_without_puts_leaves_no_trace() -> None:
    await refused(Changes(at=1), InvalidInput, "a commit to a resource has puts", Resource("ann"))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"epoch": ""}, "needs an epoch"),
        ({"drop_after": -1}, "drop_after is a position or 0"),
        ({"drop_after": True}, "drop_after is a position or 0"),
        ({"drop_after": "1"}, "drop_after is a position or 0"),
        ({"puts": (Put("s", "1"), Put("s", "2"))}, "puts each document once"),
        ({"resource_puts": (Put("s", "1"), Put("s", None))}, "puts each document once"),
        ({"puts": (Put("s", "1", -1),)}, "if_version is a version from 0 up"),
        ({"puts": (Put("s", "1", True),)}, "if_version is a version from 0 up"),
        ({"at": 1.5}, "microseconds"),
        ({"at": MAX_TIME + 1}, "microseconds"),
        ({"at": MIN_TIME - 1}, "microseconds"),
        ({"at": True}, "microseconds"),
    ],
)
async def test_a_commit_that_makes_no_sense_never_reaches_the_store(fields: dict[str, Any], says: str) -> None:
    await refused(changes(**fields), InvalidInput, says)


async def test_a_commit_may_have_any_time_that_a_datetime_has() -> None:
    await taken(changes(at=MIN_TIME), changes(at=MAX_TIME), changes(at=0))


async def test_a_document_that_is_no_text_is_refused() -> None:
    wrong: Any = {"a": 1}
    await refused(changes(puts=(Put("s", wrong),)), InvalidContent, "the body of s must be JSON text, not dict")
    await taken(changes(puts=(Put("s", "1"),), resource_puts=(Put("s", "1"),)))


class Low(Exception):
    """A driver's exception."""


class Lower(Low):
    """A more special one."""


class Failing(InProcessStore):
    """A store whose driver fails in every verb."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        raise self.error

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        raise self.error

    async def delete(self, scope: Scope) -> None:
        raise self.error

    async def threads(self, *_: Any) -> Sequence[Any]:
        raise self.error

    async def resources(self, *_: Any) -> Sequence[str]:
        raise self.error


def calls(guard: Guard) -> dict[str, Callable[[], Awaitable[Any]]]:
    return {
        "load": lambda: guard.load(THREAD),
        "threads": lambda: guard.threads(Resource("ann")),
        "resources": lambda: guard.resources(),
        "commit": lambda: guard.commit(THREAD, changes()),
        "delete": lambda: guard.delete(THREAD),
    }


WRITES = ("commit", "delete")


async def raised(store: Failing, verb: str) -> BaseException:
    guard = Guard(store)
    try:
        await calls(guard)[verb]()
    except BaseException as error:  # noqa: BLE001  # whatever was raised is what the tests look at
        return error
    finally:
        await guard.close()
    raise AssertionError(f"{verb} did not raise")


@pytest.mark.parametrize("verb", ["load", "threads", "resources", "commit", "delete"])
async def test_an_exception_that_nobody_knows_leaves_a_write_open_and_a_read_failed(verb: str) -> None:
    driver = Low("disk on fire")
    error = await raised(Failing(driver), verb)
    assert type(error) is (OutcomeUnknown if verb in WRITES else StoreError)
    assert str(error) == "Low: disk on fire"
    assert error.__cause__ is driver


@pytest.mark.parametrize("verb", ["load", "threads", "resources", "commit", "delete"])
async def test_the_first_entry_that_takes_an_exception_decides(verb: str) -> None:
    def picky(error: Exception) -> ThreadkeepError | None:
        return StoreFull(f"full: {error}") if "full" in str(error) else None

    class Known(Failing):
        driver_errors = ((Lower, picky), (Lower, StoreUnavailable), (Low, StoreError), (Exception, picky))

    for driver, kind, text in (
        (Lower("full up"), StoreFull, "full: full up"),
        (Lower("busy"), StoreUnavailable, "busy"),
        (Low("full"), StoreError, "full"),
        (KeyError("full"), StoreFull, "full: 'full'"),
        (KeyError("k"), OutcomeUnknown if verb in WRITES else StoreError, "KeyError: 'k'"),
    ):
        error = await raised(Known(driver), verb)
        assert (type(error), str(error)) == (kind, text)
        assert error.__cause__ is driver


@pytest.mark.parametrize("verb", ["load", "threads", "resources", "commit", "delete"])
async def test_errors_of_this_library_pass_as_they_are(verb: str) -> None:
    class Known(Failing):
        driver_errors = ((Exception, StoreFull),)

    ours = StoreUnavailable("busy")
    error = await raised(Known(ours), verb)
    assert error is ours
    assert error.__cause__ is None


@pytest.mark.parametrize("verb", ["load", "threads", "resources", "commit", "delete"])
@pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyboardInterrupt])
async def test_cancellation_and_interruption_pass(verb: str, kind: type[BaseException]) -> None:
    class Known(Failing):
        driver_errors = ((Exception, StoreFull),)

    ours = kind()
    assert await raised(Known(ours), verb) is ours


class Slow(InProcessStore):
    """A store that takes a while to open, to load and to commit; like a driver, it fails once it is closed."""

    def __init__(self) -> None:
        super().__init__(f"slow {id(self)}")
        self.opened = self.closed = 0

    async def open(self) -> None:
        self.opened += 1
        await asyncio.sleep(0.01)
        await super().open()

    async def close(self) -> None:
        self.closed += 1
        await super().close()

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        await asyncio.sleep(0.01)
        return await super().load(scope, window)

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        await asyncio.sleep(0.01)
        return await super().commit(scope, changes)


async def test_the_store_is_opened_by_the_first_verb_and_once() -> None:
    store = Slow()
    guard = Guard(store)
    assert store.opened == 0
    await guard.load(THREAD)
    await guard.open()
    await guard.resources()
    assert store.opened == 1
    await guard.close()
    await guard.close()
    assert store.closed == 1


async def test_a_store_that_cannot_be_opened_is_tried_again_by_the_next_verb() -> None:
    class Late(InProcessStore):
        tries = 0

        async def open(self) -> None:
            self.tries += 1
            if self.tries == 1:
                raise Low("not yet")
            await super().open()

    guard = Guard(Late("late"))
    with pytest.raises(StoreError, match="Low: not yet"):
        await guard.load(THREAD)
    assert (await guard.load(THREAD)).tail == MISSING
    await guard.close()


async def test_after_close_every_verb_is_refused_and_the_store_not_asked() -> None:
    store = Failing(Low("reached"))
    guard = Guard(store)
    await guard.close()
    for call in (*calls(guard).values(), guard.open):
        with pytest.raises(StoreClosed):
            await call()


async def test_closing_while_the_store_is_being_opened_leaves_it_closed() -> None:
    store = Slow()
    guard = Guard(store)
    opening = asyncio.create_task(guard.open())
    await asyncio.sleep(0)
    await guard.close()
    with pytest.raises(StoreClosed):
        await opening
    assert store._space is None


async def test_what_is_under_way_when_the_store_is_closed_is_closed_or_unknown() -> None:
    guard = Guard(Slow())
    await guard.open()
    load = asyncio.create_task(guard.load(THREAD))
    commit = asyncio.create_task(guard.commit(THREAD, changes()))
    await asyncio.sleep(0)
    await guard.close()
    with pytest.raises(StoreClosed):
        await load
    with pytest.raises(OutcomeUnknown):
        await commit


def test_what_a_store_declares_is_read_through_the_guard() -> None:
    store = Counting()
    guard = Guard(store)
    assert guard.limits is store.limits
    assert guard.costs is store.costs
    assert guard.meter is store.meter
    assert guard.not_offered is store.not_offered


@pytest.mark.parametrize("name", ["id_bytes", "message_bytes", "commit_messages", "commit_bytes"])
def test_no_store_may_declare_less_than_the_least(name: str) -> None:
    least = getattr(LEAST, name)
    with pytest.raises(ValueError, match=f"{name} must be at least {least}"):
        Limits(**{name: least - 1})
    assert getattr(Limits(**{name: least + 1}), name) == least + 1
