"""A fork is a new thread with a copy of what another holds; the other stays as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from threadkeep import Memory, Message
from threadkeep.errors import InvalidContent, InvalidId, MessageNotFound, TailMoved, ThreadExists, ThreadNotFound
from threadkeep.port import Changes, Receipt, Scope, Thread


async def everything(memory: Memory, thread_id: str) -> tuple[Any, ...]:
    thread = memory.thread("ann", thread_id)
    return await thread.load(last=1000), await thread.messages()


async def test_a_fork_takes_everything_along_and_leaves_the_original_untouched(memory: Memory) -> None:
    ann = memory.resource("ann")
    source = await ann.create_thread("source", title="Trip", metadata={"plan": "gold"})
    given = [Message.user(text, id=text) for text in "abc"]
    await source.commit(given, working_memory={"a": 1}, resource_memory={"shared": True})
    await source.drop_from("c")
    await source.append(Message.assistant("c again", id="c"))
    await source.archive()
    before = await everything(memory, "source")
    fork = await source.fork("fork")
    assert fork.thread_id == "fork"
    assert await fork.messages() == await source.messages()
    info, old = await fork.info(), await source.info()
    assert (info.title, info.metadata, info.archived) == ("Trip", {"plan": "gold"}, False)
    assert info.forked_from == {"thread_id": "source", "message_id": "c"}
    assert not info.incomplete
    assert info.epoch != old.epoch
    assert (await fork.working_memory.get()).value == {"a": 1}
    await fork.append("only in the fork")
    await fork.working_memory.patch({"b": 2})
    await fork.rename("Fork")
    await fork.drop_from("a")
    assert await everything(memory, "source") == before
    await fork.delete()
    assert await everything(memory, "source") == before


@pytest.mark.parametrize(("up_to", "texts"), [("a", "a"), ("b", "ab"), ("d", "abcd"), (None, "abcd")])
async def test_a_fork_goes_up_to_the_message_named_and_takes_it_along(
    memory: Memory, up_to: str | None, texts: str
) -> None:
    source = memory.thread("ann", "source")
    await source.append(*(Message.user(text, id=text) for text in "abcd"))
    fork = await source.fork(up_to=up_to)
    assert "".join([message.text for message in await fork.messages()]) == texts
    assert (await fork.info()).forked_from == {"thread_id": "source", "message_id": texts[-1]}


async def test_forks_get_ids_and_titles_of_their_own_when_asked(memory: Memory) -> None:
    source = await memory.resource("ann").create_thread("source", title="old")
    forks = [await source.fork(), await source.fork(), await source.fork(title="new"), await source.fork(title="")]
    assert len({fork.thread_id for fork in forks} | {"source"}) == 5
    assert [(await fork.info()).title for fork in forks] == ["old", "old", "new", ""]
    assert (await forks[0].info()).forked_from == {"thread_id": "source", "message_id": None}


async def test_a_fork_onto_a_thread_that_is_there_is_refused_and_changes_nothing(memory: Memory) -> None:
    source = await memory.resource("ann").create_thread("source", title="source")
    await source.append(*(Message.user(text, id=text) for text in "ab"))
    taken = await source.fork("taken", title="taken")
    await taken.working_memory.put("kept")
    for thread_id in ("taken", "source"):
        before = await everything(memory, thread_id)
        for up_to in ("a", None):
            with pytest.raises(ThreadExists):
                await source.fork(thread_id, up_to=up_to, title="never")
        assert await everything(memory, thread_id) == before


async def test_of_many_forks_to_one_id_one_is_made(memory: Memory) -> None:
    source = memory.thread("ann", "source")
    await source.append("a", "b")
    outcomes = await asyncio.gather(
        *(source.fork("fork", title=str(n)) for n in range(6)), return_exceptions=True
    )  # fmt: skip
    won = [n for n, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
    assert len(won) == 1
    assert all(isinstance(outcome, ThreadExists) for n, outcome in enumerate(outcomes) if n not in won)
    assert (await memory.thread("ann", "fork").info()).title == str(won[0])
    assert len(await memory.thread("ann", "fork").messages()) == 2


async def test_a_fork_of_what_is_not_there_creates_nothing(memory: Memory) -> None:
    with pytest.raises(ThreadNotFound):
        await memory.thread("ann", "nowhere").fork("fork")
    await memory.thread("bob", "source").append(Message.user("bob's", id="m"))
    with pytest.raises(ThreadNotFound):
        await memory.thread("ann", "source").fork("fork", up_to="m")
    source = memory.thread("ann", "here")
    await source.append("hello")
    with pytest.raises(MessageNotFound):
        await source.fork("fork", up_to="m")
    wrong: Any
    for wrong in ("", 7, b"m"):
        with pytest.raises(InvalidId):
            await source.fork("fork", up_to=wrong)
        with pytest.raises(InvalidId):
            await source.fork(wrong)
    wrong = 7
    with pytest.raises(InvalidContent):
        await source.fork("fork", title=wrong)
    assert [info.thread_id async for info in memory.resource("ann").threads()] == ["here"]


def watch_commits(memory: Memory, seen: Callable[[Scope], Awaitable[None]]) -> None:
    """Runs `seen` after each commit that the store has done."""
    commit = memory.store.store.commit

    async def watched(scope: Scope, changes: Changes) -> Receipt:
        receipt = await commit(scope, changes)
        await seen(scope)
        return receipt

    memory.store.store.commit = watched  # type: ignore[method-assign]  # the store stays the real one


async def test_a_fork_of_more_than_one_commit_says_that_it_is_incomplete_until_it_is_whole(memory: Memory) -> None:
    most = memory.store.limits.commit_messages
    source = await memory.resource("ann").create_thread("source", title="long")
    count = 2 * most + 5
    for start in range(0, count, most):
        await source.append(*(Message.user("x", id=str(n)) for n in range(start, min(start + most, count))))
    await source.working_memory.put({"a": 1})
    seen: list[tuple[bool, int, int]] = []

    async def look(scope: Scope) -> None:
        assert scope == Thread("ann", "fork")
        info = await memory.thread("ann", "fork").info()
        version = (await memory.thread("ann", "fork").working_memory.get()).version
        seen.append((info.incomplete, info.position, version))

    watch_commits(memory, look)
    fork = await source.fork("fork")
    assert seen == [(True, most, 0), (True, 2 * most, 0), (False, count, 1)]
    assert [message.id async for message in fork.history()] == [str(n) for n in range(count)]


async def test_a_fork_of_messages_larger_than_one_commit_takes_comes_whole(memory: Memory) -> None:
    limits = memory.store.limits
    source = memory.thread("ann", "source")
    size = limits.message_bytes - 1000
    count = limits.commit_bytes // size + 2
    for n in range(count):
        await source.append(Message.user(str(n % 10) * size, id=str(n)))
    fork = await source.fork()
    assert await fork.messages() == await source.messages()
    assert not (await fork.info()).incomplete


@pytest.mark.parametrize("disturbance", ["delete", "append", "delete and create"])
async def test_a_fork_that_is_disturbed_on_the_way_stops_and_says_so(memory: Memory, disturbance: str) -> None:
    most = memory.store.limits.commit_messages
    source = memory.thread("ann", "source")
    for start in (0, most):
        await source.append(*(Message.user("x", id=str(n)) for n in range(start, start + most)))
    done = False

    async def disturb(scope: Scope) -> None:
        nonlocal done
        if not done:
            done = True
            fork = memory.thread("ann", "fork")
            if disturbance != "append":
                await fork.delete()
            if disturbance != "delete":
                await fork.append("someone else's")

    watch_commits(memory, disturb)
    with pytest.raises(TailMoved):
        await source.fork("fork")
    thread = memory.thread("ann", "fork")
    assert await thread.exists() is (disturbance != "delete")
    if await thread.exists():
        assert (await thread.messages(last=1))[0].text == "someone else's"
