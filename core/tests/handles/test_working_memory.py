"""Working memory (law 9): a versioned record of its own, in a thread or a resource."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fixtures import Before
from hypothesis import given
from hypothesis import strategies as st

from threadkeep import Memory
from threadkeep.errors import InvalidContent, InvalidInput, LimitExceeded, ReadOnly, ThreadNotFound, VersionMoved
from threadkeep.handles import WorkingMemoryHandle
from threadkeep.handles.views import WorkingMemory
from threadkeep.handles.working_memory import merge_patch

In = Callable[[Memory], WorkingMemoryHandle]


@pytest.fixture(params=["thread", "resource"])
def of(request: pytest.FixtureRequest) -> In:
    """Gives the working memory of ann's thread t, or of ann."""

    def handle(memory: Memory) -> WorkingMemoryHandle:
        ann = memory.resource("ann")
        return ann.thread("t").working_memory if request.param == "thread" else ann.working_memory

    return handle


APPENDIX_A: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), APPENDIX_A)
def test_a_merge_patch_does_what_rfc_7396_appendix_a_says(target: Any, patch: Any, result: Any) -> None:
    before = repr((target, patch))
    assert merge_patch(target, patch) == result
    assert repr((target, patch)) == before


values = st.recursive(
    st.none() | st.integers(0, 3) | st.text("ab", max_size=1),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(values, values)
def test_patching_twice_is_patching_once(target: Any, patch: Any) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


@pytest.mark.parametrize(("target", "patch", "result"), [case for case in APPENDIX_A if isinstance(case[1], dict)])
async def test_a_patch_is_applied_to_what_is_stored(
    memory: Memory, of: In, target: Any, patch: Any, result: Any
) -> None:
    await of(memory).put(target)
    assert await of(memory).patch(patch) == WorkingMemory(version=2, value=result)
    assert await of(memory).get() == WorkingMemory(version=2, value=result)


async def test_where_nothing_was_put_there_is_version_0(memory: Memory, of: In) -> None:
    assert await of(memory).get() == WorkingMemory(version=0, value=None)
    assert [found async for found in memory.admin.resources()] == []


@pytest.mark.parametrize("value", [{}, [], "", 0, False, 0.1, -0.0, 10**40, {"$set": {"a.b": [None, "\0é\U0001f600"]}}])
async def test_what_was_put_comes_back(memory: Memory, of: In, value: Any) -> None:
    for version in (1, 2):
        assert await of(memory).put(value) == WorkingMemory(version=version, value=value)
        found = await of(memory).get()
        assert (found.version, repr(found.value)) == (version, repr(value))


async def test_clearing_removes_the_value_and_the_version_goes_on(memory: Memory, of: In) -> None:
    await of(memory).put({"a": 1})
    assert await of(memory).clear() == WorkingMemory(version=2, value=None)
    assert await of(memory).get() == WorkingMemory(version=2, value=None)
    assert await of(memory).put({"b": 1}, if_version=2) == WorkingMemory(version=3, value={"b": 1})
    with pytest.raises(VersionMoved):
        await of(memory).clear(if_version=2)


async def test_a_write_with_an_old_version_is_refused_and_tells_the_new_one(memory: Memory, of: In) -> None:
    await of(memory).put("one", if_version=0)
    for old in (0, 2, 7):
        with pytest.raises(VersionMoved, match="working_memory is at version 1 now; read it again") as caught:
            await of(memory).put("never", if_version=old)
        assert caught.value.version == 1
    assert await of(memory).get() == WorkingMemory(version=1, value="one")


async def test_of_many_writers_with_one_version_one_wins(memory: Memory, of: In) -> None:
    await of(memory).put("start")
    outcomes = await asyncio.gather(
        *(of(memory).put(n, if_version=1) for n in range(8)), return_exceptions=True
    )  # fmt: skip
    won = [outcome for outcome in outcomes if isinstance(outcome, WorkingMemory)]
    assert len(won) == 1
    assert all(isinstance(outcome, VersionMoved) for outcome in outcomes if outcome is not won[0])
    assert await of(memory).get() == won[0]


@pytest.mark.parametrize("wrong", [-1, "1", 1.0, True, 10**30])
async def test_a_version_that_is_none_is_refused(memory: Memory, of: In, wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="if_version is a version from 0 up"):
        await of(memory).put("never", if_version=wrong)
    assert (await of(memory).get()).version == 0


async def test_disjoint_patches_of_many_at_once_are_all_there(memory: Memory, of: In) -> None:
    await asyncio.gather(*(of(memory).patch({f"k{n}": n, "deep": {f"d{n}": n}}) for n in range(24)))
    found = await of(memory).get()
    assert found.version == 24
    assert found.value == {
        **{f"k{n}": n for n in range(24)},
        "deep": {f"d{n}": n for n in range(24)},
    }


async def test_several_memories_on_one_store_patch_together(url: str) -> None:
    memories = [Memory(url) for _ in range(3)]
    await asyncio.gather(*(memory.open() for memory in memories))
    await asyncio.gather(
        *(
            memory.thread("ann", "t").working_memory.patch({f"{n} {m}": m})
            for n, memory in enumerate(memories)
            for m in range(8)
        )
    )
    found = (await memories[0].thread("ann", "t").working_memory.get()).value
    assert found == {f"{n} {m}": m for n in range(3) for m in range(8)}
    for memory in memories:
        await memory.close()


async def test_thread_and_resource_have_memories_of_their_own(memory: Memory) -> None:
    ann, bob = memory.resource("ann"), memory.resource("bob")
    handles = [
        ann.working_memory,
        ann.thread("t").working_memory,
        ann.thread("u").working_memory,
        bob.working_memory,
        bob.thread("t").working_memory,
    ]
    for n, handle in enumerate(handles):
        await handle.put({"of": n})
    for n, handle in enumerate(handles):
        assert await handle.get() == WorkingMemory(version=1, value={"of": n})
    await ann.thread("t").delete()
    assert (await ann.working_memory.get()).value == {"of": 0}
    assert (await ann.thread("t").working_memory.get()).version == 0
    await ann.working_memory.clear()
    assert (await ann.thread("u").working_memory.get()).value == {"of": 2}


async def test_it_is_not_among_the_metadata(memory: Memory) -> None:
    thread = await memory.resource("ann").create_thread("t", metadata={"working_memory": "no"})
    await thread.working_memory.put({"title": "no"})
    info = await thread.info()
    assert (info.title, info.metadata) == (None, {"working_memory": "no"})
    await thread.set_metadata({"a": 1})
    assert (await thread.working_memory.get()) == WorkingMemory(version=1, value={"title": "no"})


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (None, "None is no working memory; clear"),
        ({"a": float("nan")}, "working memory.a is nan"),
        ({"a": {1}}, "working memory.a is a set"),
        (("a",), "working memory is a tuple"),
        ({1: 2}, "working memory has the key 1"),
        ("\ud800", "working memory holds a lone surrogate"),
    ],
)
async def test_a_value_that_is_not_json_is_refused_by_name(memory: Memory, of: In, wrong: Any, says: str) -> None:
    await of(memory).put("kept")
    with pytest.raises(InvalidContent, match=says):
        await of(memory).put(wrong)
    assert await of(memory).get() == WorkingMemory(version=1, value="kept")


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize("wrong", [None, "text", ["a"], 7, {"a": float("inf")}, {"a": {1: 2}}, deep(5000)])
async def test_a_patch_that_is_no_json_object_is_refused_and_changes_nothing(
    memory: Memory, of: In, wrong: Any
) -> None:
    await of(memory).put({"kept": 1})
    with pytest.raises(InvalidContent, match="patch"):
        await of(memory).patch(wrong)
    assert await of(memory).get() == WorkingMemory(version=1, value={"kept": 1})


async def test_it_is_taken_up_to_its_limit(memory: Memory, of: In) -> None:
    allowed = memory.store.limits.working_memory_bytes
    assert allowed >= 256 * 1024
    most = {"a": "x" * (allowed - len('{"a":""}'))}
    await of(memory).put(most)
    for write in (of(memory).put({"a": most["a"] + "x"}), of(memory).patch({"b": 1})):
        with pytest.raises(LimitExceeded) as caught:
            await write
        assert (caught.value.limit, caught.value.allowed) == ("working_memory_bytes", allowed)
        assert caught.value.given > allowed
    assert await of(memory).get() == WorkingMemory(version=1, value=most)


async def test_the_first_write_creates_the_thread_and_a_patch_never_brings_one_back(memory: Memory) -> None:
    thread = memory.thread("ann", "t")
    await thread.working_memory.patch({"a": 1})
    assert (await thread.info()).position == 0
    for _ in range(20):
        await thread.working_memory.put({"old": True})
        await asyncio.gather(thread.working_memory.patch({"new": True}), memory.thread("ann", "t").delete())
        assert (await thread.working_memory.get()).value in (None, {"new": True})
        await thread.delete()


@pytest.mark.parametrize("value", [{"old": True}, None])
async def test_a_patch_of_a_thread_that_is_made_anew_right_before_it_is_written_patches_the_new_one(
    memory: Memory, before: Before, value: Any
) -> None:
    thread = memory.thread("ann", "t")
    await thread.commit(working_memory=value)

    async def anew() -> None:
        await memory.thread("ann", "t").delete()
        await memory.thread("ann", "t").working_memory.put({"new": True})

    before(memory, "commit", 1, anew)
    assert (await thread.working_memory.patch({"patched": True})).value == {"new": True, "patched": True}


async def test_a_read_only_handle_of_a_missing_thread_says_so(memory: Memory) -> None:
    with pytest.raises(ThreadNotFound):
        await memory.thread("ann", "t", read_only=True).working_memory.get()
    assert (await memory.resource("ann", read_only=True).working_memory.get()).version == 0


async def test_an_update_sees_what_is_there_and_puts_what_is_made_of_it(memory: Memory, of: In) -> None:
    notes = of(memory)
    await notes.update(lambda now: [now.version])
    after = await notes.update(lambda now: [*now.value, now.version])
    assert after == WorkingMemory(version=2, value=[0, 1])
    assert await notes.get() == after
    assert await notes.update(lambda now: now.value) == after, "the very value that it got: nothing is written"
    with pytest.raises(InvalidContent, match=r"clear\(\) removes"):
        await notes.update(lambda now: None)
    with pytest.raises(ZeroDivisionError):
        await notes.update(lambda now: 1 / 0)
    assert await notes.get() == after


async def test_updates_of_many_at_once_are_all_there(memory: Memory, of: In) -> None:
    def add(number: int) -> Callable[[WorkingMemory], Any]:
        return lambda now: [*(now.value or []), number]

    await asyncio.gather(*(of(memory).update(add(number)) for number in range(30)))
    assert sorted((await of(memory).get()).value) == list(range(30))


async def test_a_read_only_handle_updates_nothing(memory: Memory) -> None:
    with pytest.raises(ReadOnly, match=r"update\(\)"):
        await memory.resource("ann", read_only=True).working_memory.update(lambda now: 1)


@pytest.mark.parametrize("of", ["thread", "resource"])
async def test_during_an_epoch_it_is_read_and_written_as_ever_and_touches_the_thread(memory: Memory, of: Any) -> None:
    thread = memory.thread("ann", "t")
    tail = (await thread.append("Hi")).tail
    notes = thread.working_memory_during(tail.epoch, of)
    assert await notes.put({"a": 1}, if_version=0) == WorkingMemory(version=1, value={"a": 1})
    assert await notes.patch({"b": 2}) == WorkingMemory(version=2, value={"a": 1, "b": 2})
    plain = thread.working_memory if of == "thread" else memory.resource("ann").working_memory
    assert await plain.get() == await notes.get() == WorkingMemory(version=2, value={"a": 1, "b": 2})
    with pytest.raises(VersionMoved):
        await notes.put("x", if_version=1)
    assert await notes.clear() == WorkingMemory(version=3)
    assert await thread.tail() == tail
    with pytest.raises(InvalidInput, match="'thread' or of the 'resource', not 'user'"):
        thread.working_memory_during(tail.epoch, "user")  # type: ignore[arg-type]  # what a careless caller does


@pytest.mark.parametrize("of", ["thread", "resource"])
async def test_a_thread_that_is_deleted_right_before_a_write_during_its_epoch_is_not_brought_back(
    memory: Memory, before: Before, of: Any
) -> None:
    thread = memory.thread("ann", "t")
    epoch = (await thread.append("Hi")).tail.epoch
    before(memory, "commit", 1, memory.resource("ann").erase)
    with pytest.raises(ThreadNotFound):
        await thread.working_memory_during(epoch, of).patch({"a": 1})
    assert not await thread.exists()
    assert (await memory.resource("ann").working_memory.get()).version == 0
