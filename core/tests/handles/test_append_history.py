"""Clients that send the whole conversation each time: what is new is appended, once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fixtures import Before

from threadkeep import Memory, Message
from threadkeep.errors import Diverged, InvalidContent, InvalidInput
from threadkeep.messages import TextPart
from threadkeep.port import new_id


def turn(n: int) -> list[Message]:
    return [Message.user("yes", id=f"u{n}"), Message.assistant(f"answer {n}", id=f"a{n}")]


def conversation(turns: int) -> list[Message]:
    return [message for n in range(turns) for message in turn(n)]


def renamed(messages: list[Message]) -> list[Message]:
    return [message.model_copy(update={"id": new_id()}) for message in messages]


@pytest.mark.parametrize("ids", ["stable", "fresh"])
async def test_each_request_appends_what_is_new_and_nothing_twice(memory: Memory, ids: Any) -> None:
    thread = memory.thread("ann", "t")
    for turns in (1, 1, 2, 5, 5):
        sent = conversation(turns) if ids == "stable" else renamed(conversation(turns))
        before = await thread.messages()
        receipt = await thread.append_history(sent, ids=ids)
        stored = await thread.messages()
        assert receipt.new == len(stored) - len(before)
        assert receipt.beyond == 0
        assert receipt.tail == await thread.tail()
        assert list(receipt.messages) == stored
        assert [message.position for message in receipt.messages] == [message.position for message in stored]
        assert stored[: len(before)] == before
        assert [message.text for message in stored] == [message.text for message in conversation(turns)]


@pytest.mark.parametrize("ids", ["stable", "fresh"])
async def test_an_older_request_repeated_writes_nothing_and_says_what_lies_beyond(memory: Memory, ids: Any) -> None:
    thread = memory.thread("ann", "t")
    await thread.append_history(conversation(3), ids=ids)
    before = await thread.load()
    sent = conversation(2) if ids == "stable" else renamed(conversation(2))
    receipt = await thread.append_history(sent, ids=ids)
    assert (receipt.new, receipt.beyond, receipt.tail) == (0, 2, before.tail)
    assert list(receipt.messages) == conversation(2)
    assert await thread.load() == before


@pytest.mark.parametrize("ids", ["stable", "fresh"])
async def test_an_edited_history_is_refused_with_the_place_and_writes_nothing(memory: Memory, ids: Any) -> None:
    thread = memory.thread("ann", "t")
    await thread.append_history(conversation(2), ids=ids)
    before = await thread.load()
    edited = conversation(3)
    edited[1] = Message.assistant("edited", id="a0")
    sent = edited if ids == "stable" else renamed(edited)
    with pytest.raises(Diverged, match=r"at index 1: .*; drop the stored messages from there on, or fork") as caught:
        await thread.append_history(sent, ids=ids)
    assert caught.value.index == 1
    assert await thread.load() == before


@pytest.mark.parametrize("ids", ["stable", "fresh"])
async def test_the_assistants_last_message_may_come_back_grown(memory: Memory, ids: Any) -> None:
    thread = memory.thread("ann", "t")
    await thread.append_history(conversation(2), ids=ids)
    grown = conversation(2)
    grown[3] = grown[3].model_copy(update={"parts": [*grown[3].parts, TextPart(text="and more")]})
    sent = [*grown, *turn(2)]
    receipt = await thread.append_history(sent if ids == "stable" else renamed(sent), ids=ids)
    stored = await thread.messages()
    assert [message.text for message in stored] == [message.text for message in sent]
    assert stored[3].id == "a1"
    assert list(receipt.messages) == stored
    assert receipt.new == 2
    assert (await thread.append_history(sent if ids == "stable" else renamed(sent), ids=ids)).new == 0


@pytest.mark.parametrize("ids", ["stable", "fresh"])
async def test_the_same_request_from_many_at_once_is_stored_once(memory: Memory, ids: Any) -> None:
    for start in (0, 2):
        sent = conversation(start + 2)
        receipts = await asyncio.gather(
            *(
                memory.thread("ann", "t").append_history(sent if ids == "stable" else renamed(sent), ids=ids)
                for _ in range(6)
            )
        )
        stored = await memory.thread("ann", "t").messages()
        assert [message.text for message in stored] == [message.text for message in sent]
        assert all(list(receipt.messages) == stored for receipt in receipts)


async def test_a_grown_message_from_many_at_once_is_stored_once(memory: Memory) -> None:
    for _ in range(5):
        thread = memory.thread("ann", "t")
        await thread.append_history(conversation(1), ids="stable")
        grown = conversation(1)
        grown[1] = grown[1].model_copy(update={"parts": [*grown[1].parts, TextPart(text="and more")]})
        await asyncio.gather(
            *(memory.thread("ann", "t").append_history([*grown, *turn(1)], ids="stable") for _ in range(4))
        )
        assert await thread.messages() == [*grown, *turn(1)]
        await thread.delete()


async def test_a_grown_message_that_another_drops_right_before_is_appended_as_new(
    memory: Memory, before: Before
) -> None:
    thread = memory.thread("ann", "t")
    await thread.append_history(conversation(1), ids="stable")
    grown = conversation(1)
    grown[1] = grown[1].model_copy(update={"parts": [*grown[1].parts, TextPart(text="and more")]})
    before(memory, "load", 2, lambda: memory.thread("ann", "t").drop_from("a0"))
    receipt = await thread.append_history(grown, ids="stable")
    assert receipt.new == 1
    assert await thread.messages() == grown


async def test_histories_that_differ_race_and_one_is_told(memory: Memory) -> None:
    first = conversation(1)
    outcomes = await asyncio.gather(
        *(
            memory.thread("ann", "t").append_history([*first, Message.user(f"question {n}")], ids="stable")
            for n in range(4)
        ),
        return_exceptions=True,
    )
    won = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert len(won) == 1
    assert all(isinstance(outcome, Diverged) for outcome in outcomes if outcome is not won[0])
    assert len(await memory.thread("ann", "t").messages()) == 3


async def test_fresh_ids_that_are_taken_already_are_replaced(memory: Memory) -> None:
    thread = memory.thread("ann", "t")
    numbered = [Message.user(text, id=str(n)) for n, text in enumerate("abc")]
    await thread.append_history(numbered[:2], ids="fresh")
    sent = [Message.user(text, id=str(n)) for n, text in zip((1, 0, 1), "abc", strict=True)]
    receipt = await thread.append_history(sent, ids="fresh")
    assert [message.text for message in await thread.messages()] == ["a", "b", "c"]
    assert len({message.id for message in receipt.messages}) == 3
    same = [Message.user("x", id="same"), Message.user("y", id="same")]
    await memory.thread("ann", "u").append_history(same, ids="fresh")
    assert [message.text for message in await memory.thread("ann", "u").messages()] == ["x", "y"]


async def test_an_empty_history_writes_nothing(memory: Memory) -> None:
    thread = memory.thread("ann", "t")
    receipt = await thread.append_history([], ids="stable")
    assert (receipt.new, receipt.messages, receipt.tail.epoch) == (0, (), "")
    assert not await thread.exists()


@pytest.mark.parametrize("wrong", ["other", None, True, ""])
async def test_ids_are_stable_or_fresh_and_nothing_else(memory: Memory, wrong: Any) -> None:
    with pytest.raises(InvalidInput, match=r"'stable' .* or 'fresh'"):
        await memory.thread("ann", "t").append_history(conversation(1), ids=wrong)


@pytest.mark.parametrize("ids", ["stable", "fresh"])
async def test_a_history_of_more_than_one_commit_takes_comes_whole(memory: Memory, ids: Any) -> None:
    thread = memory.thread("ann", "t")
    most = memory.store.limits.commit_messages
    sent = [Message.user(str(n), id=str(n)) for n in range(2 * most + 3)]
    invalid = Message.user("never", metadata={"a": float("nan")})
    with pytest.raises(InvalidContent):
        await thread.append_history([*sent, invalid], ids=ids)
    assert not await thread.exists()
    receipt = await thread.append_history(sent, ids=ids)
    assert receipt.new == len(sent)
    assert receipt.tail == await thread.tail()
    assert list(receipt.messages) == sent
    assert [message.id async for message in thread.history()] == [message.id for message in sent]
