"""Models of providers: what they are asked and what they say arrives whole, over real HTTP and their client library."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import traceback
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any

import pytest
from agents import ALICE
from conversations import conversations_file
from model_server import KEY, Cut, ModelServer, Status, saying
from openai_server import plain, replay, serving
from provider_models import add, model_named
from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelResponse, ToolReturnPart
from pydantic_ai.messages import ToolCallPart as CallOfModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.providers import infer_provider_class

from threadkeep import Agent, Memory, Message
from threadkeep.agent import MemoryOptions, ReasoningDelta, TextDelta
from threadkeep.cli.replay.recordings import read_recordings
from threadkeep.errors import Action, InvalidInput, ModelFailed
from threadkeep.formats import from_openai, from_pydantic_ai, to_openai, to_pydantic_ai
from threadkeep.messages import FilePart, ReasoningPart, TextPart, ToolCallPart, ToolResultPart, parse_message
from threadkeep.models import Model, ModelRequest, ProviderModel, ScriptedModel, Tool, ToolContext, as_model
from threadkeep.models.providers import PROVIDERS


def say(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def call(call_id: str, name: str, **arguments: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


@pytest.fixture
def url() -> str:
    """A model is asked in the same way whatever the store: one is enough."""
    return "memory://"


def model_of(server: ModelServer, name: str = "gpt-test", **options: Any) -> AbstractAsyncContextManager[ProviderModel]:
    return model_named(name, base_url=server.url, **{"api_key": KEY, **options})


async def test_text_comes_piece_by_piece_and_the_message_says_which_model_and_what_it_took(memory: Memory) -> None:
    with serving(saying(say("Where is your order, and why?"))) as server:
        async with model_of(server) as model:
            agent = Agent(model=model, memory=memory, instructions="Be brief.")
            pieces = [e.text async for e in agent.stream("Hi", **ALICE) if isinstance(e, TextDelta)]
            assert len(pieces) > 3
            assert "".join(pieces) == "Where is your order, and why?"
            _, message = await memory.thread(**ALICE).messages()
            assert message.text == "Where is your order, and why?"
            assert message.metadata["model"] == "gpt-test-2026"
            assert message.metadata["finish_reason"] == "stop"
            assert message.metadata["usage"] == {
                "input_tokens": 11,
                "output_tokens": 7,
                "cache_read_tokens": 4,
                "reasoning_tokens": 3,
            }
    (request,) = server.requests
    assert request["stream"] is True
    assert request["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert "tools" not in request


@pytest.mark.parametrize("name", ["openai:gpt-test", "openai-responses:gpt-test", "openai-chat:gpt-test"])
async def test_agent_and_title_by_name_alone_ask_the_provider(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def answer(request: dict[str, Any]) -> dict[str, Any]:
        text = "Late order" if "Name a conversation" in json.dumps(request) else "It is on its way."
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
        return say(text) if "messages" in request else {"output": [item]}

    with serving(answer) as server:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        async with Memory("memory://") as memory:
            agent = Agent(model=name, title=name, memory=memory)
            assert (await agent.generate("Where is my order?", **ALICE)).text == "It is on its way."
            info = await memory.thread(**ALICE).info()
            assert info.title == "Late order"
            for model in (agent.model, agent.title):
                assert isinstance(model, ProviderModel)
                await model.close()
    assert len(server.requests) == 2


async def test_several_calls_at_once_run_and_their_results_go_back_in_order(memory: Memory) -> None:
    calls = [call("c1", "add", a=1, b=2), call("c2", "add", a=3, b=4), call("c3", "add", a="x")]

    with serving(saying({"role": "assistant", "content": None, "tool_calls": calls}, say("3 and 7"))) as server:
        async with model_of(server) as model:
            reply = await Agent(model=model, memory=memory, tools=[add]).generate("Add", **ALICE)
            assert reply.text == "3 and 7"
    first, second = server.requests
    (tool,) = first["tools"]
    assert tool["function"]["name"] == "add"
    assert set(tool["function"]["parameters"]["properties"]) == {"a", "b"}
    _, asked, *results = second["messages"]
    assert [each["id"] for each in asked["tool_calls"]] == ["c1", "c2", "c3"]
    assert [each["tool_call_id"] for each in results] == ["c1", "c2", "c3"]
    assert [each["content"] for each in results[:2]] == ["3", "7"]
    assert "Field required" in results[2]["content"]


async def test_reasoning_is_streamed_kept_with_its_signature_and_sent_back(memory: Memory) -> None:
    thought = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "Two numbers are to be added."}],
        "encrypted_content": "signed-0123",
    }
    called = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "add", "arguments": '{"a":1,"b":2}'}
    text = {"type": "output_text", "text": "It is 3.", "annotations": []}
    said = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}

    with serving(saying({"output": [thought, called]}, {"output": [said]})) as server:
        async with model_of(server, "openai-responses:gpt-5") as model:
            agent = Agent(model=model, memory=memory, tools=[add])
            events = [event async for event in agent.stream("Add", **ALICE)]
            assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == "Two numbers are to be added."
            assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "It is 3."
            step = (await memory.thread(**ALICE).messages())[1]
            reasoning, tool_call = step.parts
            assert isinstance(reasoning, ReasoningPart)
            assert (reasoning.text, reasoning.signature) == ("Two numbers are to be added.", "signed-0123")
            assert isinstance(tool_call, ToolCallPart)
            assert (tool_call.tool_call_id, tool_call.arguments) == ("c1", '{"a":1,"b":2}')
    items = server.requests[1]["input"]
    assert [item.get("type") for item in items[1:]] == ["reasoning", "function_call", "function_call_output"]
    assert items[1]["encrypted_content"] == "signed-0123"
    assert items[1]["summary"] == thought["summary"]
    assert items[3]["output"] == "3"


@pytest.mark.parametrize(
    ("answer", "action", "told"),
    [
        (Status(401, "Incorrect API key provided: " + KEY, error_code="invalid_api_key"), Action.OPERATE, "HTTP 401"),
        (Status(429, "Slow down", {"retry-after": "3"}), Action.REPEAT, "HTTP 429: Slow down"),
        (Status(500, "Oops"), Action.REPEAT, "HTTP 500: Oops"),
        (Status(404, "No such model", error_code="model_not_found"), Action.FIX, "check the model's name"),
        (
            Status(400, "maximum context length is 8192 tokens", error_code="context_length_exceeded"),
            Action.FIX,
            "show the model fewer messages",
        ),
        (Cut(say("Half of this is"), 3), Action.REPEAT, "repeat the request"),
        (Cut(say("Half of this is"), 3, clean=True), Action.REPEAT, "finish_reason"),
    ],
    ids=["401", "429", "500", "404", "context", "cut", "cut clean"],
)
async def test_what_a_provider_refuses_or_breaks_off_says_what_to_do_and_no_key(
    memory: Memory, answer: Any, action: Action, told: str
) -> None:
    with serving(lambda request: answer) as server:
        async with model_of(server) as model:
            with pytest.raises(ModelFailed) as caught:
                await Agent(model=model, memory=memory).generate("Hi", **ALICE)
            assert caught.value.action is action
            assert told in str(caught.value)
            shown = "".join(traceback.format_exception(caught.value))
            assert KEY not in shown
            assert [m.text for m in await memory.thread(**ALICE).messages() if m.role == "user"] == ["Hi"]


def test_the_page_about_models_has_the_table_of_providers() -> None:
    ends = {True: "has broken off", False: "is taken for the whole"}
    rows = [
        f"| {known.title} | `{name}` | {ends[known.tells_its_end]} | `{known.span_name or name}` |"
        for name, known in PROVIDERS.items()
    ]
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")
    assert "\n".join(["|---|---|---|---|", *rows, ""]) in page


def test_pydantic_ai_knows_every_provider_of_the_table_by_its_name() -> None:
    for name in PROVIDERS:
        # A provider that is known may need a package that is not installed here.
        with suppress(ImportError):
            infer_provider_class(name)
    with pytest.raises(ValueError, match="Unknown provider"):
        infer_provider_class("nobody")


async def test_a_streamed_response_that_ends_early_is_no_whole_answer(memory: Memory) -> None:
    text = {"type": "output_text", "text": "Half of this is all that there is.", "annotations": []}
    said = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}

    with serving(lambda request: Cut({"output": [said]}, 6, clean=True)) as server:
        async with model_of(server, "openai-responses:gpt-5") as model:
            with pytest.raises(ModelFailed, match=r"broke off.*repeat the request"):
                await Agent(model=model, memory=memory).generate("Hi", **ALICE)
            _, half = await memory.thread(**ALICE).messages()
            assert half.metadata["interrupted"] == "failed"


async def test_a_refused_key_is_in_no_error_even_where_the_server_repeats_it(memory: Memory) -> None:
    wrong = "a-key-of-no-known-form"

    with serving(saying()) as server:
        async with model_of(server, api_key=wrong) as model:
            with pytest.raises(ModelFailed, match=r"HTTP 401.*check the provider's API key") as caught:
                await Agent(model=model, memory=memory).generate("Hi", **ALICE)
            assert wrong not in "".join(traceback.format_exception(caught.value))


async def test_an_endpoint_that_is_not_there_fails_by_name(memory: Memory) -> None:
    with serving(saying()) as server:
        pass
    async with model_of(server) as model:
        with pytest.raises(ModelFailed, match="connection failed; repeat the request"):
            await Agent(model=model, memory=memory).generate("Hi", **ALICE)


def test_one_agent_serves_several_event_loops_one_after_another() -> None:
    with serving(lambda request: say("Yes")) as server:
        model = as_model("gpt-test", base_url=server.url, api_key=KEY)
        assert isinstance(model, ProviderModel)

        async def main() -> str:
            async with Memory("memory://") as memory:
                reply = await Agent(model=model, memory=memory).generate("Hi", **ALICE)
                again = await Agent(model=model, memory=memory).generate("Hi again", **ALICE)
                await model.close()
                await model.close()
                return reply.text + again.text

        assert [asyncio.run(main()) for _ in range(3)] == ["YesYes"] * 3
    gc.collect()


async def test_the_real_conversations_go_through_a_provider_and_are_stored_as_recorded(memory: Memory) -> None:
    """With tools on: the server refuses a request that is not, to the letter, the recording so far."""
    recordings = read_recordings(conversations_file())
    playing = recordings[0]

    with serving(lambda request: replay(playing.messages, request)) as server:
        async with model_of(server) as model:
            for recording in recordings[:40]:
                playing = recording
                results: list[str] = []

                async def answer(arguments: dict[str, Any], context: ToolContext, results: list[str] = results) -> Any:
                    return results.pop(0)

                names = {
                    each["function"]["name"] for chat in recording.messages for each in chat.get("tool_calls") or []
                }
                tools = [
                    Tool(name, "As recorded.", {"type": "object", "properties": {}}, answer) for name in sorted(names)
                ]
                agent = Agent(model=model, memory=memory, tools=tools, options=MemoryOptions(last=1000), max_steps=100)
                for turn in recording.turns:
                    spoken = [from_openai(chat) for chat in recording.messages[turn.start : turn.reply]]
                    results += [c["content"] for c in recording.messages[turn.reply : turn.end] if c["role"] == "tool"]
                    await agent.generate(
                        spoken, resource_id=recording.resource_id, thread_id=recording.thread_id, max_steps=turn.steps
                    )
                stored = await memory.thread(recording.resource_id, recording.thread_id).messages()
                assert [plain(to_openai(message)) for message in stored] == [plain(chat) for chat in recording.messages]
                recorded = [each for chat in recording.messages for each in chat.get("tool_calls") or []]
                assert [(each.tool_call_id, each.name, each.arguments) for m in stored for each in m.tool_calls] == [
                    (each["id"], each["function"]["name"], each["function"]["arguments"]) for each in recorded
                ]
    for request in server.requests:
        ids = [each["id"] for chat in request["messages"] for each in chat.get("tool_calls") or []]
        assert len(set(ids)) == len(ids)
        assert [chat["tool_call_id"] for chat in request["messages"] if chat["role"] == "tool"] == ids


async def test_a_name_a_function_a_model_and_a_pydantic_model_are_models() -> None:
    async def later(request: ModelRequest) -> str:
        return f"{len(request.messages)} messages"

    def at_once(request: ModelRequest) -> Message:
        return Message.assistant("at once", id="a1")

    async with Memory("memory://") as memory:
        models: list[tuple[Any, str]] = [
            (later, "1 messages"),
            (at_once, "at once"),
            (ScriptedModel(["scripted"]), "scripted"),
            (TestModel(call_tools=[], custom_output_text="tested"), "tested"),
        ]
        for number, (given, expected) in enumerate(models):
            agent = Agent(model=given, memory=memory)
            reply = await agent.generate("Hi", resource_id="alice", thread_id=str(number))
            assert reply.text == expected
    assert isinstance(as_model("test"), ProviderModel)


def test_what_is_no_model_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InvalidInput, match="a model is a name such as 'openai:gpt-4o'"):
        as_model(17)  # type: ignore[arg-type]  # what a careless caller does
    with pytest.raises(InvalidInput, match="a model is a name"):
        as_model(ScriptedModel)  # type: ignore[arg-type]  # the class in place of an object
    with pytest.raises(InvalidInput, match="Unknown model: nothing-such"):
        as_model("nothing-such")
    with pytest.raises(InvalidInput, match="OPENAI_API_KEY"):
        as_model("openai:gpt-4o")
    with pytest.raises(InvalidInput, match="api_key is for the endpoint"):
        as_model("openai:gpt-4o", api_key="x")
    with pytest.raises(InvalidInput, match="base_url is an endpoint such as"):
        as_model("llama3:8b", base_url="localhost:11434")
    with pytest.raises(InvalidInput, match="base_url and settings are for a model given by its name"):
        as_model(ScriptedModel(["Hi"]), base_url="http://localhost/v1")
    with pytest.raises(InvalidInput, match="has its own"):
        as_model(TestModel(), base_url="http://localhost/v1")


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("openai:gpt-4o", "openai", "openai"),
        ("anthropic:claude-test", "anthropic", "anthropic"),
        ("google:gemini-test", "google-genai", "google"),
        ("groq:llama-test", "groq", "groq"),
        ("huggingface:llama-test", "huggingface_hub", "huggingface"),
    ],
)
def test_a_provider_whose_package_is_missing_is_named_with_what_brings_it(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    for module in [name for name in sys.modules if name.startswith(("pydantic_ai.providers.", "pydantic_ai.models."))]:
        monkeypatch.delitem(sys.modules, module)
    for module in ("openai", "anthropic", "google", "google.genai", "groq", "huggingface_hub"):
        # As if it were not installed, whether it is or not.
        monkeypatch.setitem(sys.modules, module, None)
    missing = rf"needs the package '{package}'.*pip install \"pydantic-ai-slim\[{extra}\]\""
    with pytest.raises(InvalidInput, match=missing):
        as_model(name)


def test_a_providers_package_is_loaded_when_a_model_of_its_is_used() -> None:
    script = (
        "import os, sys, threadkeep, threadkeep.agent, threadkeep.cli\n"
        "from threadkeep.models import as_model\n"
        "assert 'pydantic_ai' not in sys.modules\n"
        "as_model('test')\n"
        "assert not {'openai', 'anthropic'} & sys.modules.keys()\n"
        "os.environ['ANTHROPIC_API_KEY'] = 'none'\n"
        "as_model('anthropic:claude-test')\n"
        "assert 'anthropic' in sys.modules and 'openai' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-P", "-c", script], check=True)


def test_without_the_extra_a_name_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "pydantic_ai"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "pydantic_ai", None)
    with pytest.raises(InvalidInput, match=r'pip install "threadkeep\[models\]"'):
        as_model("openai:gpt-4o")


def test_what_a_provider_sent_along_goes_back_to_it_whole() -> None:
    """Parts of every kind of a provider's answer come back from the store as pydantic-ai gave them."""
    answer = {
        "kind": "response",
        "model_name": "m-1",
        "provider_name": "anthropic",
        "provider_response_id": "r1",
        "provider_details": {"tier": "a"},
        "finish_reason": "tool_call",
        "parts": [
            {"part_kind": "thinking", "content": "Hm", "signature": "s1", "provider_name": "anthropic", "id": "t1"},
            {"part_kind": "thinking", "content": "", "signature": "redacted", "provider_name": "anthropic"},
            {"part_kind": "text", "content": "Look", "id": "x1", "provider_name": "anthropic"},
            {
                "part_kind": "builtin-tool-call",
                "tool_name": "web_search",
                "args": {"query": "q"},
                "tool_call_id": "b1",
                "provider_name": "anthropic",
            },
            {
                "part_kind": "tool-call",
                "tool_name": "add",
                "args": {"a": 2**70},
                "tool_call_id": "c1",
                "provider_details": {"thought_signature": "gs"},
                "provider_name": "anthropic",
            },
            {
                "part_kind": "file",
                "content": {"kind": "binary", "data": "_wA-", "media_type": "image/png"},
                "id": "f1",
                "provider_name": "anthropic",
            },
        ],
    }
    (response,) = ModelMessagesTypeAdapter.validate_python([answer])
    assert isinstance(response, ModelResponse)
    message = parse_message(json.loads(from_pydantic_ai(response).model_dump_json()))
    (again,) = to_pydantic_ai([message])
    assert again.parts == response.parts
    for name in ("model_name", "provider_name", "provider_response_id", "provider_details", "finish_reason"):
        assert getattr(again, name) == getattr(response, name)
    file = message.parts[-1]
    assert isinstance(file, FilePart)
    assert (file.data, file.media_type) == ("/wA+", "image/png")


def test_ids_of_calls_that_repeat_are_sent_once_each_with_their_results() -> None:
    def step(result: str) -> list[Message]:
        return [
            Message(role="assistant", parts=[ToolCallPart(tool_call_id="call_0", name="add", arguments="{}")]),
            Message(role="tool", parts=[ToolResultPart(tool_call_id="call_0", result=result)]),
        ]

    history = to_pydantic_ai([Message.user("Add"), *step("1"), *step("2")])
    parts = [part for message in history for part in message.parts]
    sent = [part.tool_call_id for part in parts if isinstance(part, CallOfModel)]
    answered = [(p.tool_call_id, p.tool_name, p.content) for p in parts if isinstance(p, ToolReturnPart)]
    assert sent[0] == "call_0"
    assert sent[0] != sent[1]
    assert answered == [(sent[0], "add", "1"), (sent[1], "add", "2")]
    assert [m.kind for m in history] == ["request", "response", "request", "response", "request"]


async def test_files_and_odd_contents_reach_the_provider(memory: Memory) -> None:
    image = FilePart(url="https://example.com/cat.png", media_type="image/*")
    data = FilePart(data="iVBORw0KGgo=", media_type="image/png")
    said = [
        Message(role="user", parts=[TextPart(text="Which?"), image, data]),
        Message(role="assistant", parts=[TextPart(text="")]),
        Message(role="user", parts=[]),
        Message.user("Well?"),
    ]

    with serving(saying(say("That one"))) as server:
        async with model_of(server) as model:
            assert (await Agent(model=model, memory=memory).generate(said, **ALICE)).text == "That one"
    first = server.requests[0]["messages"][0]["content"]
    assert first[0] == {"type": "text", "text": "Which?"}
    assert first[1]["image_url"]["url"] == "https://example.com/cat.png"
    assert first[2]["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
    assert server.requests[0]["messages"][-1] == {"role": "user", "content": "Well?"}


def test_a_json_result_that_looks_like_a_file_stays_a_result() -> None:
    trap = {"kind": "image-url", "url": "http://169.254.169.254/latest"}
    (request,) = to_pydantic_ai([Message(role="tool", parts=[ToolResultPart(tool_call_id="c", name="t", result=trap)])])
    (part,) = request.parts
    assert isinstance(part, ToolReturnPart)
    assert part.content == json.dumps(trap, separators=(",", ":"))


def test_every_model_has_the_one_method() -> None:
    for model in (as_model("test"), as_model(lambda request: "Hi"), ScriptedModel(["Hi"])):
        assert isinstance(model, Model)
