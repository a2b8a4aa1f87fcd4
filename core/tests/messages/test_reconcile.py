"""Whole histories from clients: what is known, what is new, and where a history stops being the stored one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest
from conversations import conversations
from hypothesis import given
from hypothesis import strategies as st

from threadkeep.errors import Diverged, InvalidContent, InvalidInput
from threadkeep.formats import messages_from_openai
from threadkeep.messages import (
    DataPart,
    FilePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UnknownPart,
)
from threadkeep.messages.reconcile import Reconciled, reconcile_histories, same_content
from threadkeep.port import new_id

Mode = Literal["stable", "fresh"]
both = pytest.mark.parametrize("ids", ["stable", "fresh"])


def said(role: str, text: str) -> Message:
    return Message(role=role, parts=[TextPart(text=text)])


def resent(messages: Sequence[Message], ids: Mode) -> list[Message]:
    """Messages as a client of the mode sends them again: without what only the server knows."""
    changes: dict[str, Any] = {"metadata": {}, "position": None, "stored_at": None, "created_at": None}
    return [m.model_copy(update=changes | ({"id": new_id()} if ids == "fresh" else {})) for m in messages]


def edited(message: Message) -> Message:
    return message.model_copy(update={"parts": [TextPart(text="edited"), *message.parts]})


def apart(found: Reconciled, ours: Sequence[Message], theirs: Sequence[Message]) -> None:
    """The promise of every result: known and new are the client's history, known and beyond the stored end."""
    assert len(found.known) + len(found.new) == len(theirs)
    assert [*found.new] == [*theirs[len(found.known) :]]
    assert not (found.new and found.beyond)
    assert [m.id for m in (*found.known, *found.beyond)] == [
        m.id for m in ours[len(ours) - len(found.known + found.beyond) :]
    ]


# Few texts, so that histories are full of messages that are equal.
THREADS = st.lists(st.builds(said, st.sampled_from(["user", "assistant"]), st.sampled_from(["yes", "no"])), max_size=12)
MODES: st.SearchStrategy[Mode] = st.sampled_from(["stable", "fresh"])


@given(THREADS, st.data(), MODES)
def test_law_2_what_is_stored_is_known_and_the_rest_is_new(
    thread: list[Message], data: st.DataObject, ids: Mode
) -> None:
    held = data.draw(st.integers(0, len(thread)))
    sent = data.draw(st.integers(0, len(thread)))
    ours, theirs = thread[:held], resent(thread[:sent], ids)
    found = reconcile_histories(ours, theirs, ids)
    apart(found, ours, theirs)
    assert list(found.known) == thread[: min(held, sent)]
    assert list(found.new) == theirs[held:]
    assert list(found.beyond) == thread[sent:held]
    assert found.grown is None


@both
@given(st.integers(0, 6), st.integers(0, 6))
def test_law_2_people_say_yes_twice(ids: Mode, held: int, sent: int) -> None:
    ours = [said("user", "yes") for _ in range(held)]
    theirs = resent(ours[:sent], ids) + [said("user", "yes") for _ in range(sent - held)]
    found = reconcile_histories(ours, theirs, ids)
    assert (len(found.known), len(found.new), len(found.beyond)) == (
        min(held, sent),
        max(0, sent - held),
        max(0, held - sent),
    )


@given(THREADS.filter(bool), st.data(), MODES)
def test_an_edit_is_a_divergence_at_its_index(thread: list[Message], data: st.DataObject, ids: Mode) -> None:
    index = data.draw(st.integers(0, len(thread) - 1))
    theirs = [*resent(thread, ids), said("user", "more")]
    theirs[index] = edited(theirs[index])
    with pytest.raises(Diverged, match="it does not say what the stored message") as caught:
        reconcile_histories(thread, theirs, ids)
    assert caught.value.index == index


@given(THREADS.filter(bool), st.data())
def test_a_new_id_among_stored_ones_is_a_divergence(thread: list[Message], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(thread) - 1))
    again = said("assistant", "again")
    with pytest.raises(Diverged, match=rf"at index {index}: message '{again.id}' is not stored, and") as caught:
        reconcile_histories(thread, [*resent(thread[:index], "stable"), again], "stable")
    assert caught.value.index == index


@given(THREADS.filter(lambda thread: len(thread) > 1), st.data())
def test_stored_messages_out_of_order_are_a_divergence(thread: list[Message], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(thread) - 2))
    gap = data.draw(st.integers(start + 1, len(thread) - 1))
    theirs = [*thread[start:gap], *thread[gap + 1 :]]
    if gap < len(thread) - 1:
        with pytest.raises(Diverged, match="is stored elsewhere") as caught:
            reconcile_histories(thread, theirs, "stable")
        assert caught.value.index == gap - start
    with pytest.raises(Diverged, match="stored before this place; the order is another one") as caught:
        reconcile_histories(thread, [*thread[gap:], said("user", "new"), thread[start]], "stable")
    assert caught.value.index == len(thread) - gap + 1


@given(THREADS.filter(bool), st.data())
def test_a_client_with_stable_ids_may_leave_out_the_beginning(thread: list[Message], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(thread) - 1))
    end = data.draw(st.integers(start + 1, len(thread)))
    more = [said("user", "more")] if end == len(thread) else []
    found = reconcile_histories(thread, [*resent(thread[start:end], "stable"), *more], "stable")
    assert (found.known, found.new, found.beyond) == (tuple(thread[start:end]), tuple(more), tuple(thread[end:]))


@both
def test_the_same_history_is_known_and_nothing_else(ids: Mode) -> None:
    ours = [said("user", "yes"), said("assistant", "no")]
    assert reconcile_histories(ours, resent(ours, ids), ids) == Reconciled(tuple(ours), (), (), None)
    assert reconcile_histories([], [], ids) == Reconciled((), (), (), None)
    assert reconcile_histories(ours, [], ids) == Reconciled((), (), tuple(ours), None)
    assert reconcile_histories([], ours, ids) == Reconciled((), tuple(ours), (), None)


@both
def test_known_are_the_stored_messages_and_not_the_clients(ids: Mode) -> None:
    ours = [said("user", "a").model_copy(update={"position": 7, "metadata": {"seen": True}})]
    [known] = reconcile_histories(ours, resent(ours, ids), ids).known
    assert known is ours[0]


def test_fresh_ids_may_be_any_even_twice() -> None:
    ours = [said("user", "yes"), said("assistant", "no")]
    theirs = [m.model_copy(update={"id": "same"}) for m in [*ours, *ours]]
    assert reconcile_histories(ours, theirs, "fresh").new == tuple(theirs[2:])
    swapped = [ours[0].model_copy(update={"id": ours[1].id}), ours[1].model_copy(update={"id": ours[0].id})]
    assert reconcile_histories(ours, swapped, "fresh").known == tuple(ours)


def test_stable_ids_must_be_distinct() -> None:
    one = said("user", "yes")
    with pytest.raises(
        InvalidInput,
        match=rf"^the history has the message id '{one.id}' at 0 and at 2; "
        r"give each message an id of its own, or use ids='fresh'$",
    ):
        reconcile_histories([], [one, said("assistant", "no"), one], "stable")


def test_ids_are_stable_or_fresh() -> None:
    with pytest.raises(InvalidInput, match=r"not 'both'$"):
        reconcile_histories([], [], "both")  # type: ignore[arg-type]  # the refusal is what is tested


@both
@pytest.mark.parametrize("role", ["system", "developer"])
def test_stored_instructions_that_the_client_leaves_out_are_passed_over(ids: Mode, role: str) -> None:
    rules, rest = [said(role, "be brief"), said("system", "be kind")], [said("user", "yes"), said("assistant", "no")]
    new = said("user", "yes")
    found = reconcile_histories([*rules, *rest], [*resent(rest, ids), new], ids)
    assert found == Reconciled(tuple(rest), (new,), (), None)
    assert reconcile_histories(rules, [new], ids) == Reconciled((), (new,), (), None)
    assert reconcile_histories([*rules, *rest], resent(rest[:1], ids), ids) == Reconciled(
        (rest[0],), (), (rest[1],), None
    )
    assert reconcile_histories([*rules, *rest], resent([*rules, *rest], ids), ids).known == (*rules, *rest)


@both
def test_other_instructions_are_a_divergence(ids: Mode) -> None:
    ours = [said("system", "be brief"), said("user", "yes")]
    theirs = [said("system", "be long"), *resent(ours[1:], ids)]
    with pytest.raises(Diverged) as caught:
        reconcile_histories(ours, theirs, ids)
    assert caught.value.index == 0
    with pytest.raises(Diverged) as caught:
        reconcile_histories(ours[1:], resent(ours, ids), ids)
    assert caught.value.index == 0


def test_a_first_message_that_is_not_stored_is_a_divergence() -> None:
    with pytest.raises(Diverged) as caught:
        reconcile_histories([said("user", "yes")], [said("user", "no")], "stable")
    assert caught.value.index == 0


CALL = ToolCallPart(tool_call_id="c", name="f", arguments="{}")
RESULT = ToolResultPart(tool_call_id="c", result="ok")


@both
@pytest.mark.parametrize("after", [[], [said("user", "go on")]], ids=["last", "followed"])
def test_fault_37_an_assistants_last_message_may_have_grown(ids: Mode, after: list[Message]) -> None:
    thought = ReasoningPart(text="hm", signature="s")
    ours = [
        said("user", "yes"),
        Message(role="assistant", parts=[thought, TextPart(text="a"), CALL], metadata={"agent": "x"}, position=2),
    ]
    theirs = resent(ours, ids)
    gained = [RESULT, TextPart(text="b")]
    theirs[1] = theirs[1].model_copy(update={"parts": [thought, TextPart(text=""), TextPart(text="a"), CALL, *gained]})
    found = reconcile_histories(ours, [*theirs, *after], ids)
    assert (found.known, found.new, found.beyond) == (tuple(ours), tuple(after), ())
    assert found.grown == ours[1].model_copy(update={"parts": [thought, TextPart(text="a"), CALL, *gained]})
    # Once it is written, the same request is nothing new.
    assert reconcile_histories([ours[0], found.grown], theirs, ids) == Reconciled((ours[0], found.grown), (), (), None)


@both
def test_a_message_that_was_only_thought_grows_without_thinking_twice(ids: Mode) -> None:
    thought = ReasoningPart(text="hm")
    ours = [Message(role="assistant", parts=[thought])]
    theirs = resent([ours[0].model_copy(update={"parts": [thought, TextPart(text="a")]})], ids)
    found = reconcile_histories(ours, theirs, ids)
    assert found.grown is not None
    assert found.grown.parts == [thought, TextPart(text="a")]


@both
def test_only_the_last_stored_message_of_an_assistant_grows(ids: Mode) -> None:
    def grow(thread: list[Message], index: int) -> list[Message]:
        theirs = resent(thread, ids)
        theirs[index] = theirs[index].model_copy(update={"parts": [*thread[index].parts, RESULT]})
        return theirs

    def diverges(thread: list[Message], theirs: list[Message], index: int) -> None:
        with pytest.raises(Diverged) as caught:
            reconcile_histories(thread, theirs, ids)
        assert caught.value.index == index

    thread = [said("user", "a"), said("assistant", "b"), said("user", "c")]
    diverges(thread, grow(thread, 1), 1)
    diverges(thread, grow(thread, 2), 2)
    shrunk = [said("user", "a"), Message(role="assistant", parts=[TextPart(text="b"), RESULT])]
    diverges(
        shrunk,
        [resent(shrunk, ids)[0], resent([shrunk[1].model_copy(update={"parts": [TextPart(text="b")]})], ids)[0]],
        1,
    )
    other = resent(thread[:2], ids)
    other[1] = other[1].model_copy(update={"parts": [TextPart(text="B"), RESULT]})
    diverges(thread[:2], other, 1)
    answered = [said("user", "a"), said("tool", "b")]
    theirs = grow(answered, 1)
    theirs[1] = theirs[1].model_copy(update={"role": "assistant"})
    diverges(answered, theirs, 1)
    renamed = [said("user", "a"), said("assistant", "b").model_copy(update={"name": "ann"})]
    theirs = grow(renamed, 1)
    theirs[1] = theirs[1].model_copy(update={"name": "bob"})
    diverges(renamed, theirs, 1)


SAME: list[tuple[Any, Any]] = [
    (
        ToolCallPart(tool_call_id="c", name="f", arguments='{"a": 1, "b": [true]}'),
        {"arguments": {"b": [True], "a": 1.0}},
    ),
    (ToolCallPart(tool_call_id="c", name="f", arguments="{not json"), {"provider": {"x": 1}}),
    (
        ToolResultPart(tool_call_id="c", name="f", result={"a": None}, is_error=True),
        {"name": None, "is_error": False, "result": '{"a":null}'},
    ),
    (ToolResultPart(tool_call_id="c", result=None), {"result": "null"}),
    (TextPart(text="a"), {"provider": {"x": 1}}),
    (DataPart(data={"a": 1, "b": 2}), {"data": {"b": 2, "a": 1}}),
    (ToolResultPart(tool_call_id="c", result="[" * 5000 + "]" * 5000), {"provider": {"x": 1}}),
]


@pytest.mark.parametrize(("part", "lost"), SAME)
def test_what_clients_lose_is_no_difference(part: Any, lost: dict[str, Any]) -> None:
    a = Message(role="assistant", parts=[part], name="ann", metadata={"x": 1}, provider={"y": 1}, position=4)
    b = Message(role="assistant", parts=[part.model_copy(update=lost)])
    assert same_content(a, b)
    assert same_content(b, a)


def test_reasoning_and_empty_texts_are_no_difference() -> None:
    a = Message(role="assistant", parts=[ReasoningPart(text="hm"), CALL])
    b = Message(role="assistant", parts=[TextPart(text=""), CALL])
    assert same_content(a, b)


OTHER: list[tuple[Any, Any]] = [
    (TextPart(text="yes"), TextPart(text="yes ")),
    (TextPart(text="\u00e9"), TextPart(text="e\u0301")),
    (TextPart(text="a"), DataPart(data="a")),
    (CALL, CALL.model_copy(update={"tool_call_id": "d"})),
    (CALL, CALL.model_copy(update={"name": "g"})),
    (CALL, CALL.model_copy(update={"arguments": '{"a": 1}'})),
    (CALL.model_copy(update={"arguments": {"a": 1}}), CALL.model_copy(update={"arguments": {"a": True}})),
    (CALL.model_copy(update={"arguments": {"a": 2**53}}), CALL.model_copy(update={"arguments": {"a": 2**53 + 1}})),
    (RESULT, RESULT.model_copy(update={"result": "OK"})),
    (RESULT.model_copy(update={"result": "NaN"}), RESULT.model_copy(update={"result": None})),
    (RESULT.model_copy(update={"result": "[" * 5000}), RESULT.model_copy(update={"result": "[" * 5001})),
    (FilePart(url="a"), FilePart(url="b")),
    (UnknownPart(type="x", k=1), UnknownPart(type="x", k=2)),
    (
        UnknownPart(type="openai:refusal", provider={"openai": {"content": {"type": "refusal", "refusal": "no"}}}),
        UnknownPart(type="openai:refusal", provider={"openai": {"content": {"type": "refusal", "refusal": "never"}}}),
    ),
]


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_what_is_said_otherwise_is_a_difference(one: Any, other: Any) -> None:
    a, b = Message(role="assistant", parts=[one]), Message(role="assistant", parts=[other])
    assert same_content(a, a)
    assert not same_content(a, b)
    assert not same_content(b, a)
    assert not same_content(
        Message(role="assistant", parts=[one, other]), Message(role="assistant", parts=[other, one])
    )


def test_role_and_name_are_a_difference() -> None:
    message = said("user", "yes").model_copy(update={"name": "ann"})
    for change in ({"role": "assistant"}, {"name": "bob"}):
        other = message.model_copy(update=change)
        assert not same_content(message, other)
        with pytest.raises(Diverged, match=f"its {next(iter(change))} is"):
            reconcile_histories([message], [other], "stable")


def test_what_is_not_json_is_refused_by_name() -> None:
    one, other = (Message(role="user", parts=[DataPart(data={"at": object()})]) for _ in range(2))
    with pytest.raises(InvalidContent, match=r"^part\.data\.at is a object; only JSON is kept"):
        reconcile_histories([one], [other], "fresh")


@both
def test_at_each_users_message_of_real_conversations_only_what_is_new_is_new(ids: Mode) -> None:
    turns = 0
    for conversation in conversations():
        thread = messages_from_openai(conversation["messages"])
        starts = [index for index, message in enumerate(thread) if message.role == "user"]
        ours: list[Message] = []
        for start, end in zip(starts, [*starts[1:], len(thread)], strict=True):
            theirs = resent(thread[: start + 1], ids)
            found = reconcile_histories(ours, theirs, ids)
            apart(found, ours, theirs)
            assert found == Reconciled(tuple(ours), tuple(theirs[len(ours) :]), (), None)
            ours += found.new
            assert reconcile_histories(ours, resent(thread[: start + 1], ids), ids).new == ()
            spared = resent(ours[1:], ids)
            assert reconcile_histories(ours, spared, ids).known == tuple(ours[1:])
            with pytest.raises(Diverged) as caught:
                reconcile_histories(ours, [*resent(ours[:start], ids), edited(ours[start])], ids)
            assert caught.value.index == start
            ours += thread[start + 1 : end]
            turns += 1
        assert [same_content(a, b) for a, b in zip(ours, thread, strict=True)] == [True] * len(thread)
        found = reconcile_histories(ours, resent(ours[:2], ids), ids)
        assert found == Reconciled(tuple(ours[:2]), (), tuple(ours[2:]), None)
    assert turns == sum(m["role"] == "user" for c in conversations() for m in c["messages"])
