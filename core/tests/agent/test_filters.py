"""The processors that come along: redaction reaches every text, and old tool calls go with their results."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from conversations import conversations

from threadkeep.agent.filters import DropOldTools, Redact
from threadkeep.agent.hooks import RunContext
from threadkeep.agent.processors import Processors
from threadkeep.errors import InvalidInput
from threadkeep.formats import messages_from_openai
from threadkeep.messages import (
    DataPart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UnknownPart,
    dump,
    pair_safe,
    parse_message,
)

CARD = r"\b(?:\d[ -]?){15}\d\b"
NUMBER = "4111 1111 1111 1111"
WHERE = RunContext("support", "ann", "t")


def stored(redact: Redact, message: Message) -> Message:
    (after,) = asyncio.run(Processors([redact]).before_commit([message], WHERE))
    return after


def everywhere(text: str) -> Message:
    call = {"card": text, "list": [{text: text}]}
    parts: list[Any] = [
        TextPart(text=f"It is {text}."),
        ReasoningPart(text=f"They said {text}", signature="signed"),
        ToolCallPart(tool_call_id="1", name="pay", arguments=json.dumps(call)),
        ToolCallPart(tool_call_id="2", name="pay", arguments=call),
        ToolCallPart(tool_call_id="3", name="pay", arguments=f"not JSON {text}"),
        ToolResultPart(tool_call_id="1", name="pay", result=[{"paid": text}], provider={"raw": text}),
        DataPart(data={"deep": [[text]]}),
        UnknownPart(type="audio", transcript=text),
    ]
    return Message(
        id="m", role="assistant", parts=parts, name=text, metadata={"note": text}, provider={"raw": [text]}, extra=text
    )


def test_what_is_redacted_is_nowhere_in_the_message_and_the_rest_is_as_it_was() -> None:
    after = stored(Redact(CARD), everywhere(NUMBER))
    assert NUMBER not in json.dumps(dump(after))
    wanted = dump(everywhere("[redacted]"))
    # Text that is not what was signed has no signature.
    del wanted["parts"][1]["signature"]
    # JSON that was written anew has its own spacing, or keeps it.
    found = dump(after)
    for each in (wanted, found):
        each["parts"][2]["arguments"] = json.loads(each["parts"][2]["arguments"])
    assert found == wanted
    assert parse_message(dump(after)) == after


def test_a_message_without_a_match_stays_as_it_is_to_the_letter() -> None:
    message = everywhere("nothing")
    assert dump(stored(Redact(CARD), message)) == dump(message)
    for conversation in conversations():
        for each in messages_from_openai(conversation["messages"]):
            assert dump(stored(Redact("no such text at all"), each)) == dump(each)


def test_numbers_are_redacted_too_and_truth_values_are_not() -> None:
    call = ToolCallPart(tool_call_id="1", name="pay", arguments='{"card":4111111111111111,"amount":12.5,"ok":true}')
    (after,) = stored(Redact(CARD), Message(role="assistant", parts=[call])).tool_calls
    assert isinstance(after.arguments, str)
    assert json.loads(after.arguments) == {"card": "[redacted]", "amount": 12.5, "ok": True}


def test_redacting_twice_is_redacting_once_so_that_repeated_messages_stay_equal() -> None:
    redact = Redact(CARD, "secret", replacement="***")
    once = stored(redact, everywhere(f"{NUMBER} is secret"))
    assert dump(stored(redact, once)) == dump(once)


def test_it_may_be_stored_and_not_shown() -> None:
    ready = Processors([Redact(CARD, stored=False)])
    message = Message.user(f"My card is {NUMBER}")
    assert asyncio.run(ready.before_commit([message], WHERE)) == [message]
    (shown,) = asyncio.run(ready.before_model([message], WHERE))
    assert shown.text == "My card is [redacted]"


@pytest.mark.parametrize("wrong", [(), ("(",), (7,)])
def test_wrong_patterns_are_refused(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidInput, match="regular expression"):
        Redact(*wrong)


def test_old_tool_calls_go_with_their_results_in_every_real_conversation() -> None:
    dropped = 0
    for conversation in conversations():
        thread = messages_from_openai(conversation["messages"])
        for end in (index + 1 for index, message in enumerate(thread) if message.role == "user"):
            messages = thread[:end]
            after = asyncio.run(Processors([DropOldTools(2)]).before_model(messages, WHERE))
            begins = [message.id for message in messages if message.role == "user"]
            recent = messages.index(next(message for message in messages if message.id == begins[-2:][0]))
            assert after[-len(messages[recent:]) :] == messages[recent:]
            assert not any(message.tool_calls or message.tool_results for message in after[: -len(messages[recent:])])
            assert [m.text for m in after if m.text and m.role != "tool"] == [
                m.text for m in messages if m.text and m.role != "tool"
            ]
            dropped += len(messages) - len(after)
    assert dropped, "no conversation had an old tool call, so nothing was tested"


def test_a_call_whose_result_came_a_turn_later_stays() -> None:
    call = ToolCallPart(tool_call_id="1", name="f", arguments="{}")
    messages = [
        Message.user("go"),
        Message(role="assistant", parts=[call]),
        Message.user("still there?"),
        Message(role="tool", parts=[ToolResultPart(tool_call_id="1", result="ok")]),
        Message.user("and?"),
    ]
    for turns in (1, 2, 3):
        after = asyncio.run(Processors([DropOldTools(turns)]).before_model(messages, WHERE))
        assert pair_safe(after) == after
        assert len(after) == (3 if turns == 1 else 5)


@pytest.mark.parametrize("wrong", [0, -1, True, "2", None])
def test_wrong_turns_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="turns is a count from 1 up"):
        DropOldTools(wrong)
