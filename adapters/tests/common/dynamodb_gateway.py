"""An HTTP server before DynamoDB Local that answers some requests in its stead, as AWS would.

    with Gateway(server.host, server.port) as gateway:
        gateway.refuse("TransactWriteItems", THROTTLED, times=3)
        store = open_store(DYNAMODB.url("127.0.0.1", gateway.port))

DynamoDB Local never throttles, knows no permissions and answers whole batches; AWS does not do so on demand.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, TypeAlias


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is an error, in the form that AWS gives it.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
    """

    status: int
    body: dict[str, Any]
    after: bool = False
    """The server does first what was asked."""


_SERVICE: Final = "com.amazonaws.dynamodb.v20120810#"
_FRONT: Final = "com.amazon.coral.service#"


def _cancelled(code: str, message: str) -> Refusal:
    """How a transaction of two is refused whose first has met this."""
    return Refusal(
        400,
        {
            "__type": f"{_SERVICE}TransactionCanceledException",
            "Message": f"Transaction cancelled, please refer cancellation reasons for specific reasons [{code}, None]",
            "CancellationReasons": [{"Code": code, "Message": message}, {"Code": "None"}],
        },
    )


THROTTLED: Final = Refusal(
    400,
    {
        "__type": f"{_SERVICE}ProvisionedThroughputExceededException",
        "message": "The level of configured provisioned throughput for the table was exceeded.",
    },
)
TOO_FAST: Final = Refusal(400, {"__type": f"{_FRONT}ThrottlingException", "message": "Rate exceeded"})
CANCELLED_THROTTLED: Final = _cancelled(
    "ThrottlingError", "Throughput exceeds the current capacity of your table or index."
)
CANCELLED_CONFLICT: Final = _cancelled("TransactionConflict", "Transaction is ongoing for the item")
IN_PROGRESS: Final = Refusal(
    400,
    {"__type": f"{_SERVICE}TransactionInProgressException", "Message": "The transaction is still in progress."},
)
FAILED: Final = Refusal(500, {"__type": f"{_SERVICE}InternalServerError", "message": "Internal server error"})
FAILED_AFTER: Final = Refusal(FAILED.status, FAILED.body, after=True)
GARBLED_AFTER: Final = Refusal(200, {}, after=True)
"""An answer without what it ought to hold, as one that ended early."""
FORBIDDEN: Final = Refusal(
    400,
    {
        "__type": f"{_FRONT}AccessDeniedException",
        "Message": "User: arn:aws:iam::123456789012:user/app is not authorized to perform this action on resource: "
        "arn:aws:dynamodb:eu-central-1:123456789012:table/threadkeep",
    },
)
EXPIRED: Final = Refusal(
    400,
    {"__type": f"{_FRONT}ExpiredTokenException", "message": "The security token included in the request is expired"},
)

Judge: TypeAlias = Callable[[str, dict[str, Any]], "Refusal | None"]


class Gateway:
    """Forwards to one server what nobody says is to be refused."""

    def __init__(self, host: str, port: int) -> None:
        self.operations: list[str] = []
        """What was asked, in the order in which it came, refused or not."""
        self.halved = False
        """Whether a batch of reads is answered for its first half only, the rest as unprocessed."""
        self._server = (host, port)
        self._lock = threading.Lock()
        self.judge: Judge = lambda operation, body: None
        """How a request is refused, or None, given the operation and what was asked."""
        """What is asked, and what it is given, to how it is refused, or None."""
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                gateway._answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Gateway:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def refuse(self, operations: str, refusal: Refusal, times: int | None = None) -> None:
        """Answer so to some operations, named with spaces between, or "*" for all; the next `times`, or always."""
        left = times

        def judge(operation: str, body: dict[str, Any]) -> Refusal | None:
            nonlocal left
            if (operations != "*" and operation not in operations.split()) or left == 0:
                return None
            left = None if left is None else left - 1
            return refusal

        self.judge = judge

    def forward(self) -> None:
        """Refuse nothing any more."""
        self.judge = lambda operation, body: None

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        data = request.rfile.read(int(request.headers["Content-Length"]))
        operation = request.headers["X-Amz-Target"].partition(".")[2]
        with self._lock:
            self.operations.append(operation)
            refusal = self.judge(operation, json.loads(data))
        status, answer = 0, b""
        if refusal is None or refusal.after:
            status, answer = self._forward(request, operation, data)
        if refusal is not None:
            status, answer = refusal.status, json.dumps(refusal.body).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/x-amz-json-1.0")
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)

    def _forward(self, request: BaseHTTPRequestHandler, operation: str, data: bytes) -> tuple[int, bytes]:
        left: dict[str, Any] = {}
        if self.halved and operation == "BatchGetItem":
            body = json.loads(data)
            for table, asked in body["RequestItems"].items():
                keys = asked["Keys"]
                half = (len(keys) + 1) // 2
                if keys[half:]:
                    left[table] = {**asked, "Keys": keys[half:]}
                asked["Keys"] = keys[:half]
            data = json.dumps(body).encode()
        connection = http.client.HTTPConnection(*self._server, timeout=30)
        try:
            headers = {name: value for name, value in request.headers.items() if name.lower() != "content-length"}
            connection.request("POST", request.path, data, headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if left and response.status == 200:
            answer = json.dumps({**json.loads(answer), "UnprocessedKeys": left}).encode()
        return response.status, answer
