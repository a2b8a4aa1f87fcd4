"""A failing history is Python that runs and does again what was done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from threadkeep.errors import MessageConflict
from threadkeep.port import Changes, Put, Record, Resource, Snapshot, Tail, Thread, Window
from threadkeep_contract.harness import Harness, appending, record
from threadkeep_contract.history import source
from threadkeep_contract.profiles import PROFILES


@pytest.fixture
def harness() -> Iterator[Harness]:
    made = Harness("memory://history", PROFILES["quick"])
    yield made
    made.close()


def run_source(text: str) -> None:
    exec(compile(text, "history", "exec"), {})


@pytest.mark.parametrize(
    "value",
    [
        Thread("r", "t"),
        Resource("r'\n"),
        Window(),
        Window("m", after=2),
        Window(3, 1, 2),
        Record("m", "d", "{}"),
        Put("info", None, 0),
        Put("info", "[]"),
        Changes(at=5),
        Changes(at=5, epoch="e", append=(Record("m", "d", '"' + "x" * 5000 + "é" * 100 + '"'),), drop_after=0),
        Changes(at=5, epoch="e", if_tail=Tail("", 0), seen=Tail("e", 3), puts=(Put("a", "1", 2), Put("b", "2"))),
        Snapshot(Tail("e", 1), 2, 3, [], {"a": None}, {}),  # type: ignore[dict-item] # any value prints
        ("one",),
        [1, None, "a" * 100],
        "\x00\ud800",
    ],
    ids=repr,
)
def test_values_print_as_source_that_makes_them_again(value: object) -> None:
    names: dict[str, Any] = {
        kind.__name__: kind for kind in (Thread, Resource, Window, Record, Put, Changes, Tail, Snapshot)
    }
    text = source(value)
    assert eval(text, names) == value
    assert len(text) < 1000


def test_a_history_runs(harness: Harness, capsys: pytest.CaptureFixture[str]) -> None:
    async def check() -> None:
        one, two = await harness.open(), await harness.open()
        scope = Thread(harness.fresh() + "r", "t")
        await one.commit(scope, appending(harness, 1, record("a"), puts=(Put("info", "{}"),)))
        await harness.refused("", MessageConflict, two.commit(scope, appending(harness, 2, record("a", "other"))))
        await asyncio.gather(*[two.commit(scope, appending(harness, 3, record(f"m{n}"))) for n in range(3)])
        await one.load(scope, Window("a", 1, 1))
        await one.threads(Resource(scope.resource_id), None, 3, "active", ("info",))
        await one.resources(None, 5)
        await two.delete(scope)

    harness.run(check)
    error = harness.broken("a promise\nof two lines", Tail("e", 1), "something else")
    print(error.history)
    assert "# expected: Tail('e', 1)" in error.history
    assert "# seen:     something else" in error.history
    assert "except MessageConflict:" in error.history
    assert error.history.count("open_store('memory://history')") == 2
    run_source(error.history)


def test_calls_that_overlapped_are_gathered(harness: Harness) -> None:
    async def slow(name: str, other: asyncio.Event, mine: asyncio.Event) -> None:
        async def work() -> str:
            mine.set()
            await other.wait()
            return name

        await harness.history.note("handle1", "load", (Thread("r", name), Window()), work)

    async def check() -> None:
        await harness.open()
        one, two = asyncio.Event(), asyncio.Event()
        await asyncio.gather(slow("a", one, two), slow("b", two, one))
        await harness.handles[0].load(Thread("r", "c"))

    harness.run(check)
    text = harness.history.source()
    assert text.count("asyncio.gather(") == 1
    assert text.index("'a'") < text.index("'b'") < text.index("return_exceptions=True") < text.index("'c'")
    run_source(text)


def test_a_long_history_says_what_it_leaves_out(harness: Harness) -> None:
    async def check() -> None:
        handle = await harness.open()
        for number in range(300):
            await handle.load(Thread("r", f"t{number}"))

    harness.run(check)
    text = harness.history.source()
    assert "# 100 earlier calls are not shown" in text
    assert "'t99'" not in text
    assert "'t299'" in text
    run_source(text)
