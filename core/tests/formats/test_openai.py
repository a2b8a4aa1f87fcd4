"""The OpenAI chat format: one chat message is one message and comes back as it was; native messages call a model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conversations import SHIPPED, conversations, read
from hypothesis import given
from hypothesis import strategies as st

from threadkeep.errors import InvalidContent, InvalidInput
from threadkeep.formats import LEGACY_CALL_ID, from_openai, messages_from_openai, messages_to_openai, to_openai
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
    encode,
)
from threadkeep.port import Limits, Stored

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
EXTRA = st.dictionaries(
    st.sampled_from(["cache_control", "index", "detail", "provider", "openai", "id"]), JSON, max_size=2
)


def _either(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what the format says, sometimes anything."""
    return st.one_of(good, good, good, JSON)


def _object(
    required: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]] | None = None
) -> Any:
    known = st.fixed_dictionaries(
        {key: _either(value) for key, value in required.items()},
        optional={key: _either(value) for key, value in (optional or {}).items()},
    )
    return st.builds(lambda extra, body: {**extra, **body}, EXTRA, known)


def _missing_some(objects: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda body, gone: {key: value for key, value in body.items() if key not in gone},
        objects,
        st.sets(st.sampled_from(["type", "id", "name", "arguments", "function", "text", "url", "data"]), max_size=1),
    )


URLS = st.sampled_from(["https://example.org/a.png", "data:image/png;base64,AA==", "data:,x", ""])
ITEMS = _missing_some(
    st.one_of(
        _object({"type": st.just("text"), "text": TEXTS}),
        _object({"type": st.just("refusal"), "refusal": TEXTS}),
        _object({"type": st.just("image_url"), "image_url": _object({"url": URLS}, {"detail": TEXTS})}),
        _object({"type": st.just("input_audio"), "input_audio": _object({"data": TEXTS, "format": TEXTS})}),
        _object(
            {"type": st.just("file"), "file": _object({}, {"file_data": URLS, "file_id": TEXTS, "filename": TEXTS})}
        ),
        _object({"type": st.sampled_from(["tool_call", "reasoning", "data", "thing", ""])}, {"text": TEXTS}),
    )
)
FUNCTIONS = _missing_some(_object({"name": TEXTS, "arguments": TEXTS | st.dictionaries(TEXTS, JSON, max_size=2)}))
CALLS = _missing_some(
    st.one_of(
        _object({"id": st.sampled_from(["call_1", "call_2"]), "type": st.just("function"), "function": FUNCTIONS}),
        _object({"id": TEXTS, "type": st.just("custom"), "custom": _object({"name": TEXTS, "input": TEXTS})}),
    )
)
CHATS = st.builds(
    lambda extra, role, body: {**extra, "role": role, **body},
    EXTRA,
    st.sampled_from(["system", "developer", "user", "assistant", "tool", "function", "", "critic"]),
    st.fixed_dictionaries(
        {},
        optional={
            "content": _either(st.none() | TEXTS | st.lists(_either(ITEMS), max_size=4)),
            "tool_calls": _either(st.none() | st.lists(_either(CALLS), max_size=3)),
            "function_call": _either(st.none() | FUNCTIONS),
            "tool_call_id": _either(st.sampled_from(["call_1", "call_2", ""])),
            "name": _either(TEXTS),
            "refusal": _either(st.none() | TEXTS),
            "audio": _either(_object({"id": TEXTS})),
            "annotations": _either(st.just([])),
        },
    ),
)


def stored(message: Message) -> Message:
    """The message as a store gives it back."""
    [back] = decode([Stored(1, 1_000_000, *encode(message, Limits()))])
    return back


@given(CHATS)
def test_law_7_any_chat_message_comes_back_as_it_was(chat: dict[str, Any]) -> None:
    before = json.dumps(chat)
    message = from_openai(chat)
    assert json.dumps(chat) == before
    assert json.dumps(to_openai(message), sort_keys=True) == json.dumps(chat, sort_keys=True)
    assert json.dumps(to_openai(stored(message)), sort_keys=True) == json.dumps(chat, sort_keys=True)
    assert messages_to_openai([message]) == [chat]


@pytest.mark.parametrize("source", [conversations, lambda: read(SHIPPED)], ids=["found", "shipped"])
def test_law_7_whole_conversations_come_back_to_the_letter(source: Any) -> None:
    found = source()
    assert sum(len(conversation["messages"]) for conversation in found) > 40
    for conversation in found:
        chats = conversation["messages"]
        messages = messages_from_openai(chats)
        assert len(messages) == len(chats) == len({message.id for message in messages})
        assert json.dumps(messages_to_openai(messages)) == json.dumps(chats)
        assert json.dumps([to_openai(stored(message)) for message in messages]) == json.dumps(chats)
        # What is plain needs no provider data.
        assert not any(message.provider or any(part.provider for part in message.parts) for message in messages)


def test_the_shipped_conversations_are_as_awkward_as_real_ones() -> None:
    for found in (read(SHIPPED), conversations()):
        reused = equal = empty = null = 0
        for conversation in found:
            messages = conversation["messages"]
            ids = [call["id"] for message in messages for call in message.get("tool_calls") or ()]
            reused += len(set(ids)) < len(ids)
            equal += len({json.dumps(message) for message in messages}) < len(messages)
            empty += any(message["content"] == "" for message in messages)
            null += any(message["content"] is None for message in messages)
        assert min(reused, equal, empty, null) > 0
    assert any(len(message.get("tool_calls") or ()) > 1 for found in read(SHIPPED) for message in found["messages"])


def test_each_thing_that_a_chat_message_holds_has_its_place() -> None:
    chat = {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "Look: "},
            {"type": "text", "text": "here", "cache_control": {"type": "ephemeral"}},
            {"type": "image_url", "image_url": {"url": "https://example.org/a", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "data:image/webp;base64,AA=="}},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"}},
            {"type": "file", "file": {"file_id": "file-1"}},
            {"type": "refusal", "refusal": "no"},
            {"type": "tool_call", "text": "not one of ours"},
        ],
        "name": "clerk",
        "refusal": None,
        "audio": {"id": "audio_1"},
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "a", "arguments": "{ }"}, "extra_content": {"s": "x"}},
            {"id": "c", "type": "function", "function": {"name": "b", "arguments": {"k": 1}}},
            {"id": "d", "type": "custom", "custom": {"name": "sql", "input": "select 1"}},
            {"type": "function", "function": {"name": "without id", "arguments": ""}},
        ],
        "function_call": {"name": "old", "arguments": "{}"},
    }
    message = from_openai(chat)
    assert to_openai(message) == chat
    assert message.text == "Look: here"
    assert message.name == "clerk"
    files = [part for part in message.parts if isinstance(part, FilePart)]
    assert [(part.media_type, part.url, part.data, part.filename) for part in files] == [
        ("image/*", "https://example.org/a", None, None),
        ("image/webp", "data:image/webp;base64,AA==", None, None),
        ("audio/mpeg", None, "AA==", None),
        ("application/pdf", "data:application/pdf;base64,AA==", None, "a.pdf"),
        (None, None, None, None),
    ]
    unknown = [part.type for part in message.parts if isinstance(part, UnknownPart)]
    assert unknown == ["openai:refusal", "openai:tool_call", "openai:function"]
    assert [(call.tool_call_id, call.name, call.arguments) for call in message.tool_calls] == [
        ("c", "a", "{ }"),
        ("c", "b", {"k": 1}),
        ("d", "sql", "select 1"),
        (LEGACY_CALL_ID, "old", "{}"),
    ]
    assert message.provider == {"openai": {"fields": {"refusal": None, "audio": {"id": "audio_1"}}}}


def test_a_tool_message_is_one_result() -> None:
    message = from_openai({"role": "tool", "tool_call_id": "c", "name": "find", "content": '{"a": 1}'})
    assert message.parts == [ToolResultPart(tool_call_id="c", name="find", result='{"a": 1}')]
    assert message.name is None
    listed: list[Any] = [{"type": "text", "text": "a"}]
    assert from_openai({"role": "tool", "tool_call_id": "c", "content": listed}).tool_results[0].result == listed
    legacy = from_openai({"role": "function", "name": "old", "content": "5"})
    assert legacy.tool_results == [ToolResultPart(tool_call_id=LEGACY_CALL_ID, name="old", result="5")]


@pytest.mark.parametrize(
    "chat",
    [
        {"role": "user"},
        {"role": "user", "content": None},
        {"role": "user", "content": ""},
        {"role": "user", "content": []},
        {"role": "user", "content": [""]},
        {"role": "user", "content": [{"type": "text", "text": ""}]},
        {"role": "user", "content": {"not": "a content"}},
        {"role": "assistant"},
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": "", "tool_calls": None},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "assistant", "tool_calls": [None, 5]},
        {"role": "tool", "tool_call_id": "c"},
        {"role": "tool", "tool_call_id": "c", "content": None, "name": None},
        {"role": "tool", "content": "whose?", "tool_calls": [{"id": "c"}]},
        {"role": "function", "name": "old"},
        {"role": "developer", "content": "Be brief.", "name": None},
    ],
)
def test_missing_null_and_empty_stay_apart(chat: dict[str, Any]) -> None:
    assert to_openai(stored(from_openai(chat))) == chat


def test_an_id_is_given_taken_or_made() -> None:
    chat = {"role": "user", "content": "yes", "id": "m1"}
    assert from_openai(chat).id == "m1"
    assert to_openai(from_openai(chat)) == chat
    assert from_openai(chat, id="m2").id == "m2"
    one, two = messages_from_openai([{"role": "user", "content": "yes", "id": odd} for odd in ("", 5)])
    assert one.id not in ("", two.id)
    assert [m.id for m in messages_from_openai([chat, {"role": "user", "content": "yes"}], ids=["a", "b"])] == [
        "a",
        "b",
    ]
    with pytest.raises(InvalidInput, match=r"^1 chat messages need as many ids, not 2$"):
        messages_from_openai([chat], ids=["a", "b"])


def test_metadata_and_time_are_the_callers() -> None:
    message = from_openai({"role": "user", "content": "a"}, metadata={"channel": "mail"})
    assert message.metadata == {"channel": "mail"}
    assert to_openai(message) == {"role": "user", "content": "a"}


def test_what_is_changed_in_a_message_is_what_is_written() -> None:
    message = from_openai({"role": "assistant", "content": None, "tool_calls": [], "refusal": None})
    changed = message.model_copy(
        update={"parts": [TextPart(text="b"), ToolCallPart(tool_call_id="c", name="a", arguments="{}")]}
    )
    assert to_openai(changed) == {
        "role": "assistant",
        "content": "b",
        "refusal": None,
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "a", "arguments": "{}"}}],
    }


def test_native_messages_call_a_model() -> None:
    messages = [
        Message.user("Which?", name="ann"),
        Message(
            role="assistant",
            parts=[
                ReasoningPart(text="hm", signature="s"),
                TextPart(text="Let me look."),
                ToolCallPart(tool_call_id="c1", name="find", arguments={"title": "Ö"}),
                ToolCallPart(tool_call_id="c2", name="find", arguments='{"title":  1}'),
                SourcePart(url="https://example.org"),
            ],
        ),
        Message(
            role="tool",
            parts=[
                ToolResultPart(tool_call_id="c1", name="find", result={"copies": [1, None]}),
                ToolResultPart(tool_call_id="c2", result="gone", is_error=True),
            ],
        ),
        Message(role="assistant", parts=[ToolCallPart(tool_call_id="c1", name="find", arguments={})]),
        Message(role="tool", parts=[ToolResultPart(tool_call_id="c1", result=None)]),
        Message(role="assistant", parts=[DataPart(data=1), UnknownPart(type="thing")]),
    ]
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"title":"Ö"}'}}
    assert messages_to_openai(messages) == [
        {"role": "user", "content": "Which?", "name": "ann"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                call,
                {"id": "c2", "type": "function", "function": {"name": "find", "arguments": '{"title":  1}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "name": "find", "content": '{"copies":[1,null]}'},
        {"role": "tool", "tool_call_id": "c2", "content": "gone"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "null"},
        {"role": "assistant", "content": None},
    ]


def test_a_message_with_calls_and_results_becomes_several_in_an_order_that_models_take() -> None:
    def call(call_id: str) -> ToolCallPart:
        return ToolCallPart(tool_call_id=call_id, name="f", arguments="{}")

    def result(call_id: str) -> ToolResultPart:
        return ToolResultPart(tool_call_id=call_id, result=call_id)

    message = Message(
        role="assistant",
        parts=[
            TextPart(text="a"),
            call("1"),
            call("2"),
            result("1"),
            TextPart(text="b"),
            result("2"),
            call("1"),
            result("1"),
        ],
    )
    chats = messages_to_openai([message])
    assert [(chat["role"], chat["content"], len(chat.get("tool_calls", ()))) for chat in chats] == [
        ("assistant", "a", 2),
        ("tool", "1", 0),
        ("tool", "2", 0),
        ("assistant", "b", 1),
        ("tool", "1", 0),
    ]
    with pytest.raises(InvalidContent, match=r"takes 5 chat messages.*use messages_to_openai$"):
        to_openai(message)


def test_messages_and_chat_messages_share_nothing_that_changes() -> None:
    chat: dict[str, Any] = {
        "role": "assistant",
        "content": [{"type": "refusal", "refusal": "no"}],
        "audio": {"id": "a"},
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": {"k": []}}}],
    }
    before = json.dumps(chat, sort_keys=True)
    message = from_openai(chat)
    for held in (chat, to_openai(message)):
        held["content"][0]["refusal"] = held["audio"]["id"] = "changed"
        held["tool_calls"][0]["function"]["arguments"]["k"].append(1)
    assert json.dumps(to_openai(message), sort_keys=True) == before


def test_several_texts_stay_several() -> None:
    message = Message(role="user", parts=[TextPart(text="a"), TextPart(text="b")])
    assert to_openai(message)["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


@pytest.mark.parametrize(
    ("part", "item"),
    [
        (FilePart(media_type="image/png", data="AA=="), ("image_url", {"url": "data:image/png;base64,AA=="})),
        (FilePart(media_type="image/png", url="https://example.org"), ("image_url", {"url": "https://example.org"})),
        (FilePart(url="data:image/gif;base64,AA=="), ("image_url", {"url": "data:image/gif;base64,AA=="})),
        (FilePart(media_type="audio/mpeg", data="AA=="), ("input_audio", {"data": "AA==", "format": "mp3"})),
        (FilePart(url="data:audio/wav;base64,AA=="), ("input_audio", {"data": "AA==", "format": "wav"})),
        (
            FilePart(media_type="application/pdf", data="AA==", filename="a.pdf"),
            ("file", {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}),
        ),
        (FilePart(data="AA=="), ("file", {"file_data": "data:application/octet-stream;base64,AA=="})),
    ],
)
def test_a_native_file_is_written_as_its_kind(part: FilePart, item: tuple[str, Any]) -> None:
    assert to_openai(Message(role="user", parts=[part]))["content"] == [{"type": item[0], item[0]: item[1]}]


def test_what_has_no_chat_form_is_refused_with_the_remedy() -> None:
    by_url = FilePart(media_type="application/pdf", url="https://example.org/a.pdf")
    with pytest.raises(
        InvalidContent,
        match=r"^a file of media type 'application/pdf' by URL has no chat form, only an image has; "
        r"give it as base64 in data, or set its media_type to image/\* if it is an image$",
    ):
        to_openai(Message(role="user", parts=[by_url]))
    with pytest.raises(InvalidContent, match=r"without url and data has no chat form; give it one of them$"):
        to_openai(Message(role="user", parts=[FilePart(filename="a")]))


def test_what_is_no_chat_message_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidContent, match=r"not str; wrap text as \{'role': 'user', 'content': text\}$"):
        from_openai("hello")  # type: ignore[arg-type]  # the refusal is what is tested
    with pytest.raises(InvalidContent, match=r"^chat message 1: a chat message needs a role, .*this one has None$"):
        messages_from_openai([{"role": "user"}, {"content": "hello"}])
