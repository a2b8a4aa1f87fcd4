"""A thread's life: created once, edited by many, deleted for good (laws 5, 7, 10, 11); and what is committed to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from threadkeep import Memory, Message
from threadkeep.errors import (
    InvalidContent,
    InvalidId,
    InvalidInput,
    LimitExceeded,
    MessageConflict,
    MessageNotFound,
    TailMoved,
    ThreadExists,
    ThreadNotFound,
)
from threadkeep.messages import TextPart
from threadkeep.port import MISSING, Tail

Use = Callable[[Callable[[Memory], Awaitable[None]]], None]
Before = Callable[[Memory, str, int, Callable[[], Awaitable[object]]], None]


async def texts(memory: Memory, thread_id: str = "t") -> list[str]:
    return [message.text for message in await memory.thread("ann", thread_id).messages()]


def test_a_thread_is_created_with_what_was_given_and_nothing_else(use: Use) -> None:
    async def check(memory: Memory) -> None:
        ann = memory.resource("ann")
        info = await (await ann.create_thread("t", title="Trip", metadata={"plan": "gold", "n": 10**30})).info()
        assert (info.resource_id, info.thread_id, info.title) == ("ann", "t", "Trip")
        assert info.metadata == {"plan": "gold", "n": 10**30}
        assert not info.archived
        assert not info.incomplete
        assert info.forked_from is None
        assert info.position == 0
        assert info.epoch
        assert info.created_at == info.updated_at
        assert abs(info.created_at - datetime.now(UTC)).total_seconds() < 60
        assert await texts(memory) == []

    use(check)


def test_a_thread_without_an_id_gets_one_of_its_own(use: Use) -> None:
    async def check(memory: Memory) -> None:
        ann = memory.resource("ann")
        threads = [await ann.create_thread() for _ in range(3)]
        assert len({thread.thread_id for thread in threads}) == 3
        assert [info.thread_id async for info in ann.threads()] == [thread.thread_id for thread in threads]

    use(check)


@pytest.mark.parametrize("given", ["", 7, b"t", False])
def test_an_id_that_is_given_and_wrong_is_not_replaced_by_a_new_one(use: Use, given: Any) -> None:
    async def check(memory: Memory) -> None:
        with pytest.raises(InvalidId, match="thread_id must"):
            await memory.resource("ann").create_thread(given)
        assert [info async for info in memory.resource("ann").threads()] == []

    use(check)


def test_creating_what_is_there_raises_and_changes_nothing(use: Use) -> None:
    async def check(memory: Memory) -> None:
        ann = memory.resource("ann")
        await ann.create_thread("t", title="first")
        before = await ann.thread("t").info()
        with pytest.raises(ThreadExists, match="thread 't' exists; use get_or_create_thread, or another id"):
            await ann.create_thread("t", title="second")
        assert await ann.thread("t").info() == before
        await memory.resource("bob").create_thread("t", title="bob's")
        assert await ann.thread("t").info() == before

    use(check)


def test_of_many_who_create_a_thread_one_does(use: Use) -> None:
    async def check(memory: Memory) -> None:
        ann = memory.resource("ann")
        outcomes = await asyncio.gather(
            *(ann.create_thread("t", title=str(n)) for n in range(8)), return_exceptions=True
        )
        won = [n for n, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
        assert len(won) == 1
        assert all(isinstance(outcome, ThreadExists) for n, outcome in enumerate(outcomes) if n not in won)
        assert (await ann.thread("t").info()).title == str(won[0])

    use(check)


def test_get_or_create_in_a_race_gives_everyone_the_same_thread(use: Use) -> None:
    async def check(memory: Memory) -> None:
        ann = memory.resource("ann")
        threads = await asyncio.gather(*(ann.get_or_create_thread("t", title=str(n)) for n in range(8)))
        await asyncio.gather(*(thread.append(str(n)) for n, thread in enumerate(threads)))
        infos = [await thread.info() for thread in threads]
        assert len({(info.epoch, info.title) for info in infos}) == 1
        assert sorted(await texts(memory)) == [str(n) for n in range(8)]
        await ann.get_or_create_thread("t", title="too late")
        assert (await threads[0].info()).title == infos[0].title

    use(check)


def test_a_thread_is_there_from_its_creation_or_first_append_on(use: Use) -> None:
    async def check(memory: Memory) -> None:
        ann = memory.resource("ann")
        thread = ann.thread("t")
        assert not await thread.exists()
        assert await thread.tail() == MISSING
        with pytest.raises(ThreadNotFound, match="there is no thread 't'; create it"):
            await thread.info()
        receipt = await thread.append("hello")
        assert await thread.exists()
        assert await thread.tail() == receipt.tail
        info = await thread.info()
        assert (info.title, info.metadata, info.position) == (None, {}, receipt.tail.position)

    use(check)


def test_edits_of_a_missing_thread_raise_and_create_none(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        for edit in (
            thread.rename("title"),
            thread.set_metadata({"a": 1}),
            thread.remove_metadata("a"),
            thread.archive(),
            thread.unarchive(),
        ):
            with pytest.raises(ThreadNotFound):
                await edit
        await thread.delete()
        assert not await thread.exists()

    use(check)


def test_a_title_is_set_replaced_and_removed(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = await memory.resource("ann").create_thread("t", metadata={"kept": True})
        for title in ("One", "", "\0 é \U0001f600", None, "last"):
            info = await thread.rename(title)
            assert info.title == title
            assert await thread.info() == info
        assert info.metadata == {"kept": True}

    use(check)


def test_metadata_keys_are_set_and_removed_one_by_one(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = await memory.resource("ann").create_thread("t", title="kept", metadata={"a": 1, "b": {"x": [1]}})
        info = await thread.set_metadata({"b": None, "$set": {"a.b": ""}, "": []})
        assert info.metadata == {"a": 1, "b": None, "$set": {"a.b": ""}, "": []}
        info = await thread.remove_metadata("a", "$set", "never there")
        assert info.metadata == {"b": None, "": []}
        info = await thread.remove_metadata("b", "")
        assert (info.metadata, info.title) == ({}, "kept")

    use(check)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"a": float("nan")}, "metadata.a is nan"),
        ({"a": [1, {"b": "\ud800"}]}, r"metadata.a\[1\].b holds a lone surrogate"),
        ({"a": (1, 2)}, "metadata.a is a tuple"),
        ({"a": datetime(2031, 1, 1)}, "metadata.a is a datetime"),
        ({1: "a"}, "metadata has the key 1; keys must be strings"),
        (["a"], "metadata must be a mapping"),
        ("ab", "metadata must be a mapping"),
        (0, "metadata must be a mapping"),
    ],
)
def test_metadata_that_is_not_json_is_refused_by_name(use: Use, wrong: Any, says: str) -> None:
    async def check(memory: Memory) -> None:
        ann = memory.resource("ann")
        with pytest.raises(InvalidContent, match=says):
            await ann.create_thread("new", metadata=wrong)
        assert not await ann.thread("new").exists()
        thread = await ann.create_thread("t", metadata={"kept": 1})
        with pytest.raises(InvalidContent, match=says):
            await thread.set_metadata(wrong)
        assert (await thread.info()).metadata == {"kept": 1}

    use(check)


@pytest.mark.parametrize("wrong", [7, b"title", ["title"], "\ud800"])
def test_a_title_that_is_no_text_is_refused(use: Use, wrong: Any) -> None:
    async def check(memory: Memory) -> None:
        thread = await memory.resource("ann").create_thread("t", title="kept")
        with pytest.raises(InvalidContent, match="title"):
            await thread.rename(wrong)
        with pytest.raises(InvalidContent, match="title"):
            await memory.resource("ann").create_thread("new", title=wrong)
        assert (await thread.info()).title == "kept"
        assert not await memory.thread("ann", "new").exists()

    use(check)


def test_title_and_metadata_are_taken_up_to_their_limits(use: Use) -> None:
    async def check(memory: Memory) -> None:
        limits = memory.store.limits
        title, value = "é" * (limits.title_bytes // 2), "x" * (limits.metadata_bytes - len('{"k":""}'))
        thread = await memory.resource("ann").create_thread("t", title=title, metadata={"k": value})
        for edit, limit in (
            (thread.rename(title + "x"), "title_bytes"),
            (thread.set_metadata({"k": value + "x"}), "metadata_bytes"),
            (thread.set_metadata({"l": 1}), "metadata_bytes"),
        ):
            with pytest.raises(LimitExceeded) as caught:
                await edit
            assert caught.value.limit == limit
            assert caught.value.allowed == getattr(limits, limit)
            assert caught.value.given > caught.value.allowed
        info = await thread.info()
        assert (info.title, info.metadata) == (title, {"k": value})

    use(check)


def test_archiving_marks_a_thread_and_changes_nothing_else(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = await memory.resource("ann").create_thread("t", title="kept")
        await thread.append("hello")
        for _ in range(2):
            assert (await thread.archive()).archived
        await thread.append("still open for writing")
        assert (await thread.info()).archived
        for _ in range(2):
            info = await thread.unarchive()
            assert (info.archived, info.title) == (False, "kept")
        assert await texts(memory) == ["hello", "still open for writing"]

    use(check)


def test_edits_of_many_at_once_are_all_kept(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = await memory.resource("ann").create_thread("t", metadata={"old": 1})
        await asyncio.gather(
            *(memory.thread("ann", "t").set_metadata({f"k{n}": n}) for n in range(12)),
            memory.thread("ann", "t").rename("renamed"),
            memory.thread("ann", "t").archive(),
            memory.thread("ann", "t").remove_metadata("old"),
            *(memory.thread("ann", "t").append(str(n)) for n in range(12)),
        )
        info = await thread.info()
        assert info.metadata == {f"k{n}": n for n in range(12)}
        assert (info.title, info.archived) == ("renamed", True)
        assert len(await texts(memory)) == 12

    use(check)


def test_appending_does_not_undo_a_rename(use: Use) -> None:
    async def check(memory: Memory) -> None:
        mine, theirs = memory.thread("ann", "t"), memory.thread("ann", "t")
        await mine.create(title="old")
        await mine.info()
        await theirs.rename("new")
        await mine.append("hello")
        assert (await mine.info()).title == "new"

    use(check)


def test_an_edit_in_a_race_with_a_delete_never_brings_the_thread_back(use: Use) -> None:
    async def check(memory: Memory) -> None:
        ann = memory.resource("ann")
        for n in range(25):
            thread = await ann.create_thread(f"t{n}", metadata={"a": 1})
            outcomes = await asyncio.gather(
                thread.rename("title"),
                thread.set_metadata({"b": 2}),
                ann.thread(f"t{n}").delete(),
                thread.archive(),
                return_exceptions=True,
            )
            for outcome in outcomes:
                assert not isinstance(outcome, BaseException) or isinstance(outcome, ThreadNotFound), outcome
            assert not await thread.exists()

    use(check)


@pytest.mark.parametrize("metadata", [None, {"a": 1}])
def test_an_edit_of_a_thread_that_is_deleted_right_before_it_is_written_finds_none(
    use: Use, before: Before, metadata: Any
) -> None:
    async def check(memory: Memory) -> None:
        thread = await memory.resource("ann").create_thread("t", metadata=metadata)
        before(memory, "commit", 1, memory.thread("ann", "t").delete)
        with pytest.raises(ThreadNotFound):
            await thread.rename("title")
        assert not await thread.exists()

    use(check)


def test_an_edit_of_a_thread_that_is_made_anew_right_before_it_is_written_edits_the_new_one(
    use: Use, before: Before
) -> None:
    async def check(memory: Memory) -> None:
        thread = await memory.resource("ann").create_thread("t", metadata={"old": 1})

        async def anew() -> None:
            await memory.thread("ann", "t").delete()
            await memory.resource("ann").create_thread("t", metadata={"new": 1})

        before(memory, "commit", 1, anew)
        info = await thread.rename("title")
        assert (info.title, info.metadata) == ("title", {"new": 1})
        assert info == await thread.info()

    use(check)


def test_a_message_that_is_dropped_by_another_right_before_takes_nothing_else_along(use: Use, before: Before) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        await thread.append("kept", Message.user("old", id="m"))

        async def edit() -> None:
            await memory.thread("ann", "t").commit(["edited by another"], drop_from="m")

        before(memory, "commit", 1, edit)
        with pytest.raises(MessageNotFound):
            await thread.commit(["mine"], drop_from="m")
        assert await texts(memory) == ["kept", "edited by another"]

    use(check)


def test_creating_in_a_race_with_a_delete_succeeds_or_says_that_the_thread_exists(use: Use) -> None:
    async def check(memory: Memory) -> None:
        ann = memory.resource("ann")
        for n in range(25):
            outcomes = await asyncio.gather(
                *(ann.create_thread(f"t{n}", title="mine") for _ in range(3)),
                *(ann.thread(f"t{n}").delete() for _ in range(3)),
                return_exceptions=True,
            )
            for outcome in outcomes:
                assert not isinstance(outcome, BaseException) or isinstance(outcome, ThreadExists), outcome

    use(check)


def test_a_deleted_thread_is_gone_and_created_again_it_starts_empty(use: Use) -> None:
    async def check(memory: Memory) -> None:
        ann = memory.resource("ann")
        thread = await ann.create_thread("t", title="old", metadata={"a": 1})
        old = await thread.commit([Message.user("hello", id="m")], working_memory={"a": 1}, resource_memory={"r": 1})
        await ann.thread("tt").append("neighbour")
        for _ in range(2):
            await thread.delete()
            assert not await thread.exists()
            assert await texts(memory) == []
            assert (await thread.working_memory.get()).version == 0
        new = await thread.append(Message.user("another body", id="m"))
        assert new.tail.epoch != old.tail.epoch
        assert new.tail.position == 1
        info = await thread.info()
        assert (info.title, info.metadata) == (None, {})
        assert (await thread.working_memory.put("new")).version == 1
        with pytest.raises(TailMoved) as caught:
            await thread.append("late", if_tail=old.tail)
        assert Tail(caught.value.epoch, caught.value.position) == new.tail
        assert (await ann.working_memory.get()).value == {"r": 1}
        assert await texts(memory, "tt") == ["neighbour"]

    use(check)


def test_strings_are_messages_of_the_user_in_the_order_given(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        first = Message.assistant("two", id="m2")
        receipt = await thread.append("one", first, "", "one")
        assert list(receipt.positions) == [1, 2, 3, 4]
        messages = await thread.messages()
        assert [message.text for message in messages] == ["one", "two", "", "one"]
        assert [message.role for message in messages] == ["user", "assistant", "user", "user"]
        assert [message.position for message in messages] == [1, 2, 3, 4]
        assert messages[1] == first
        assert len({message.id for message in messages}) == 4

    use(check)


@pytest.mark.parametrize("wrong", [None, 7, {"role": "user"}, b"hello", ["hello"]])
def test_what_is_no_message_is_refused_and_nothing_is_written(use: Use, wrong: Any) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        with pytest.raises(InvalidContent, match="a message must be a Message or a string"):
            await thread.append("fine", wrong)
        with pytest.raises(InvalidContent, match="a message must be a Message or a string"):
            await thread.append_history([Message.user("fine"), wrong], ids="stable")
        assert not await thread.exists()

    use(check)


@pytest.mark.parametrize("wrong", ["\ud800", Message(role="user", metadata={"a": "\ud800"}), Message.user("x", id="")])
def test_a_message_that_cannot_be_kept_is_refused_by_name_and_nothing_is_written(use: Use, wrong: Any) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        with pytest.raises(InvalidInput, match=r"text|metadata\.a|message id"):
            await thread.append("fine", wrong)
        assert not await thread.exists()

    use(check)


@pytest.mark.parametrize("wrong", ["hello", Message.user("hello"), None, 7])
def test_one_message_where_several_are_asked_for_is_refused(use: Use, wrong: Any) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        with pytest.raises(InvalidContent, match="list of messages"):
            await thread.commit(wrong)
        with pytest.raises(InvalidContent, match="list of messages"):
            await thread.append_history(wrong, ids="stable")
        assert not await thread.exists()

    use(check)


def test_an_equal_message_again_is_known_and_keeps_its_position(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        one, two, three = (Message.user(text, id=text) for text in ("one", "two", "three"))
        await thread.append(one, two)
        again = Message(id="one", role="user", parts=[TextPart(text="one")])
        mixed = await thread.append(again, three, two, three)
        assert list(mixed.positions) == [1, 3, 2, 3]
        assert mixed.tail.position == 3
        assert await thread.append(*(await thread.messages())) == await thread.append(one, two, three)
        assert await texts(memory) == ["one", "two", "three"]

    use(check)


def test_two_messages_that_say_the_same_are_two(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        for _ in range(2):
            await thread.append("yes")
        assert await texts(memory) == ["yes", "yes"]

    use(check)


def test_one_id_with_two_bodies_is_a_conflict_and_writes_nothing(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        await thread.append(Message.user("one", id="m"))
        before = await thread.load()
        conflicts: list[list[Message | str]] = [
            ["new", Message.user("two", id="m")],
            ["new", Message.assistant("one", id="m")],
            [Message.user("a", id="n"), Message.user("b", id="n")],
        ]
        for given in conflicts:
            with pytest.raises(MessageConflict, match="give the new one an id of its own") as caught:
                await thread.commit(given, working_memory={"never": "written"})
            assert caught.value.message_id in ("m", "n")
        assert await thread.load() == before

    use(check)


def test_if_tail_lets_one_of_many_through_and_tells_the_others_the_tail(use: Use) -> None:
    async def check(memory: Memory) -> None:
        for given in (MISSING, (await memory.thread("ann", "t").append("first")).tail):
            thread_id = "t" if given.position else "new"
            outcomes = await asyncio.gather(
                *(memory.thread("ann", thread_id).append(f"racer {n}", if_tail=given) for n in range(8)),
                return_exceptions=True,
            )
            won = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
            assert len(won) == 1
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    assert isinstance(outcome, TailMoved), outcome
                    assert Tail(outcome.epoch, outcome.position) == won[0].tail
            assert len(await texts(memory, thread_id)) == 1 + bool(given.position)

    use(check)


def test_repeating_a_commit_that_happened_is_safe_even_with_its_old_tail(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        tail = (await thread.append("first")).tail
        message = Message.user("second")
        receipt = await thread.append(message, if_tail=tail)
        await thread.append("third")
        again = await thread.append(message, if_tail=tail)
        assert list(again.positions) == list(receipt.positions)
        assert len(await texts(memory)) == 3

    use(check)


@pytest.mark.parametrize("wrong", ["tail", 3, ("", "0"), ("epoch", 1, 2), ("epoch", True), (1, 1)])
def test_an_if_tail_that_is_no_tail_is_refused(use: Use, wrong: Any) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        with pytest.raises(InvalidContent, match="if_tail is a tail"):
            await thread.append("hello", if_tail=wrong)
        assert not await thread.exists()

    use(check)


def test_dropping_from_a_message_removes_it_and_all_after_it(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        before = await thread.append(*(Message.user(str(n), id=str(n)) for n in range(5)))
        receipt = await thread.drop_from("3")
        assert receipt.tail == Tail(before.tail.epoch, 3)
        assert await texts(memory) == ["0", "1", "2"]
        with pytest.raises(MessageNotFound, match="there is no message '3' in this thread"):
            await thread.drop_from("3")
        with pytest.raises(TailMoved):
            await thread.append("late", if_tail=before.tail)
        again = await thread.append(Message.assistant("another body", id="3"))
        assert again.positions[0] > 5
        assert (await thread.drop_from("0")).tail.position == 0
        assert await texts(memory) == []
        assert await thread.exists()

    use(check)


def test_dropping_and_appending_are_one_commit(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        await thread.append(*(Message.user(str(n), id=str(n)) for n in range(3)))
        tail = await thread.tail()
        await thread.commit([Message.user("edited", id="1"), "and on"], drop_from="1", if_tail=tail)
        assert await texts(memory) == ["0", "edited", "and on"]
        with pytest.raises(TailMoved):
            await thread.commit(["late"], drop_from="0", if_tail=tail)
        with pytest.raises(MessageConflict):
            await thread.commit([Message.user("conflict", id="0")], drop_from="1")
        assert await texts(memory) == ["0", "edited", "and on"]

    use(check)


def test_dropping_from_a_message_that_is_not_there_writes_nothing(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        for _ in range(2):
            with pytest.raises(MessageNotFound):
                await thread.commit(["hello"], drop_from="m", working_memory=1)
            assert await texts(memory) == []
        assert not await thread.exists()
        with pytest.raises(InvalidId, match="message id must"):
            await thread.drop_from("")
        wrong: Any = 3
        with pytest.raises(InvalidId, match="message id must"):
            await thread.drop_from(wrong)

    use(check)


def test_of_two_who_drop_the_same_message_the_second_takes_nothing_else(use: Use) -> None:
    async def check(memory: Memory) -> None:
        for _ in range(10):
            thread = memory.thread("ann", "t")
            await thread.append("kept", Message.user("old", id="m"))

            async def edit(text: str) -> None:
                await memory.thread("ann", "t").commit([text], drop_from="m")

            outcomes = await asyncio.gather(*(edit(f"edit {n}") for n in range(6)), return_exceptions=True)
            failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
            assert len(failed) == 5
            assert all(isinstance(outcome, MessageNotFound) for outcome in failed), failed
            assert len(await texts(memory)) == 2
            await thread.delete()

    use(check)


def test_a_commit_writes_messages_and_both_working_memories_together(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        receipt = await thread.commit(["hello"], working_memory={"a": 1}, resource_memory=["r"])
        assert [*receipt.versions, *receipt.resource_versions] == [1, 1]
        snapshot = await thread.load()
        assert snapshot.working_memory.value == {"a": 1}
        assert snapshot.resource_memory.value == ["r"]
        assert [message.text for message in snapshot.messages] == ["hello"]
        await thread.commit(working_memory=None)
        snapshot = await thread.load()
        assert (snapshot.working_memory.version, snapshot.working_memory.value) == (2, None)
        assert (snapshot.resource_memory.version, snapshot.resource_memory.value) == (1, ["r"])
        with pytest.raises(InvalidContent, match=r"working memory\.a is a set"):
            await thread.commit(["never"], working_memory={"a": {1}})
        assert await texts(memory) == ["hello"]

    use(check)


def test_a_commit_without_changes_creates_or_touches_the_thread(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        await thread.commit()
        first = await thread.info()
        await thread.commit()
        second = await thread.info()
        assert second.updated_at >= first.updated_at
        assert (second.epoch, second.position) == (first.epoch, 0)

    use(check)


def test_a_commit_is_taken_up_to_the_limits_and_nothing_of_it_above(use: Use) -> None:
    async def check(memory: Memory) -> None:
        limits = memory.store.limits
        thread = memory.thread("ann", "t")
        await thread.append(*(f"message {n}" for n in range(limits.commit_messages)))
        assert len(await texts(memory)) == limits.commit_messages
        with pytest.raises(LimitExceeded) as caught:
            await thread.append(*(f"message {n}" for n in range(limits.commit_messages + 1)))
        assert (caught.value.limit, caught.value.given) == ("commit_messages", limits.commit_messages + 1)
        overhead = len('{"id":"big","role":"user","parts":[{"type":"text","text":""}]}')
        big = "x" * (limits.message_bytes - overhead)
        await memory.thread("ann", "big").append(Message.user(big, id="big"))
        with pytest.raises(LimitExceeded) as caught:
            await thread.append("small", Message.user(big + "x", id="big"))
        assert (caught.value.limit, caught.value.given) == ("message_bytes", limits.message_bytes + 1)
        assert len(await texts(memory)) == limits.commit_messages
        assert await texts(memory, "big") == [big]

    use(check)


def test_a_snapshot_is_the_thread_at_one_instant(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        missing = await thread.load()
        assert (missing.tail, missing.info, missing.messages) == (MISSING, None, [])
        assert (missing.working_memory.version, missing.resource_memory.version) == (0, 0)
        await memory.resource("ann").working_memory.put("shared")
        assert (await thread.load()).resource_memory.value == "shared"
        await thread.create(title="Trip")
        await thread.append(*"abcde")
        snapshot = await thread.load(last=2)
        assert [message.text for message in snapshot.messages] == ["d", "e"]
        assert snapshot.info == await thread.info()
        assert snapshot.tail == await thread.tail()
        assert (await thread.load(last=0)).messages == []
        trips = memory.store.meter.trips
        await thread.load()
        assert memory.store.meter.trips == trips + memory.store.costs.load

    use(check)


def test_a_rename_of_an_untitled_thread_leaves_a_title_alone_and_writes_nothing_then(use: Use, before: Before) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        await thread.append("Hi")
        assert (await thread.rename("made", if_untitled=True)).title == "made"
        named = await thread.info()
        assert await thread.rename("again", if_untitled=True) == named
        assert await thread.info() == named
        await thread.rename(None)
        before(memory, "commit", 1, lambda: memory.thread("ann", "t").rename("theirs"))
        assert (await thread.rename("made", if_untitled=True)).title == "theirs"
        assert (await thread.info()).title == "theirs"

    use(check)


def test_a_rename_for_an_epoch_does_not_find_a_thread_that_was_created_again(use: Use, before: Before) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        epoch = (await thread.append("Hi")).tail.epoch
        assert (await thread.rename("old", if_epoch=epoch)).title == "old"

        async def anew() -> None:
            await memory.thread("ann", "t").delete()
            await memory.thread("ann", "t").append("Hello")

        before(memory, "commit", 1, anew)
        with pytest.raises(ThreadNotFound):
            await thread.rename("older", if_epoch=epoch)
        assert (await thread.info()).title is None

    use(check)
