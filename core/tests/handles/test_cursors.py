"""Cursors (law 1): good in the scope and query that they came from, and refused anywhere else."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadkeep import Memory, Message
from threadkeep.errors import InvalidCursor, InvalidInput
from threadkeep.handles.cursors import make_cursor, read_cursor

QUERY = ("list of things", "ann", {"a": 1})


def packed(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def forged(query: tuple[Any, ...], *place: Any) -> str:
    """A cursor of the query for a place that no list gave."""
    cursor = make_cursor(query, ())
    binding = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    return packed([*binding, *place])


GARBAGE: list[Any] = [
    "",
    "garbage",
    "é",
    "\ud800",
    "a" * 10_000,
    "====",
    " ",
    packed(None),
    packed(7),
    packed("text"),
    packed([]),
    packed({}),
    packed({"a": 1}),
    packed(["0" * 16, 1, "t"]),
    base64.urlsafe_b64encode(b"[" * 200_000).decode(),
    base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    base64.urlsafe_b64encode(b"9" * 5000).decode(),
    7,
    b"bytes",
    [],
    True,
]


@given(st.text(st.characters(codec="utf-8")), st.integers(-(2**53), 2**53))
def test_a_cursor_reads_back_as_the_place_that_it_was_made_for(text: str, number: int) -> None:
    assert read_cursor(make_cursor(QUERY, (number, text)), QUERY, (int, str)) == [number, text]


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_ids_of_a_query_are_never_taken_for_each_other(one: str, other: str) -> None:
    cursor = make_cursor(("list", one, other), (1,))
    for query in (("list", one + other, ""), ("list", other, one), ("list", one + "\0", other), ("list " + one, other)):
        if query != ("list", one, other):
            with pytest.raises(InvalidCursor):
                read_cursor(cursor, query, (int,))


@pytest.mark.parametrize("cursor", GARBAGE)
def test_what_is_no_cursor_is_refused_with_what_to_do(cursor: Any) -> None:
    with pytest.raises(InvalidCursor, match="pass a cursor only to the call that gave it, with the same arguments"):
        read_cursor(cursor, QUERY, (int, str))


@pytest.mark.parametrize("place", [(1,), (1, 2), ("a", 1), (1, "a", 2), (), (True, "a"), (1.0, "a"), (1, None)])
def test_a_place_of_other_kinds_is_refused(place: Any) -> None:
    with pytest.raises(InvalidCursor):
        read_cursor(make_cursor(QUERY, place), QUERY, (int, str))


@pytest.mark.parametrize("place", [(10**18, "t"), (10**30, "t"), (0, ""), (0, "\ud800"), (0, "x" * 2000)])
async def test_a_forged_place_that_no_list_has_is_refused_before_the_store_sees_it(memory: Memory, place: Any) -> None:
    thread = memory.thread("ann", "t")
    tail = (await thread.append("hello")).tail
    cursor = forged(("list of threads", "ann", "created", None, {}), *place)
    with pytest.raises(InvalidInput):
        await memory.resource("ann").threads_page(cursor=cursor)
    query = ("list of messages", "ann", "t", False)
    assert (await thread.messages_page(cursor=forged(query, *tail))).items == []
    if place[0]:
        with pytest.raises(InvalidInput):
            await thread.messages_page(cursor=forged(query, tail.epoch, place[0]))
    else:
        with pytest.raises(InvalidInput):
            await memory.admin.resources_page(cursor=forged(("list of resources",), place[1]))


@pytest.mark.parametrize("cursor", [cursor for cursor in GARBAGE if cursor != 7])
async def test_garbage_is_refused_by_every_list(memory: Memory, cursor: Any) -> None:
    await memory.thread("ann", "t").append("hello")
    with pytest.raises(InvalidCursor, match="not one of this list of threads"):
        await memory.resource("ann").threads_page(cursor=cursor)
    with pytest.raises(InvalidCursor, match="not one of this list of messages"):
        await memory.thread("ann", "t").messages_page(cursor=cursor)
    with pytest.raises(InvalidCursor, match="not one of this list of resources"):
        await memory.admin.resources_page(cursor=cursor)


async def test_a_cursor_of_threads_is_refused_in_another_resource_order_filter_or_list(memory: Memory) -> None:
    for resource_id in ("ann", "bob"):
        for n in range(3):
            await memory.thread(resource_id, str(n)).append(*"abc")
    ann, bob = memory.resource("ann"), memory.resource("bob")
    cursor = (await ann.threads_page(limit=1)).cursor
    assert cursor is not None
    assert len((await ann.threads_page(limit=5, cursor=cursor)).items) == 2
    for call in (
        bob.threads_page(cursor=cursor),
        ann.threads_page(cursor=cursor, order="active"),
        ann.threads_page(cursor=cursor, archived=False),
        ann.threads_page(cursor=cursor, metadata={"a": 1}),
        ann.thread("0").messages_page(cursor=cursor),
        memory.admin.resources_page(cursor=cursor),
    ):
        with pytest.raises(InvalidCursor):
            await call
    filtered = (await ann.threads_page(limit=1, archived=False)).cursor
    for archived in (None, True):
        with pytest.raises(InvalidCursor):
            await ann.threads_page(cursor=filtered, archived=archived)


async def test_a_cursor_of_messages_is_refused_in_another_thread_direction_or_list(memory: Memory) -> None:
    for resource_id in ("ann", "bob"):
        for thread_id in ("t", "u"):
            await memory.thread(resource_id, thread_id).append(*"abc")
    thread = memory.thread("ann", "t")
    for newest_first in (False, True):
        cursor = (await thread.messages_page(limit=1, newest_first=newest_first)).cursor
        assert len((await thread.messages_page(cursor=cursor, newest_first=newest_first)).items) == 2
        for call in (
            thread.messages_page(cursor=cursor, newest_first=not newest_first),
            memory.thread("ann", "u").messages_page(cursor=cursor, newest_first=newest_first),
            memory.thread("bob", "t").messages_page(cursor=cursor, newest_first=newest_first),
            memory.resource("ann").threads_page(cursor=cursor),
            memory.admin.resources_page(cursor=cursor),
        ):
            with pytest.raises(InvalidCursor):
                await call


@pytest.mark.parametrize("newest_first", [False, True])
async def test_a_cursor_of_a_deleted_thread_is_refused_also_when_it_was_created_again(
    memory: Memory, newest_first: bool
) -> None:
    thread = memory.thread("ann", "t")
    given = [Message.user(text) for text in "abc"]
    await thread.append(*given)
    cursor = (await thread.messages_page(limit=1, newest_first=newest_first)).cursor
    await thread.delete()
    with pytest.raises(InvalidCursor, match="deleted; begin without a cursor"):
        await thread.messages_page(cursor=cursor, newest_first=newest_first)
    await thread.append(*given)
    with pytest.raises(InvalidCursor, match="deleted; begin without a cursor"):
        await thread.messages_page(cursor=cursor, newest_first=newest_first)
