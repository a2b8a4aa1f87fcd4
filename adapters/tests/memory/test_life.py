"""The store in the memory of this process, where the contract does not look: how long it lives, its scan, its meter."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

import pytest

from threadkeep.port import MIB, Changes, Doc, Put, Record, Resource, Thread, Window, scan_backend
from threadkeep_adapters.memory.layout import spaces
from threadkeep_adapters.memory.store import InProcessStore

THREAD = Thread("alice", "support")
COMMIT = Changes(
    at=1,
    epoch="e",
    append=(Record("1", "d1", '"one"'), Record("2", "d2", '"two"')),
    puts=(Put("title", '"t"'),),
    resource_puts=(Put("work", '"w"'),),
)


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


def scanned(name: str) -> bytes | None:
    chunks = scan_backend(f"memory://{name}")
    return None if chunks is None else b"".join(chunks)


async def test_a_store_lasts_as_long_as_any_of_its_name_is_open(name: str) -> None:
    first, second = InProcessStore(name), InProcessStore(name)
    await first.open()
    await first.open()
    await second.open()
    await first.commit(THREAD, COMMIT)
    await first.close()
    await first.close()
    assert (await second.load(THREAD, Window(before=9))).tail == ("e", 2)
    await second.close()
    assert name not in spaces
    await first.open()
    assert (await first.load(THREAD, Window(before=9))).tail == ("", 0)
    await first.close()


async def test_a_verb_before_open_or_after_close_is_refused(name: str) -> None:
    store = InProcessStore(name)
    with pytest.raises(RuntimeError, match="before open"):
        await store.load(THREAD, Window())
    await store.open()
    await store.close()
    with pytest.raises(RuntimeError, match="after close"):
        await store.load(THREAD, Window())


async def test_a_scan_shows_what_is_there_and_nothing_of_a_store_that_is_not_open(name: str) -> None:
    assert scanned(name) == b""
    store = InProcessStore(name)
    await store.open()
    await store.commit(THREAD, COMMIT)
    found = scanned(name)
    assert found is not None
    assert all(text in found for text in (b"alice", b"support", b"one", b"two", b"title", b"work"))
    await store.close()
    assert scanned(name) == b""


async def test_a_scan_holds_the_lock_for_as_long_as_it_looks(name: str) -> None:
    store = InProcessStore(name)
    await store.open()
    chunks = scan_backend(f"memory://{name}")
    assert chunks is not None
    assert next(chunks)
    assert spaces[name].lock.locked(), "what is scanned may change under the scan"
    assert list(chunks) == []
    assert not spaces[name].lock.locked()
    await store.close()


class Watched:
    """A lock that counts how often it was taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __enter__(self) -> None:
        self.taken += 1

    def __exit__(self, *error: object) -> None:
        """Nothing is caught."""


async def test_every_verb_takes_the_lock_since_event_loops_of_several_threads_may_share_a_store(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_all = Watched()
    monkeypatch.setattr("threadkeep_adapters.memory.store.spaces_lock", of_all)
    store = InProcessStore(name)
    await store.open()
    assert of_all.taken == 1
    lock = Watched()
    monkeypatch.setattr(spaces[name], "lock", lock)
    verbs: list[Callable[[], Awaitable[object]]] = [
        lambda: store.commit(THREAD, COMMIT),
        lambda: store.load(THREAD, Window()),
        lambda: store.threads(Resource("alice"), None, 9, "created", ()),
        lambda: store.resources(None, 9),
        lambda: store.delete(THREAD),
    ]
    for number, verb in enumerate(verbs, 1):
        await verb()
        assert lock.taken == number
    await store.close()
    assert of_all.taken == 2


async def test_the_meter_counts_all_that_crosses(name: str) -> None:
    store = InProcessStore(name)
    await store.open()
    await store.commit(THREAD, COMMIT)
    assert (store.meter.trips, store.meter.rows) == (1, 4)
    snapshot = await store.load(THREAD, Window(before=9))
    assert snapshot.resource_docs == {"work": Doc(1, '"w"')}
    assert (store.meter.trips, store.meter.rows) == (2, 8)
    await store.close()


def test_the_limits_are_those_of_the_page() -> None:
    limits = InProcessStore().limits
    assert (limits.commit_messages, limits.commit_bytes) == (1000, 16 * MIB)
