"""What a store refuses, core refuses for it, with the store's reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from threadkeep.errors import InvalidContent, InvalidId, LimitExceeded
from threadkeep.port import (
    SHORT_ID_BYTES,
    After,
    Changes,
    Guard,
    Put,
    Record,
    Refusal,
    Resource,
    Scope,
    Thread,
    Window,
)
from threadkeep_adapters.memory.store import InProcessStore

R, T = Resource("r"), Thread("r", "t")


class Particular(InProcessStore):
    refuses = {kind: f"the reason for {kind}" for kind in Refusal}


@pytest.fixture
def guard() -> Guard:
    return Guard(Particular("particular"))


def committing(scope: Scope, **fields: object) -> Callable[[Guard], Awaitable[object]]:
    epoch = "e" if isinstance(scope, Thread) else ""
    return lambda guard: guard.commit(scope, Changes(1, epoch, **fields))  # type: ignore[arg-type] # any fields


def calls_with(one: str) -> list[Callable[[Guard], Awaitable[object]]]:
    """Every place in which an id can stand."""
    return [
        lambda guard: guard.load(Resource(one)),
        lambda guard: guard.load(Thread("r", one)),
        lambda guard: guard.load(T, Window(one, 1)),
        lambda guard: guard.delete(Thread(one, "t")),
        lambda guard: guard.threads(R, After(1, one)),
        lambda guard: guard.resources(one),
        committing(T, append=(Record(one, "d", "{}"),)),
        committing(T, puts=(Put(one, "{}"),)),
    ]


@pytest.mark.parametrize("number", range(8))
async def test_an_id_that_is_refused_is_named_with_the_reason(guard: Guard, number: int) -> None:
    with pytest.raises(InvalidId, match="the reason for NUL in ids"):
        await calls_with("a\x00b")[number](guard)
    with pytest.raises(LimitExceeded) as caught:
        await calls_with("é" * (SHORT_ID_BYTES // 2) + "x")[number](guard)
    assert (caught.value.limit, caught.value.allowed, caught.value.given) == ("id_bytes", 128, 129)


@pytest.mark.parametrize("body", ['"\\u0000"', '{"a\\u0000":1}', '["\\\\\\u0000"]'])
async def test_a_text_that_is_refused_is_named_with_the_reason(guard: Guard, body: str) -> None:
    for call in (
        committing(T, append=(Record("m", "d", body),)),
        committing(T, puts=(Put("s", body),)),
        committing(T, resource_puts=(Put("s", body),)),
        committing(R, puts=(Put("s", body),)),
    ):
        with pytest.raises(InvalidContent, match="the reason for NUL in text"):
            await call(guard)
    assert await guard.load(T) == await guard.load(Thread("r", "other"))


async def test_what_is_not_refused_is_taken(guard: Guard) -> None:
    body = '"\\\\u0000"'
    await guard.commit(Thread("é" * 64, "t" * 128), Changes(1, "e", (Record("m", "d", body),), (Put("s", body),)))
    assert [stored.body for stored in (await guard.load(Thread("é" * 64, "t" * 128), Window(before=1))).records] == [
        body
    ]
