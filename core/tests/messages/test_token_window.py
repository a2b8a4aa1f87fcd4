"""Windows by tokens: they fit, they never split a call from its result, and they begin where the last one did."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadkeep.errors import InvalidInput
from threadkeep.messages import (
    FilePart,
    Message,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    estimate_tokens,
    pair_safe,
    token_window,
)
from threadkeep.messages.windows import with_calls

BUDGET = 4000


def grown(seed: int, turns: int) -> list[list[Message]]:
    """A thread as it is at the call of the model in each of its turns, with tools in every other one."""
    rng = random.Random(seed)
    messages: list[Message] = []
    prompts = []
    for turn in range(turns):
        text = "x" * rng.choice([20, 100, 400, 900])
        said = [Message.user(text)]
        if turn % 2:
            call = ToolCallPart(tool_call_id=f"c{turn % 3}", name="f", arguments={"n": turn})
            result = ToolResultPart(tool_call_id=f"c{turn % 3}", result="y" * rng.choice([10, 800]))
            said += [Message(role="assistant", parts=[call]), Message(role="tool", parts=[result])]
        said.append(Message.assistant("z" * rng.choice([10, 300, 1000])))
        placed = [
            message.model_copy(update={"position": len(messages) + number})
            for number, message in enumerate(said, start=1)
        ]
        prompts.append([*messages, placed[0]])
        messages += placed
    return prompts


def size(messages: list[Message]) -> int:
    return sum(map(estimate_tokens, messages))


@pytest.mark.parametrize("seed", range(8))
def test_prompts_begin_like_the_one_before_until_a_cut_which_leaves_half_the_budget_or_more(seed: int) -> None:
    prompts = grown(seed, 200)
    windows = [token_window(prompt, tokens=BUDGET, keep=prompt[-1].id) for prompt in prompts]
    cuts = 0
    for prompt, before, window in zip(prompts[1:], windows, windows[1:], strict=False):
        assert size(window) <= BUDGET
        assert window[-1] is prompt[-1]
        if window[: len(before)] != before:
            cuts += 1
            old, new = prompt.index(before[0]), prompt.index(window[0])
            assert new > old, "a window never goes back"
            assert window[0].role == "user"
            assert size(window) >= BUDGET / 2
    said = size(prompts[-1])
    assert said > 10 * BUDGET
    # A window that slides with each turn is cut about 200 times; one that is cut in halves, at least 2 x said / BUDGET.
    assert cuts <= 5 * said / BUDGET
    assert cuts < len(prompts) / 2


def test_what_fits_is_there_whole() -> None:
    for prompt in grown(1, 12):
        if size(prompt) <= BUDGET:
            assert token_window(prompt, tokens=BUDGET) == prompt


def test_the_window_is_the_same_however_much_more_of_the_thread_is_loaded() -> None:
    for prompt in grown(2, 60)[30:]:
        window = token_window(prompt, tokens=BUDGET, most=40)
        assert len(window) <= 40
        assert token_window(prompt[-41:], tokens=BUDGET, most=40) == window


def test_a_message_that_is_larger_than_the_budget_is_shown_alone() -> None:
    messages = [
        Message.user("a" * 9000, position=1),
        Message.assistant("b", position=2),
        Message.user("c" * 9000, position=3),
    ]
    assert token_window(messages, tokens=100, keep=messages[2].id) == messages[2:]
    assert token_window(messages, tokens=100, keep=messages[1].id) == messages[1:]
    assert token_window([], tokens=100) == []


def test_messages_that_are_not_stored_yet_are_cut_as_if_they_were() -> None:
    for prompt in grown(3, 60)[40:]:
        fresh = [*prompt[:-1], prompt[-1].model_copy(update={"position": None})]
        ids = [message.id for message in token_window(prompt, tokens=BUDGET)]
        assert [message.id for message in token_window(fresh, tokens=BUDGET)] == ids


IDS = st.sampled_from(["1", "2", "3"])
PARTS = st.one_of(
    st.builds(ToolCallPart, tool_call_id=IDS, name=st.just("f"), arguments=st.just("{}")),
    st.builds(ToolResultPart, tool_call_id=IDS, result=st.text(max_size=40)),
    st.builds(TextPart, text=st.text(max_size=60)),
)
MESSAGES = st.lists(
    st.builds(Message, role=st.sampled_from(["user", "assistant", "tool"]), parts=st.lists(PARTS, max_size=3)),
    max_size=30,
)


@given(MESSAGES, st.integers(1, 400), st.integers(1, 40))
def test_law_8_no_window_by_tokens_holds_a_result_without_its_call(
    messages: list[Message], tokens: int, most: int
) -> None:
    window = token_window(messages, tokens=tokens, most=most)
    assert pair_safe(window) == window
    if messages and messages[-1] in pair_safe(messages):
        assert messages[-1] in window


def test_what_must_be_kept_brings_along_the_calls_of_its_results() -> None:
    call = ToolCallPart(tool_call_id="1", name="f", arguments="{}")
    messages = [
        Message.user("go"),
        Message(role="assistant", parts=[call]),
        Message.assistant("and?"),
        Message(role="tool", parts=[ToolResultPart(tool_call_id="1", result="ok")]),
    ]
    assert [with_calls(messages, start) for start in range(4)] == [0, 1, 1, 1]
    assert token_window(messages, tokens=1, keep=messages[3].id) == messages[1:]


def test_tokens_are_estimated_from_bytes_and_files_have_one_size() -> None:
    assert estimate_tokens(Message.user("")) == 4
    assert estimate_tokens(Message.user("abcd")) == 6
    assert estimate_tokens(Message.user("日本")) == 6
    assert estimate_tokens(Message(role="user", parts=[FilePart(data="A" * 10**6)])) == 1604
    call = ToolCallPart(tool_call_id="1", name="f", arguments={"a": 1})
    text = '{"arguments":{"a":1},"name":"f","tool_call_id":"1","type":"tool_call"}'
    assert estimate_tokens(Message(role="assistant", parts=[call])) == 4 + -(-len(text) // 3)


def test_a_tokenizer_of_ones_own_counts() -> None:
    messages = [Message.user("x", position=place) for place in range(1, 101)]
    for before, after in pairwise(messages[:n] for n in range(20, 101)):
        one, two = (token_window(each, tokens=10, count_tokens=lambda message: 1) for each in (before, after))
        assert 5 <= len(one) <= 10
        assert two[: len(one)] == one or two[0].position > one[0].position  # type: ignore[operator]  # all have one


@pytest.mark.parametrize("wrong", [None, -1, "7", float("nan"), float("inf"), True])
def test_a_tokenizer_that_gives_no_number_is_named(wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="count_tokens gives a number of tokens from 0 up, not"):
        token_window([Message.user("x")], tokens=10, count_tokens=lambda message: wrong)
