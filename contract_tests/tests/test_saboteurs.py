"""The suite judged: every saboteur is rejected by its law, in the default profile and with the seed that `--seed`
says, as a rule another one for each commit; the sound stores that the saboteurs are made of are accepted. That more
tries accept a sound store too is seen where the stores themselves are judged, in the default profile."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest

import threadkeep_contract.saboteurs as plugin
from threadkeep.errors import InvalidURL, ThreadkeepError
from threadkeep.port import (
    Changes,
    Guard,
    Put,
    Record,
    Resource,
    Tail,
    Thread,
    Window,
    open_store,
    register,
    scan_backend,
)
from threadkeep_contract.harness import Harness, LawBroken
from threadkeep_contract.laws import NAMES, NUMBERS, checks
from threadkeep_contract.laws import law as law_of
from threadkeep_contract.profiles import PROFILES
from threadkeep_contract.report import judge
from threadkeep_contract.saboteurs import SABOTEURS, SOUND, FileStore, Saboteur

ALL = Window(before=1000)


@pytest.fixture(autouse=True)
def _plugin() -> None:
    register("saboteur", plugin)


@pytest.fixture
def _found_is_enough() -> Iterator[None]:
    """Hypothesis does not look for the smallest failing example: here one is as good as another."""
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    before = hypothesis.settings.get_current_profile_name()
    hypothesis.settings.register_profile("found is enough", phases=phases)
    hypothesis.settings.load_profile("found is enough")
    yield
    hypothesis.settings.load_profile(before)


def url_of(name: str, tmp_path: Path) -> str:
    kind = {**SABOTEURS, **SOUND}[name]
    # Each test has a place of its own: what another has left open would keep its memory.
    return (
        f"saboteur://{name}{tmp_path}/store.db" if issubclass(kind, FileStore) else f"saboteur://{name}/{tmp_path.name}"
    )


@pytest.mark.slow
@pytest.mark.usefixtures("_found_is_enough")
@pytest.mark.parametrize("fault", [fault for fault, kind in SABOTEURS.items() if not kind.slips])
def test_every_saboteur_is_rejected_by_its_law(fault: str, seed: int, tmp_path: Path) -> None:
    law = law_of(SABOTEURS[fault].caught_by)
    url, crashes = url_of(fault, tmp_path), []
    for check in checks(law):
        harness = Harness(url, PROFILES["default"], seed, check=check)
        try:
            try:
                getattr(law(), check)(harness)
            finally:
                harness.close()
        except LawBroken:
            return
        except Exception as error:  # noqa: BLE001 # a check that ends in any other way is no verdict, and is told below
            crashes.append((check, error))
    pytest.fail(f"law {law.number} keeps {fault!r} with seed {seed}; checks without a verdict: {crashes}")


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", SOUND)
def test_the_sound_stores_are_accepted(name: str, number: int, seed: int, tmp_path: Path) -> None:
    report = judge(url_of(name, tmp_path), laws=[number], profile="quick", seed=seed)
    verdict = report.law(number)
    assert report.kept, [(each.check, each.promise, each.seen) for each in (*verdict.broken, *verdict.not_judged)]


def test_every_law_has_at_least_two_saboteurs() -> None:
    count = Counter(kind.caught_by for kind in SABOTEURS.values())
    assert set(count) == set(NUMBERS)
    assert min(count.values()) >= 2


@pytest.mark.parametrize("kind", SABOTEURS.values(), ids=SABOTEURS)
def test_every_saboteur_says_what_is_broken_and_where_it_was_seen(kind: type[Saboteur]) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", kind.fault)
    assert kind.seen_in
    assert re.fullmatch(r"[A-Z`].* .*[.)]", " ".join((kind.__doc__ or "").split()))


@pytest.mark.parametrize("kind", SABOTEURS.values(), ids=SABOTEURS)
def test_every_saboteur_stands_in_the_module_of_its_law(kind: type[Saboteur]) -> None:
    module = f"{plugin.__name__}.{NAMES[kind.caught_by - 1]}"
    assert f"{kind.__module__}.".startswith(f"{module}.")


# URLs


@pytest.mark.parametrize("url", ["saboteur://no-such-fault/x", "saboteur:///x"])
def test_an_unknown_fault_is_refused_with_those_there_are(url: str) -> None:
    with pytest.raises(InvalidURL, match=r"sound-dict.*owner-missing-from-key"):
        open_store(url)


@pytest.mark.parametrize("url", ["saboteur://sound-dict", "saboteur://sound-dict/", "saboteur://sound-dict/x?y=1"])
def test_a_url_without_a_name_or_with_more_is_refused(url: str) -> None:
    with pytest.raises(InvalidURL, match="saboteur://FAULT/NAME"):
        open_store(url)


@pytest.mark.parametrize("name", SOUND)
def test_stores_of_one_url_are_one_and_of_two_are_two(name: str, tmp_path: Path) -> None:
    async def run() -> None:
        url = url_of(name, tmp_path)
        one, same, other = open_store(url), open_store(url), open_store(url + "2")
        await one.commit(ALICE, Changes(1, "e", (HELLO,)))
        assert [stored.id for stored in (await same.load(ALICE, ALL)).records] == ["m1"]
        await other.open()
        assert not (await other.load(ALICE, ALL)).records
        scanned = scan_backend(url)
        assert scanned is not None
        assert b"alice" in b"".join(scanned)
        for store in (one, same, other):
            await store.close()

    asyncio.run(run())


def test_a_file_is_there_after_closing(tmp_path: Path) -> None:
    async def run() -> None:
        for _ in range(2):
            store = open_store(url_of("sound-file", tmp_path))
            assert (await store.commit(ALICE, Changes(1, "e", (HELLO,)))).positions == [1]
            await store.close()

    asyncio.run(run())


# The faults are real: a few calls show each one, and show nothing on the sound store


ALICE, BOB = Thread("alice", "t"), Thread("bob", "t")
HELLO, OTHER, SECOND = Record("m1", "1", '"hello"'), Record("m1", "2", '"other"'), Record("m2", "3", '"second"')


async def _ids(store: Guard, thread: Thread) -> list[str]:
    return [stored.id for stored in (await store.load(thread, ALL)).records]


async def _two_owners(store: Guard) -> object:
    await store.commit(ALICE, Changes(1, "e", (HELLO,)))
    return await _ids(store, BOB)


async def _colon(store: Guard) -> object:
    await store.commit(Thread("a", "b:c"), Changes(1, "e", (HELLO,)))
    return await _ids(store, Thread("a:b", "c"))


async def _case(store: Guard) -> object:
    await store.commit(Thread("alice", "T"), Changes(1, "e", (HELLO,)))
    return await _ids(store, ALICE)


async def _repeat(store: Guard) -> object:
    await store.commit(ALICE, Changes(1, "e", (HELLO, SECOND)))
    await store.commit(ALICE, Changes(1, "e", (HELLO,)))
    return await _ids(store, ALICE)


async def _other_body(store: Guard) -> object:
    await store.commit(ALICE, Changes(1, "e", (HELLO,)))
    with suppress(ThreadkeepError):
        await store.commit(ALICE, Changes(1, "e", (OTHER,)))
    return [stored.body for stored in (await store.load(ALICE, ALL)).records]


async def _slow_clock(store: Guard) -> object:
    await store.commit(ALICE, Changes(2, "e", (HELLO,)))
    await store.commit(ALICE, Changes(1, "e", (SECOND,)))
    return await _ids(store, ALICE)


async def _dropped(store: Guard) -> object:
    await store.commit(ALICE, Changes(1, "e", (HELLO,)))
    return (await store.commit(ALICE, Changes(2, "e", (SECOND,), drop_after=0))).positions


async def _failed(store: Guard) -> object:
    with suppress(ThreadkeepError):
        await store.commit(ALICE, Changes(1, "e", (HELLO,), (Put("a", "1", 7),)))
    return await _ids(store, ALICE)


async def _old_tail(store: Guard) -> object:
    await store.commit(ALICE, Changes(1, "e", (HELLO,)))
    try:
        await store.commit(ALICE, Changes(2, "e", (SECOND,), if_tail=Tail("e", 0)))
    except ThreadkeepError as error:
        return type(error)
    return None


async def _last_one(store: Guard) -> object:
    await store.commit(ALICE, Changes(1, "e", (HELLO, SECOND)))
    return [stored.id for stored in (await store.load(ALICE, Window(before=1))).records]


async def _old_version(store: Guard) -> object:
    try:
        await store.commit(Resource("alice"), Changes(1, puts=(Put("a", "1", 7),)))
    except ThreadkeepError as error:
        return type(error)
    return None


async def _sibling(store: Guard) -> object:
    await store.commit(Thread("alice", "t1"), Changes(1, "e", (HELLO,)))
    await store.delete(ALICE)
    return await _ids(store, Thread("alice", "t1"))


async def _large(store: Guard) -> object:
    try:
        await store.commit(ALICE, Changes(1, "e", (Record("m", "1", f'"{"x" * 500_000}"'),)))
    except ThreadkeepError as error:
        return type(error)
    return None


async def _meter(store: Guard) -> object:
    await store.commit(ALICE, Changes(1, "e", (HELLO, SECOND)))
    return store.meter.trips


@pytest.mark.parametrize(
    ("fault", "script"),
    [
        ("owner-missing-from-key", _two_owners),
        ("foreign-thread-stands-in", _two_owners),
        ("keys-joined-with-colon", _colon),
        ("ids-case-folded", _case),
        ("repeat-stored-again", _repeat),
        ("repeat-moves-to-end", _repeat),
        ("last-write-wins", _other_body),
        ("ordered-by-timestamp", _slow_clock),
        ("position-reused-after-truncation", _dropped),
        ("half-transaction-committed", _failed),
        ("tail-compares-epoch-only", _old_tail),
        ("conflict-told-as-outage", _old_tail),
        ("last-returns-oldest", _last_one),
        ("if-version-ignored", _old_version),
        ("delete-by-prefix", _sibling),
        ("item-over-400-kb-fails", _large),
        ("trip-per-record", _meter),
    ],
)
def test_the_fault_is_real(fault: str, script: Callable[[Guard], Awaitable[object]], tmp_path: Path) -> None:
    async def run(name: str) -> object:
        store = open_store(url_of(name, tmp_path))
        try:
            return await script(store)
        finally:
            await store.close()

    sound = asyncio.run(run("sound-dict"))
    assert asyncio.run(run("sound-file")) == sound
    assert asyncio.run(run(fault)) != sound
