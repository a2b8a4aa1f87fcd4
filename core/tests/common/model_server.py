"""A server on the loopback that stands where a provider's does, over real HTTP; what it speaks is a `Protocol`'s.

What it says is the test's to decide: a function from the request's JSON to an answer.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol, TypeAlias

KEY = "sk-test-0123456789abcdef"
"""The key that the server takes."""


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


class Wire(Protocol):
    """How a provider speaks."""

    root: str
    """What of its base URL follows the host."""

    def key(self, headers: Message[str, str]) -> str:
        """The key that a request brings."""
        ...

    def error(self, status: Status) -> dict[str, Any]:
        """The body of an error."""
        ...

    def events(self, path: str, request: Mapping[str, Any], answer: Mapping[str, Any]) -> list[str]:
        """The lines of a streamed answer, an event each."""
        ...

    def whole(self, request: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        ...


class ModelServer:
    """The server: `url` is its base URL, `requests` the JSON of every request, in order."""

    def __init__(self, wire: Wire, answer: Callable[[dict[str, Any]], Answer]) -> None:
        self.wire = wire
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
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}{wire.root}"

    def start(self) -> None:
        """Serve, in a thread."""
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """End."""
        self.hold.set()
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def serving_with(wire: Wire, answer: Callable[[dict[str, Any]], Answer]) -> Iterator[ModelServer]:
    """A running server that speaks so and answers so."""
    server = ModelServer(wire, answer)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def saying(*answers: Answer) -> Callable[[dict[str, Any]], Answer]:
    """These answers, one after another; whoever asks more often gets an error that says so."""
    left = iter(answers)
    return lambda request: next(left, Status(400, "the test has no answer left"))


def pieces(text: str) -> Iterator[str]:
    """A text as it is streamed."""
    size = max(7, len(text) // 10)
    for start in range(0, len(text), size):
        yield text[start : start + size]


def _handler(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    wire = server.wire

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.requests.append(request)
            server.headers.append(dict(self.headers))
            given = wire.key(self.headers)
            if given != KEY:
                # As some servers do, which is why errors must be washed.
                self._refuse(Status(401, f"Incorrect API key provided: {given}", error_code="invalid_api_key"))
                return
            answer = server.answer(request)
            if isinstance(answer, Status):
                self._refuse(answer)
                return
            message = answer.message if isinstance(answer, Cut) else answer
            if request.get("stream"):
                self._stream(wire.events(self.path, request, message), answer if isinstance(answer, Cut) else None)
            else:
                self._whole(200, wire.whole(request, message), {})

        def _refuse(self, status: Status) -> None:
            # The client library waits before it tries again, in tests for next to no time.
            self._whole(status.code, wire.error(status), {"retry-after-ms": "1", **status.headers})

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
