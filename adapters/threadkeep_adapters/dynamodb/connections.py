"""Requests to DynamoDB, in the thread that asks: counted, repeated where that is safe, within a time limit."""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NoReturn, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from threadkeep.errors import StoreUnavailable
from threadkeep.port import Meter
from threadkeep_adapters.dynamodb.errors import (
    BUSY,
    LOST,
    NOT_SENT,
    THROTTLED,
    UNCLEAR,
    Cancelled,
    GarbledError,
    LostError,
    code_of,
)
from threadkeep_adapters.dynamodb.layout import Item
from threadkeep_adapters.dynamodb.url import Place
from threadkeep_adapters.retry import RetryPolicy

T = TypeVar("T")

FAILING: Final = RetryPolicy(first=0.01, largest=0.5, jitter=1.0)
"""Between tries of a request that the server refuses for now, or does not answer, as long as a verb has time."""

FIRST_WAIT: Final = 0.02
LONGEST_WAIT: Final = 1.0
"""Seconds for which others are let go first, at most; each wait is drawn by chance, and may be twice the one before."""

CONNECTS: Final = 4
"""How often a connection is tried for one request."""

READ_KEYS: Final = 100
"""Keys in one BatchGetItem, or in one transaction, at most.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html
"""

_HOLDS: Final = {
    "batch_get_item": "Responses",
    "describe_table": "Table",
    "query": "Items",
    "scan": "Items",
    "transact_get_items": "Responses",
}
"""What an answer to an operation always holds."""

_sessions: dict[tuple[int, str | None], boto3.session.Session] = {}
_sessions_lock = threading.Lock()


def session_of(profile: str | None = None) -> boto3.session.Session:
    """The session of boto3 from which all stores of this process with a profile have their clients.

    They share it, since each session reads the description of the service anew. Handlers of boto3's events that are
    registered here see the requests of the stores that are opened afterwards.
    """
    shared = (os.getpid(), profile)
    session = _sessions.get(shared)
    if session is None:
        session = _sessions[shared] = boto3.session.Session(profile_name=profile)
    return session


def _connect(place: Place) -> Any:
    with _sessions_lock:
        return session_of(place.profile).client(
            "dynamodb",
            region_name=place.region,
            endpoint_url=place.endpoint,
            config=Config(
                connect_timeout=place.connect_timeout,
                read_timeout=place.timeout,
                max_pool_connections=place.connections,
                # botocore's own retries do not say whether an earlier try was sent.
                retries={"total_max_attempts": 1},
                tcp_keepalive=True,
            ),
        )


class Deadline:
    """The time that a verb has, and the pauses in it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._retries = FAILING.begin(seconds)
        self._wait = FIRST_WAIT

    def retry(self, why: str) -> None:
        """Pause before a failing server is tried again. Raises StoreUnavailable where the time is over."""
        if not self._retries.sleep():
            self._give_up(why)

    def give_way(self, why: str) -> None:
        """Let others go first before it is looked again. Raises StoreUnavailable where the time is over."""
        wait = random.uniform(0, self._wait)
        self._wait = min(2 * self._wait, LONGEST_WAIT)
        if time.monotonic() + wait > self._end:
            self._give_up(why)
        time.sleep(wait)

    def check(self, why: str) -> None:
        """Raise StoreUnavailable where the time is over."""
        if time.monotonic() > self._end:
            self._give_up(why)

    def _give_up(self, why: str) -> NoReturn:
        raise StoreUnavailable(f"gave up after {self._seconds:g} s: {why}")


class Client:
    """The requests that the store makes. Every method blocks, may be called by several threads, and counts."""

    def __init__(self, place: Place, meter: Meter | None = None) -> None:
        self.place = place
        self._meter = meter or Meter()
        self._client: Any = None
        self._lock = threading.Lock()

    def deadline(self) -> Deadline:
        """The time of a verb that begins now."""
        return Deadline(self.place.timeout)

    def close(self) -> None:
        """Let go of the connections. Safe to repeat."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def call(self, operation: str, **given: Any) -> Any:
        """One request to the table, once. Raises what botocore raises."""
        return self._raw(operation, TableName=self.place.table, **given)

    def read(self, deadline: Deadline, operation: str, **given: Any) -> Any:
        """The answer to a request that may be sent again, such as one that only reads.

        Raises StoreUnavailable where there is none in time.
        """
        return self._insist(deadline, lambda: self.call(operation, **given))

    def _raw(self, operation: str, **given: Any) -> Any:
        """As `call`, for operations that name the table inside."""
        with self._lock:
            if self._client is None:
                self._client = _connect(self.place)
            client = self._client
            self._meter.trips += 1
        try:
            answer = getattr(client, operation)(**given)
        except ClientError as error:
            # Where an answer cannot be read, botocore gives the number of its status as the code.
            if code_of(error).isdigit():
                raise GarbledError(str(error)[:200]) from error
            raise
        held = _HOLDS.get(operation, "ResponseMetadata")
        if held not in answer:
            raise GarbledError(f"the answer to {operation} holds no {held}")
        return answer

    def _insist(self, deadline: Deadline, ask: Callable[[], T]) -> T:
        connects = 0
        while True:
            try:
                return ask()
            except NOT_SENT as error:
                connects += 1
                if connects == CONNECTS:
                    raise
                deadline.retry(f"the server cannot be reached: {error}")
            except LOST as error:
                deadline.retry(f"no answer: {error}")
            except ClientError as error:
                code = code_of(error)
                if code == "TransactionCanceledException":
                    codes = {reason.get("Code") for reason in error.response.get("CancellationReasons", ())}
                    if not codes & (BUSY | THROTTLED):
                        raise
                elif code not in THROTTLED | BUSY | UNCLEAR:
                    raise
                deadline.retry(str(error))

    def query(
        self,
        deadline: Deadline,
        pk: bytes,
        first: bytes,
        last: bytes,
        *,
        forward: bool = True,
        limit: int | None = None,
        names: str | None = None,
    ) -> Iterator[list[Item]]:
        """The items of a partition from one sort key to another, both taken in, a page at a time; all pages."""
        given: dict[str, Any] = {
            "ConsistentRead": True,
            "KeyConditionExpression": "pk = :pk AND sk BETWEEN :first AND :last",
            "ExpressionAttributeValues": {":pk": {"B": pk}, ":first": {"B": first}, ":last": {"B": last}},
            "ScanIndexForward": forward,
        }
        if limit is not None:
            given["Limit"] = limit
        if names is not None:
            given["ProjectionExpression"] = names
        if first > last:
            return
        while True:
            page = self.read(deadline, "query", **given)
            yield page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            given["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def get_at_once(self, deadline: Deadline, keys: Sequence[Item]) -> list[Item | None]:
        """Up to 100 items as they are at one instant, None for those that are missing."""
        gets = [{"Get": {"TableName": self.place.table, "Key": one}} for one in keys]
        answer = self._insist(deadline, lambda: self._raw("transact_get_items", TransactItems=gets))
        return [found.get("Item") for found in answer["Responses"]]

    def get_each(self, deadline: Deadline, keys: Sequence[Item], names: str | None = None) -> list[Item]:
        """The items of any number of keys that are there, in any order, each as it is at some moment."""
        found: list[Item] = []
        options: dict[str, Any] = {"ConsistentRead": True}
        if names is not None:
            options["ProjectionExpression"] = names
        for start in range(0, len(keys), READ_KEYS):
            left: list[Item] = list(keys[start : start + READ_KEYS])
            while left:
                asked = {self.place.table: {"Keys": left, **options}}
                answer = self._insist(deadline, lambda: self._raw("batch_get_item", RequestItems=asked))  # noqa: B023 - called at once
                page = answer["Responses"].get(self.place.table, [])
                found += page
                left = answer["UnprocessedKeys"].get(self.place.table, {}).get("Keys", [])
                if left and not page:
                    deadline.retry("the table's throughput is exceeded")
        return found

    def transact(self, deadline: Deadline, actions: Sequence[dict[str, Any]]) -> None:
        """Do all of up to 100 actions, or none.

        Raises Cancelled where conditions do not hold, StoreUnavailable where it was not done in time, and LostError
        where nobody knows. A try whose answer was lost is repeated with its token, which the server does once only.
        """
        token = str(uuid.uuid4())
        named = [{kind: {"TableName": self.place.table, **what} for kind, what in action.items()} for action in actions]
        lost: Exception | None = None
        connects = 0
        try:
            while True:
                try:
                    self._raw("transact_write_items", TransactItems=named, ClientRequestToken=token)
                    return
                except NOT_SENT as error:
                    why = str(error)
                    connects += 1
                    if connects == CONNECTS:
                        if lost is not None:
                            raise LostError(str(lost)) from lost
                        raise
                except LOST as error:
                    why, lost = str(error), error
                except ClientError as error:
                    why = str(error)
                    code = code_of(error)
                    if code in UNCLEAR:
                        lost = error
                    elif code == "TransactionCanceledException":
                        reasons = error.response.get("CancellationReasons", ())
                        codes = [reason.get("Code") for reason in reasons]
                        if "ConditionalCheckFailed" in codes:
                            failed = [code == "ConditionalCheckFailed" for code in codes]
                            old: list[Any] = [reason.get("Item") for reason in reasons]
                            raise Cancelled(failed, old) from lost
                        if not set(codes) & (BUSY | THROTTLED):
                            raise
                    elif code not in THROTTLED | BUSY:
                        if lost is not None:
                            raise LostError(str(lost)) from lost
                        raise
                try:
                    deadline.retry(why)
                except StoreUnavailable as over:
                    if lost is not None:
                        raise LostError(f"{over}, after an answer was lost") from lost
                    raise
        finally:
            # An error knows this frame, and what it was the answer to, down to the connection.
            lost = None
