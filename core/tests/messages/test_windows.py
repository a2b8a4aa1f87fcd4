"""Windows: no tool result without its call (law 8), and the calls that a turn still waits for."""

from __future__ import annotations

from typing import Any

from conversations import conversations
from hypothesis import given
from hypothesis import strategies as st

from threadkeep.formats import messages_from_openai
from threadkeep.messages import Message, TextPart, ToolCallPart, ToolResultPart, pair_safe
from threadkeep.messages.windows import NO_RESULT, pending_calls, settle, together


def user(text: str = "go") -> Message:
    return Message.user(text)


def call(*ids: str) -> Message:
    return Message(role="assistant", parts=[ToolCallPart(tool_call_id=i, name="f", arguments="{}") for i in ids])


def result(*ids: str) -> Message:
    return Message(role="tool", parts=[ToolResultPart(tool_call_id=i, result="ok") for i in ids])


def pairs(messages: list[Message]) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """Each result's place with that of its call: the nearest before it of the same id. Places are message id, part."""
    found = []
    flat = [((m.id, k), part) for m in messages for k, part in enumerate(m.parts)]
    for at, (place, part) in enumerate(flat):
        if isinstance(part, ToolResultPart):
            for earlier, other in reversed(flat[:at]):
                if isinstance(other, ToolCallPart) and other.tool_call_id == part.tool_call_id:
                    found.append((earlier, place))
                    break
    return found


def results(messages: list[Message]) -> int:
    return sum(len(message.tool_results) for message in messages)


def test_law_8_every_window_of_every_real_conversation_keeps_pairs_together() -> None:
    for conversation in conversations():
        thread = messages_from_openai(conversation["messages"])
        assert pair_safe(thread) == thread
        for cut in range(len(thread) + 1):
            window = pair_safe(thread[cut:])
            # Here results follow their calls at once, so that only results at the very start can be cut off.
            first = next((i for i in range(cut, len(thread)) if thread[i].role != "tool"), len(thread))
            assert window == thread[first:]
            assert len(pairs(window)) == results(window)
            # A page that ends anywhere keeps its calls, whether their results are in it or not.
            assert pair_safe(thread[:cut]) == thread[:cut]


IDS = st.sampled_from(["1", "2"])
PARTS: Any = st.one_of(
    st.builds(ToolCallPart, tool_call_id=IDS, name=st.just("f"), arguments=st.just("{}")),
    st.builds(ToolResultPart, tool_call_id=IDS, result=st.just("ok")),
    st.builds(TextPart, text=st.just("a")),
)
MESSAGES = st.builds(Message, role=st.sampled_from(["user", "assistant", "tool"]), parts=st.lists(PARTS, max_size=3))


@given(st.lists(MESSAGES, max_size=10), st.data())
def test_law_8_no_window_of_any_thread_separates_a_pair(thread: list[Message], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(thread)))
    end = data.draw(st.integers(start, len(thread)))
    window = thread[start:end]
    safe = pair_safe(window)
    kept = {message.id for message in safe}
    assert [message for message in window if message.id in kept] == safe
    assert pair_safe(safe) == safe
    # No result without its call, and none with another call than the one that it answers in the thread.
    assert len(pairs(safe)) == results(safe)
    assert set(pairs(safe)) <= set(pairs(thread))
    # A call that lost its result is not left behind either.
    inside = {message.id for message in window}
    for (caller, _), (answerer, _) in pairs(thread):
        if {caller, answerer} <= inside:
            assert (caller in kept) == (answerer in kept)
    # Nothing goes that is not tied to a result without a call.
    if len(pairs(window)) == results(window):
        assert safe == window


def test_an_id_that_comes_again_is_not_taken_for_the_call_that_was_cut_off() -> None:
    cut_off, again, answer = result("1"), call("1"), result("1")
    assert pair_safe([cut_off, again, answer]) == [again, answer]


def test_a_result_is_not_kept_for_a_call_that_comes_later() -> None:
    thread = [user(), result("1"), user(), call("1")]
    assert pair_safe(thread) == [thread[0], *thread[2:]]


def test_results_of_one_call_message_go_together() -> None:
    rest = [user(), call("3"), result("3")]
    assert pair_safe([result("1"), result("2"), *rest]) == rest
    assert pair_safe([result("1", "2"), *rest]) == rest
    assert pair_safe([call("1", "2"), result("1"), result("2")])[0].tool_calls


def test_a_message_that_goes_takes_what_would_stand_alone_with_it() -> None:
    mixed, rest = result("0", "1"), [user(), call("2")]
    assert pair_safe([call("1", "3"), mixed, result("3"), *rest]) == rest


def test_a_message_that_goes_takes_the_nearest_call_of_an_id_that_comes_again() -> None:
    first, rest = [call("1"), result("1"), user()], [user()]
    assert pair_safe([*first, call("1"), result("0", "1"), *rest]) == [*first, *rest]


def test_a_late_result_goes_alone_and_the_newest_messages_stay() -> None:
    before, late, after = user("wait"), result("approved"), Message.assistant("done")
    assert pair_safe([before, late, after]) == [before, after]


def test_calls_and_results_in_one_message_are_a_pair() -> None:
    whole = Message(role="assistant", parts=[*call("1").parts, *result("1").parts])
    backwards = Message(role="assistant", parts=[*result("1").parts, *call("1").parts])
    assert pair_safe([whole]) == [whole]
    assert pair_safe([backwards]) == []


def test_a_second_result_of_one_call_stays() -> None:
    thread = [call("1"), result("1"), result("1")]
    assert pair_safe(thread) == thread


def test_calls_without_a_result_stay() -> None:
    thread = [user(), call("1", "2"), result("1")]
    assert pair_safe(thread) == thread
    assert pair_safe([]) == []


def waiting(*messages: Message) -> list[str]:
    return [part.tool_call_id for part in pending_calls(messages)]


def test_pending_calls_are_those_of_the_last_turn_without_a_result_in_order() -> None:
    assert waiting() == []
    assert waiting(user()) == []
    assert waiting(user(), call("1", "2", "3"), result("2")) == ["1", "3"]
    assert waiting(user(), call("1", "2"), result("2"), result("1")) == []
    assert waiting(call("1")) == ["1"]
    assert waiting(user(), call("1"), user()) == []
    assert waiting(user(), call("1"), result("1"), call("2", "3"), result("2", "3"), call("4")) == ["4"]


def test_an_id_that_was_answered_and_is_called_again_is_pending() -> None:
    assert waiting(user(), call("1"), result("1"), call("1")) == ["1"]
    assert waiting(user(), call("1"), result("1"), call("1"), result("1")) == []
    assert waiting(user(), call("1", "1"), result("1")) == ["1"]
    assert waiting(user(), call("1"), result("1"), result("1"), call("1")) == ["1"]


def test_a_result_answers_the_newest_message_that_called_its_id() -> None:
    old, new = call("1"), Message(role="assistant", parts=[ToolCallPart(tool_call_id="1", name="g", arguments="{}")])
    assert [part.name for part in pending_calls([user(), old, new, result("1")])] == ["f"]


def test_the_calls_of_real_conversations_are_pending_until_their_results_come() -> None:
    for conversation in conversations():
        thread = messages_from_openai(conversation["messages"])
        for end, message in enumerate(thread, 1):
            later = thread[end:]
            left = len(message.tool_calls)
            if message.role == "tool":
                left = next((i for i, m in enumerate(later) if m.role != "tool"), len(later))
            assert len(pending_calls(thread[:end])) == left


def test_a_call_that_was_left_behind_is_settled_where_its_result_would_stand() -> None:
    thread = [user(), call("1", "2"), result("2"), user(), call("1"), result("1"), Message.assistant("ok")]
    settled = settle(thread)
    assert [message for message in settled if message in thread] == thread
    made = settled[3]
    assert [(part.tool_call_id, part.result, part.is_error) for part in made.tool_results] == [("1", NO_RESULT, True)]
    assert len(settled) == len(thread) + 1
    assert settle(settled) == settled


def test_real_conversations_have_nothing_to_settle() -> None:
    for conversation in conversations():
        messages = messages_from_openai(conversation["messages"])
        assert settle(messages) == messages


def test_results_of_runs_that_interleaved_follow_their_calls() -> None:
    one, two, later, last = call("1", "2"), call("3"), user("later"), result("2")
    three, first, both = result("3"), result("1"), result("2", "3")
    shown = together([user(), one, two, three, later, first, last])
    assert [message.id for message in shown[1:]] == [each.id for each in (one, first, last, two, three, later)]
    for kept in ([one, first, last, two, three], [one, two, both], [three, one], []):
        assert together(kept) == kept
    settled = settle([one, later, first])
    assert [message.role for message in settled] == ["assistant", "tool", "tool", "user"]
    assert [part.tool_call_id for message in settled for part in message.tool_results] == ["1", "2"]
