"""A server on the loopback that speaks OpenAI's protocol, Chat Completions and Responses, streamed and whole.

What it says is the test's to decide: a function from the request's JSON to an answer. Nothing else is left out: the
real client library talks to it over real HTTP.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

from threadkeep.formats.openai import messages_from_openai, to_openai
from threadkeep.messages import Message
from threadkeep.model import ModelRequest

KEY = "sk-test-0123456789abcdef"
"""The key that the server takes."""

USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


@dataclass(frozen=True)
class Status:
    """An answer that is an error of HTTP."""

    code: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    error_code: str | None = None


@dataclass(frozen=True)
class Cut:
    """An answer that breaks off after so many events of its stream; `clean` ends the HTTP body as if that were all."""

    message: Mapping[str, Any]
    events: int
    clean: bool = False


Answer: TypeAlias = "Mapping[str, Any] | Status | Cut"
"""A chat message of the assistant; for Responses, `output` items under that key."""


class OpenAIServer:
    """The server: `url` is its base URL, `requests` the JSON of every request, in order."""

    def __init__(self, answer: Callable[[dict[str, Any]], Answer]) -> None:
        self.answer = answer
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.hold = threading.Event()
        """Set while streams flow; a test that clears it stops them after their first event until it is set again."""
        self.hold.set()
        self.held = threading.Event()
        """Set as soon as a stream waits for `hold`."""
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def start(self) -> None:
        """Serve, in a thread."""
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """End."""
        self.hold.set()
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def serving(answer: Callable[[dict[str, Any]], Answer]) -> Iterator[OpenAIServer]:
    """A running server that answers so."""
    server = OpenAIServer(answer)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def saying(*answers: Answer) -> Callable[[dict[str, Any]], Answer]:
    """These answers, one after another; whoever asks more often gets an error that says so."""
    left = iter(answers)
    return lambda request: next(left, Status(400, "the test has no answer left"))


def replay(chats: Sequence[Mapping[str, Any]], request: Mapping[str, Any]) -> Answer:
    """What was recorded: a request whose messages are the first of the recording is answered with the next one.

    A request that is not the recording's beginning, to the letter, is refused, naming the message that differs.
    """
    given = [plain(chat) for chat in request["messages"]]
    told = [(index, plain(chat)) for index, chat in enumerate(chats)]
    # An assistant that said nothing at all is not sent to a provider.
    told = [(index, chat) for index, chat in told if chat != {"role": "assistant"}]
    for place, chat in enumerate(given):
        if place >= len(told) or chat != told[place][1]:
            return Status(400, f"message {place} is {chat}, recorded is {told[place : place + 1]}")
    index = told[len(given) - 1][0] + 1
    return dict(chats[index]) if index < len(chats) else Status(400, "the recording ends here")


def speaking(script: Callable[[ModelRequest], str | Message]) -> Callable[[dict[str, Any]], Answer]:
    """What a script says that is written for a ScriptedModel: it sees the request as it came over the wire."""

    def answer(request: dict[str, Any]) -> Answer:
        chats = list(request["messages"])
        instructions = chats.pop(0)["content"] if chats and chats[0]["role"] == "system" else None
        said = script(ModelRequest(instructions, messages_from_openai(chats), ()))
        return to_openai(Message.assistant(said) if isinstance(said, str) else said)

    return answer


def plain(chat: Mapping[str, Any]) -> dict[str, Any]:
    """What of a chat message reaches a provider: no names of tools in results, nothing that is null.

    An assistant's empty content is as good as none, and arguments are compared as the JSON that they mean. Ids of
    calls are left out, since one that repeats in a conversation is sent as another.
    """
    kept = {key: value for key, value in chat.items() if value is not None and key not in ("name", "tool_call_id")}
    if kept["role"] == "assistant" and not kept.get("content"):
        kept.pop("content", None)
    if "tool_calls" in kept:
        called = [call["function"] for call in kept["tool_calls"]]
        kept["tool_calls"] = [(each["name"], json.loads(each["arguments"] or "{}")) for each in called]
    return kept


def _pieces(text: str) -> Iterator[str]:
    size = max(7, len(text) // 10)
    for start in range(0, len(text), size):
        yield text[start : start + size]


def chat_events(message: Mapping[str, Any], model: str, usage: bool) -> list[dict[str, Any]]:
    """The chunks of a streamed chat completion."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return _head(model, "chat.completion.chunk") | {
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]
        }

    events = [chunk({"role": "assistant", "content": ""})]
    for piece in _pieces(message.get("reasoning_content") or ""):
        events.append(chunk({"reasoning_content": piece}))
    for piece in _pieces(message.get("content") or ""):
        events.append(chunk({"content": piece}))
    calls = message.get("tool_calls") or []
    for index, call in enumerate(calls):
        named = {"index": index, "id": call["id"], "type": "function"}
        events.append(
            chunk({"tool_calls": [{**named, "function": {"name": call["function"]["name"], "arguments": ""}}]})
        )
        for piece in _pieces(call["function"]["arguments"]):
            events.append(chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
    events.append(chunk({}, "tool_calls" if calls else "stop"))
    if usage:
        events.append(_head(model, "chat.completion.chunk") | {"choices": [], "usage": USAGE})
    return events


def _head(model: str, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": f"{model}-2026"}


def response_events(output: Sequence[Mapping[str, Any]], model: str) -> list[dict[str, Any]]:
    """The events of a streamed response: reasoning, messages and function calls, item by item."""
    base = {"id": "resp_1", "object": "response", "created_at": 1_700_000_000, "model": f"{model}-2026"}
    base |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": base | {"status": "in_progress", "output": []}}
    ]
    for index, item in enumerate(output):
        place = {"output_index": index, "item_id": item["id"]}
        started = {**item, "status": "in_progress"} | ({"content": []} if item["type"] == "message" else {})
        started |= {"summary": []} if item["type"] == "reasoning" else {}
        started |= {"arguments": ""} if item["type"] == "function_call" else {}
        events.append({"type": "response.output_item.added", "output_index": index, "item": started})
        if item["type"] == "message":
            part = {"type": "output_text", "text": "", "annotations": []}
            events.append({"type": "response.content_part.added", **place, "content_index": 0, "part": part})
            for piece in _pieces(item["content"][0]["text"]):
                events.append(
                    {"type": "response.output_text.delta", **place, "content_index": 0, "delta": piece, "logprobs": []}
                )
        elif item["type"] == "reasoning":
            for number, summary in enumerate(item["summary"]):
                spot = {**place, "summary_index": number}
                empty = {"type": "summary_text", "text": ""}
                events.append({"type": "response.reasoning_summary_part.added", **spot, "part": empty})
                for piece in _pieces(summary["text"]):
                    events.append({"type": "response.reasoning_summary_text.delta", **spot, "delta": piece})
        else:
            for piece in _pieces(item["arguments"]):
                events.append({"type": "response.function_call_arguments.delta", **place, "delta": piece})
        events.append(
            {"type": "response.output_item.done", "output_index": index, "item": {**item, "status": "completed"}}
        )
    usage = {
        "input_tokens": 11,
        "output_tokens": 7,
        "total_tokens": 18,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 3},
    }
    whole = base | {"status": "completed", "output": list(output), "usage": usage}
    events.append({"type": "response.completed", "response": whole})
    return [event | {"sequence_number": number} for number, event in enumerate(events)]


def _handler(server: OpenAIServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.requests.append(request)
            server.headers.append(dict(self.headers))
            given = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if given != KEY:
                # As some servers do, which is why errors must be washed.
                self._refuse(Status(401, f"Incorrect API key provided: {given}", error_code="invalid_api_key"))
                return
            answer = server.answer(request)
            if isinstance(answer, Status):
                self._refuse(answer)
                return
            message = answer.message if isinstance(answer, Cut) else answer
            if self.path.endswith("/responses"):
                events = response_events(message["output"], request["model"])
                lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
            else:
                usage = bool((request.get("stream_options") or {}).get("include_usage"))
                lines = [f"data: {json.dumps(event)}\n\n" for event in chat_events(message, request["model"], usage)]
                lines.append("data: [DONE]\n\n")
            if request.get("stream"):
                self._stream(lines, answer if isinstance(answer, Cut) else None)
            else:
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                whole = _head(request["model"], "chat.completion") | {"choices": [choice], "usage": USAGE}
                self._whole(200, whole, {})

        def _refuse(self, status: Status) -> None:
            error = {"message": status.message, "type": "error", "param": None, "code": status.error_code}
            # The client library waits before it tries again, in tests for next to no time.
            self._whole(status.code, {"error": error}, {"retry-after-ms": "1", **status.headers})

        def _whole(self, code: int, value: object, headers: Mapping[str, str]) -> None:
            body = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            for name, text in headers.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        def _stream(self, lines: Sequence[str], cut: Cut | None) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for number, line in enumerate(lines):
                    if cut is not None and number == cut.events:
                        break
                    if number and not server.hold.is_set():
                        server.held.set()
                        server.hold.wait(60)
                    data = line.encode()
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                    self.wfile.flush()
                if cut is None or cut.clean:
                    self.wfile.write(b"0\r\n\r\n")
                else:
                    self.close_connection = True
            except ConnectionError:
                # The client has gone, which is its good right.
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
