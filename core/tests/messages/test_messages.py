"""Messages: what goes into a record comes back, and what could not is refused by name before it is stored (law 7)."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from conversations import conversations
from hypothesis import given
from hypothesis import strategies as st
from json_values import JSON, KEYS, TEXTS, nested

from threadkeep.errors import InvalidContent, InvalidId, LimitExceeded, StoreDamaged
from threadkeep.formats import messages_from_openai
from threadkeep.messages import (
    DataPart,
    FilePart,
    Message,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UnknownPart,
    decode,
    dump,
    encode,
    parse_message,
)
from threadkeep.messages.model import as_messages
from threadkeep.port import MAX_DEPTH, Limits, Record, Stored, from_micros, new_id, to_micros

LIMITS = Limits()
AT = 1_700_000_000_123_456


def record(message: Message) -> Record:
    return encode(message, LIMITS)


def back(*messages: Message) -> list[Message]:
    """Messages as they come back from a store."""
    return decode([Stored(7 + place, AT, *record(message)) for place, message in enumerate(messages)])


PROVIDERS = st.none() | st.dictionaries(KEYS, JSON, max_size=2)
OBJECTS = st.dictionaries(KEYS, JSON, max_size=3)
OURS = {"text", "reasoning", "tool_call", "tool_result", "file", "source", "data"}
NAMES = st.none() | TEXTS
# Names that no class could have, and names that a pydantic class has itself.
EXTRA_NAMES = st.sampled_from(
    ["$set", "a.b", "__proto__", "", "0", "\0", "__dict__", "model_config", "copy", "json", "é"]
)
EXTRA = st.dictionaries(EXTRA_NAMES, JSON, max_size=2)


def _part(kind: str, **known: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    body = st.fixed_dictionaries({"type": st.just(kind), **known}, optional={"provider": PROVIDERS})
    return st.builds(lambda extra, body: {**extra, **body}, EXTRA, body)


PARTS = st.one_of(
    _part("text", text=TEXTS),
    _part("reasoning", text=TEXTS, signature=NAMES),
    _part("tool_call", tool_call_id=TEXTS, name=TEXTS, arguments=TEXTS | OBJECTS),
    _part("tool_result", tool_call_id=TEXTS, name=NAMES, result=JSON, is_error=st.booleans()),
    _part("file", media_type=NAMES, url=NAMES, data=NAMES, filename=NAMES),
    _part("source", source_id=NAMES, url=NAMES, title=NAMES),
    _part("data", name=NAMES, data=JSON),
    st.builds(lambda kind, extra: {**extra, "type": kind}, TEXTS.filter(lambda kind: kind not in OURS), EXTRA),
)
TIMES = st.datetimes(
    min_value=datetime(1, 1, 3),
    max_value=datetime(9999, 12, 29),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5.5))]),
)
MESSAGES = st.builds(
    lambda extra, body: parse_message({**extra, **body}),
    EXTRA,
    st.fixed_dictionaries(
        {"id": TEXTS.filter(bool), "role": TEXTS, "parts": st.lists(PARTS, max_size=4)},
        optional={"name": NAMES, "created_at": st.none() | TIMES, "metadata": OBJECTS, "provider": PROVIDERS},
    ),
)


def values(message: Message) -> str:
    """Everything that a message holds, as text in which 1, 1.0 and True differ."""
    return repr(
        [
            {k: v for k, v in message if k not in ("parts", "position", "stored_at", "created_at")},
            message.created_at and message.created_at.astimezone(UTC).replace(fold=0),
            [(type(part).__name__, dict(part)) for part in message.parts],
        ]
    )


@given(st.lists(MESSAGES, max_size=3))
def test_law_7_what_comes_back_is_what_went_in(messages: list[Message]) -> None:
    again = back(*messages)
    assert again == messages
    assert [values(message) for message in again] == [values(message) for message in messages]
    assert [record(message) for message in again] == [record(message) for message in messages]
    assert [message.position for message in again] == list(range(7, 7 + len(messages)))
    assert all(message.stored_at == from_micros(AT) for message in again)
    assert [parse_message(dump(message)) for message in again] == messages


@given(MESSAGES, MESSAGES)
def test_law_2_equal_means_equal_digest(one: Message, other: Message) -> None:
    other = other.model_copy(update={"id": one.id})
    assert (one == other) == (record(one).digest == record(other).digest)


SIMPLE_PARTS = st.builds(
    lambda text, change: TextPart(text=text).model_copy(update=change),
    TEXTS,
    st.just({})
    | st.sampled_from([{"provider": {}}, {"provider": {"a": 1}}, {"extra": "x"}, {"type": "data"}, {"text": 1}]),
)
SIMPLE_MESSAGES = st.builds(
    lambda role, name, parts, change: Message(id="m", role=role, name=name).model_copy(
        update={"parts": parts, **change}
    ),
    TEXTS,
    NAMES,
    st.lists(SIMPLE_PARTS, max_size=3),
    st.just({})
    | st.sampled_from(
        [
            {"metadata": {"a": 1}},
            {"metadata": None},
            {"provider": {}},
            {"created_at": from_micros(AT)},
            {"created_at": from_micros(AT).replace(tzinfo=None)},
            {"position": 3, "stored_at": from_micros(AT)},
            {"extra": "x"},
            {"role": 5},
            {"role": "\ud800"},
            {"name": 5},
            {"parts": ()},
            {"parts": None},
            {"parts": ["a"]},
        ]
    ),
)


def _outcome(message: Message) -> object:
    try:
        return record(message)
    except InvalidContent as error:
        return str(error)


@given(SIMPLE_MESSAGES)
def test_law_7_a_message_of_texts_only_is_stored_as_any_other(message: Message) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("threadkeep.messages.codec._simple_message", lambda _: None)
        as_any_other = _outcome(message)
    assert _outcome(message) == as_any_other


def test_law_7_what_is_told_by_its_types_alone_is_of_these_very_types() -> None:
    class MyText(TextPart):
        lang: str = "en"

    class MyMessage(Message):
        channel: str = "mail"

    assert json.loads(record(MyMessage.user("a")).body)["channel"] == "mail"
    assert json.loads(record(Message(role="user", parts=[MyText(text="a")])).body)["parts"][0]["lang"] == "en"


def test_law_7_real_conversations_come_back() -> None:
    for conversation in conversations():
        messages = messages_from_openai(conversation["messages"])
        assert back(*messages) == messages


def test_the_body_is_plain_json_without_what_says_nothing() -> None:
    message = Message.user("a", id="m", position=3, stored_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert record(message).body == '{"id":"m","parts":[{"text":"a","type":"text"}],"role":"user"}'
    whole = Message(
        id="m",
        role="tool",
        parts=[ToolResultPart(tool_call_id="c", result=[1.0, None])],
        name="x",
        created_at=datetime(2020, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        metadata={"b": 1, "a": None},
        provider={},
        more=None,
    )
    assert json.loads(record(whole).body) == {
        "id": "m",
        "role": "tool",
        "parts": [{"type": "tool_result", "tool_call_id": "c", "result": [1.0, None], "is_error": False}],
        "name": "x",
        "created_at": "2020-01-01T00:00:00.000000+00:00",
        "metadata": {"b": 1, "a": None},
        "provider": {},
        "more": None,
    }
    assert list(back(whole)[0].metadata) == ["b", "a"]


DIFFERENT: list[Any] = [1, True, 1.0, "1", None, 0, False, 0.0, -0.0, "", [], {}, [1], [True], {"a": 1}, {"a": None}]


def test_values_that_python_takes_for_equal_make_different_messages() -> None:
    messages = [Message(id="m", role="user", metadata={"v": value}) for value in DIFFERENT]
    for i, one in enumerate(messages):
        for j, other in enumerate(messages):
            assert (one == other) == (i == j)
    assert len({record(message).digest for message in messages}) == len(messages)


def test_what_the_store_adds_and_the_order_of_keys_are_no_difference() -> None:
    one = Message(
        id="m", role="user", metadata={"a": 1, "b": {"c": 2, "d": 3}}, created_at=datetime(2020, 1, 1, tzinfo=UTC)
    )
    other = Message(
        id="m",
        role="user",
        metadata={"b": {"d": 3, "c": 2}, "a": 1},
        created_at=datetime(2020, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
        position=5,
        stored_at=datetime(2021, 1, 1, tzinfo=UTC),
    )
    assert one == other
    assert record(one).digest == record(other).digest
    assert one != "m"


@pytest.mark.parametrize(
    "change",
    [
        {"id": "n"},
        {"role": "critic"},
        {"name": ""},
        {"parts": [TextPart(text="b"), TextPart(text="a")]},
        {"parts": [TextPart(text="ab")]},
        {"metadata": {"a": 1}},
        {"provider": {}},
        {"created_at": datetime(2020, 1, 1, 0, 0, 0, 1, tzinfo=UTC)},
    ],
)
def test_everything_else_is_a_difference(change: dict[str, Any]) -> None:
    at = datetime(2020, 1, 1, tzinfo=UTC)
    one = Message(id="m", role="user", parts=[TextPart(text="a"), TextPart(text="b")], created_at=at)
    other = one.model_copy(update=change)
    assert one != other
    assert record(one).digest != record(other).digest


def test_unknown_kinds_and_fields_are_kept() -> None:
    plain = {
        "id": "m",
        "role": "critic",
        "parts": [
            {"type": "hologram", "depth": [1, {"x": None}], "provider": {"p": 1}},
            {"type": "text", "text": "a", "cache": True},
            {"type": ""},
        ],
        "channel": {"$set": 1},
    }
    message = parse_message(plain)
    assert [type(part) for part in message.parts] == [UnknownPart, TextPart, UnknownPart]
    assert dump(back(message)[0]) == plain | {"position": 7, "stored_at": "2023-11-14T22:13:20.123456+00:00"}


def test_text_calls_and_results_of_a_message() -> None:
    call = ToolCallPart(tool_call_id="c", name="f", arguments={})
    result = ToolResultPart(tool_call_id="c")
    parts = [TextPart(text="a"), call, ReasoningPart(text="hm"), result, TextPart(text="b"), FilePart(), SourcePart()]
    message = Message(role="assistant", parts=parts)
    assert (message.text, message.tool_calls, message.tool_results) == ("ab", [call], [result])


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_law_7_time_is_kept_to_the_microsecond(micros: int) -> None:
    moment = from_micros(micros)
    assert to_micros(moment) == micros
    assert to_micros(moment.astimezone(UTC)) == micros
    [message] = back(Message(role="user", created_at=moment))
    assert message.created_at == moment


def test_law_7_a_hundred_levels_are_kept_and_more_than_can_be_read_are_refused() -> None:
    message = Message(role="user", parts=[DataPart(data=nested(100))], metadata={"a": nested(100)}, more=nested(100))
    assert back(message) == [message]
    # Message, parts and part are three levels.
    deepest = Message(role="user", parts=[DataPart(data=nested(MAX_DEPTH - 3))])
    assert back(deepest) == [deepest]
    with pytest.raises(
        InvalidContent, match=rf"^message\.parts\[0\]\.data.*\.\.\. is nested deeper than {MAX_DEPTH} levels; "
    ):
        record(Message(role="user", parts=[DataPart(data=nested(MAX_DEPTH - 2))]))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            Message.user("a\ud800"),
            "message.parts[0].text holds a lone surrogate at index 1, which UTF-8 cannot encode; remove it",
        ),
        (
            Message(role="\udfff"),
            "message.role holds a lone surrogate at index 0, which UTF-8 cannot encode; remove it",
        ),
        (
            Message(role="u", metadata={"a": [float("inf")]}),
            "message.metadata.a[0] is inf, which JSON does not have; use null or a string",
        ),
        (
            Message(role="u", provider={"p": {"x": (1,)}}),
            "message.provider.p.x is a tuple; only JSON is kept (dict, list, str, int, float, bool, None)",
        ),
        (
            Message(role="u", more=datetime(2020, 1, 1, tzinfo=UTC)),
            "message.more is a datetime; only JSON is kept (dict, list, str, int, float, bool, None)",
        ),
        (
            Message(role="u", parts=[DataPart(data={"a": {1: 2}})]),
            "message.parts[0].data.a has the key 1; keys must be strings, as in JSON",
        ),
        (
            Message(role="u", created_at=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
            "created_at: 0001-01-01 00:00:00+01:00 is not within the years 1 to 9999 of UTC",
        ),
    ],
    ids=range(7),
)
def test_law_7_what_cannot_be_kept_is_refused_with_its_path_and_the_remedy(message: Message, text: str) -> None:
    with pytest.raises(InvalidContent, match=f"^{re.escape(text)}$"):
        record(message)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"role": 5}, r"^role: Input should be a valid string$"),
        (
            {"parts": [TextPart(text="a").model_copy(update={"text": 5})]},
            r"^parts\.0\.text\.text: Input should be a valid string$",
        ),
        (
            {"parts": [UnknownPart.model_construct(type="tool_call")]},
            r"^parts\.0\.tool_call\.tool_call_id: Field required$",
        ),
        ({"parts": ["a"]}, r"has a field of a wrong type .*; .* do not check, Message\(...\) and parse_message do$"),
        ({"created_at": "2020-01-01"}, r"has a field of a wrong type .* parse_message do$"),
        ({"created_at": datetime(2020, 1, 1)}, r"^created_at: .* has no time zone; give it one, such as UTC$"),
    ],
    ids=range(6),
)
def test_law_7_what_could_not_be_read_again_is_refused_before_it_is_stored(change: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidContent, match=text):
        record(Message(role="user").model_copy(update=change))


def test_ids_and_sizes_are_checked() -> None:
    with pytest.raises(InvalidId, match=r"^message id must not be empty; there is no default message id$"):
        record(Message(id="", role="user"))
    room = LIMITS.message_bytes - len(record(Message.user("", id="m")).body)
    assert len(record(Message.user("x" * room, id="m")).body) == LIMITS.message_bytes
    with pytest.raises(
        LimitExceeded, match=r"^message 'm' \(bytes of JSON\) is 1048577, over the limit message_bytes = "
    ):
        record(Message.user("x" * (room + 1), id="m"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "message: Input should be a valid dictionary or instance of Message"),
        ({}, "role: Field required"),
        ({"role": "u", "parts": "a"}, "parts: Input should be a valid list"),
        ({"role": "u", "parts": [{"type": "text"}]}, "parts.0.text.text: Field required"),
        (
            {"role": "u", "parts": [{"type": "tool_call", "tool_call_id": "c", "name": "f"}]},
            "parts.0.tool_call.arguments: Field required",
        ),
        ({"role": "u", "created_at": "2020-01-01T00:00:00"}, "created_at: Input should have timezone info"),
    ],
)
def test_what_is_no_message_is_refused_with_the_field(value: object, text: str) -> None:
    with pytest.raises(InvalidContent, match=f"^{re.escape(text)}$"):
        parse_message(value)


@pytest.mark.parametrize("part", [{}, {"type": 5}, {"text": "a"}, {"type": None}])
def test_a_part_without_a_kind_is_refused_with_its_place(part: dict[str, Any]) -> None:
    with pytest.raises(InvalidContent, match=r"^parts\.0.*type"):
        parse_message({"role": "u", "parts": [part]})


def test_a_stored_message_that_cannot_be_read_is_damage() -> None:
    good = record(Message.user("a"))
    with pytest.raises(StoreDamaged, match=r"^a stored message cannot be read: "):
        decode([Stored(1, AT, *good), Stored(2, AT, "m", "d", '{"id":"m"}')])
    assert decode([]) == []


def test_ids_are_made_where_none_is_given_and_strings_are_the_users() -> None:
    assert re.fullmatch("[0-9a-f]{32}", new_id())
    assert UUID(new_id()).version == 7
    made = [new_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    one, two = as_messages(["yes", "yes"])
    assert (one.role, one.text, one.parts) == ("user", "yes", two.parts)
    assert one.id != two.id
    given_one = Message.assistant("no", metadata={"a": 1})
    assert as_messages([given_one])[0] is given_one
