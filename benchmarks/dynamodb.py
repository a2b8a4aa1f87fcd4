"""What threadkeep on DynamoDB asks for and pays: requests and capacity units, beside a table kept by hand.

    python benchmarks/dynamodb.py dynamodb://REGION/TABLE?endpoint=... [--messages FILE] [--lengths 20,200,2000]
                                  [--rounds 6]

What reads consume, the service says (ReturnConsumedCapacity). What transactions write is reckoned here by AWS's rule,
since DynamoDB Local says something else: two units for each KB, begun, of each item. Items that are removed or updated
are taken for smaller than 1 KB, as all are but packs of messages and large documents. Times are not measured: a server
for tests says nothing of AWS's.

"By hand" is what someone would write who needs no more: an item for each message, put in one transaction on the
condition that none is there, and one query for the newest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from chats import chat_messages
from timing import table

from threadkeep.port import Changes, Guard, Put, Record, Resource, Thread, Window, open_store
from threadkeep_adapters.dynamodb.connections import Client, session_of
from threadkeep_adapters.dynamodb.url import read_url

LAST: Final = 20
USER: Final = "threadkeep-bench"

_READS: Final = frozenset({"BatchGetItem", "GetItem", "Query", "Scan", "TransactGetItems"})


@dataclass(slots=True)
class Bill:
    """Requests, and the units that they consumed."""

    requests: int = 0
    read: float = 0
    written: float = 0

    def register(self) -> None:
        """Count what all stores of this process ask for from now on."""
        events = session_of().events
        for operation in _READS:
            events.register(f"provide-client-params.dynamodb.{operation}", _ask)
        events.register("provide-client-params.dynamodb.TransactWriteItems", self._write)
        events.register("after-call.dynamodb", self._answered)

    def _answered(self, parsed: dict[str, Any], **_: Any) -> None:
        self.requests += 1
        consumed = parsed.get("ConsumedCapacity", [])
        self.read += sum(one["CapacityUnits"] for one in (consumed if isinstance(consumed, list) else [consumed]))

    def _write(self, params: dict[str, Any], **_: Any) -> None:
        for action in params["TransactItems"]:
            put = action.get("Put", {}).get("Item", {})
            self.written += 2 * max(1, -(-_size(put) // 1024))


def _ask(params: dict[str, Any], **_: Any) -> None:
    params["ReturnConsumedCapacity"] = "TOTAL"


def _size(item: dict[str, dict[str, Any]]) -> int:
    """Bytes of an item: names and values, a number by its digits.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    size = 0
    for name, value in item.items():
        ((kind, content),) = value.items()
        data = content if isinstance(content, bytes) else content.encode()
        size += len(name.encode()) + (len(data) // 2 + 2 if kind == "N" else len(data))
    return size


class Hand:
    """A table kept by hand: messages by position, without ids, digests, lists or documents."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def append(self, name: str, first: int, bodies: Sequence[str]) -> None:
        self._client.transact(
            self._client.deadline(),
            [
                {
                    "Put": {
                        "Item": {**_key(name, first + number), "b": {"B": body.encode()}},
                        "ConditionExpression": "attribute_not_exists(pk)",
                    }
                }
                for number, body in enumerate(bodies)
            ],
        )

    def last(self, name: str) -> None:
        pk = _key(name, 0)["pk"]["B"]
        next(self._client.query(self._client.deadline(), pk, b"\0", b"\xff" * 8, forward=False, limit=LAST))

    def remove(self, name: str) -> None:
        pk = _key(name, 0)["pk"]["B"]
        for page in self._client.query(self._client.deadline(), pk, b"\0", b"\xff" * 8, names="pk, sk"):
            for item in page:
                self._client.call("delete_item", Key=item)


def _key(name: str, position: int) -> dict[str, dict[str, bytes]]:
    return {"pk": {"B": f"by hand {name}".encode()}, "sk": {"B": (position + 1).to_bytes(8, "big")}}


class Turns:
    """Messages as they are stored: about 450 bytes as JSON."""

    def __init__(self, path: Path | None) -> None:
        self._chats = chat_messages(path)

    def records(self, count: int) -> tuple[Record, ...]:
        bodies = [json.dumps({**next(self._chats), "id": uuid.uuid4().hex}) for _ in range(count)]
        return tuple(Record(uuid.uuid4().hex, uuid.uuid4().hex * 2, body) for body in bodies)


async def run(url: str, path: Path | None, lengths: Sequence[int], rounds: int) -> None:
    turns, bill = Turns(path), Bill()
    bill.register()
    store = open_store(url)
    rows: list[list[str]] = []

    async def cost(what: str, work: Callable[[], Awaitable[object]], times: int = 1) -> None:
        before = Bill(bill.requests, bill.read, bill.written)
        for _ in range(times):
            await work()
        counted = (bill.requests - before.requests, bill.read - before.read, bill.written - before.written)
        rows.append([what, *(f"{one / times:,.1f}".removesuffix(".0") for one in counted)])

    def adding(count: int, puts: tuple[Put, ...] = ()) -> Changes:
        return Changes(next(times), "e", turns.records(count), puts)

    def commit(thread: Thread, changes: Changes) -> Callable[[], Awaitable[object]]:
        return lambda: store.commit(thread, changes)

    times = iter(range(1, 1_000_000))
    client = Client(read_url(url))
    try:
        await store.open()
        with closing(client):
            hand = Hand(client)
            for length in lengths:
                for first in range(0, length, LAST):
                    hand.append(str(length), first, [record.body for record in turns.records(LAST)])
                records = [record.body for record in turns.records(2)]
                await cost(f"by hand: load {LAST} of {length:,}", _in_thread(hand.last, str(length)))
                await cost(f"by hand: append 2 to {length:,}", _in_thread(hand.append, str(length), length, records))
                hand.remove(str(length))
        await _store(store, cost, commit, adding, lengths, rounds)
    finally:
        await store.delete(Resource(USER))
        await store.close()
    print(f"boto3 {version('boto3')}, {read_url(url).endpoint or 'AWS'}")
    print(table("Each, as the service counts it", ["what", "requests", "read units", "write units"], rows))


def _in_thread(work: Callable[..., object], *given: object) -> Callable[[], Awaitable[object]]:
    return lambda: asyncio.to_thread(work, *given)


async def _store(
    store: Guard,
    cost: Callable[..., Awaitable[None]],
    commit: Callable[[Thread, Changes], Callable[[], Awaitable[object]]],
    adding: Callable[..., Changes],
    lengths: Sequence[int],
    rounds: int,
) -> None:
    first = Thread(USER, "first")
    await cost("first commit of a resource, 2 messages", commit(first, adding(2)))
    await cost("first commit of a thread, 2 messages", commit(Thread(USER, "second"), adding(2)))
    small, large = Put("memory", '"' + "x" * 500 + '"'), Put("memory", '"' + "x" * 8000 + '"')
    for length in lengths:
        thread = Thread(USER, f"t{length}")
        for done in range(0, length, LAST):
            await store.commit(thread, adding(min(LAST, length - done)))
        await cost(f"load {LAST} of {length:,}", lambda thread=thread: store.load(thread, Window(before=LAST)))
        await cost(f"append 2 to {length:,}", lambda thread=thread: store.commit(thread, adding(2)), times=rounds)
    thread = Thread(USER, f"t{lengths[-1]}")
    await cost("load of 3", lambda: store.load(thread, Window(before=3)))
    await cost("append 2, small working memory", lambda: store.commit(thread, adding(2, (small,))), times=rounds)
    await cost("append 2, working memory of 8 kB", lambda: store.commit(thread, adding(2, (large,))), times=rounds)
    await cost(f"load {LAST}, working memory of 8 kB", lambda: store.load(thread, Window(before=LAST)))
    found = await store.load(thread, Window(before=1))
    known = Changes(1_000_000, "e", tuple(record_of(one) for one in found.records))
    await cost("append 1 that is there", commit(thread, known))
    await cost("append 100", lambda: store.commit(thread, adding(100)))
    found = await store.load(thread, Window(before=1))
    await cost("drop the newest 50", commit(thread, Changes(1_000_001, "e", drop_after=found.tail.position - 50)))
    await cost("list of 3 threads", lambda: store.threads(Resource(USER), limit=3))
    await cost("delete a thread of 2", lambda: store.delete(first))
    await cost(f"delete a thread of {found.tail.position - 50:,}", lambda: store.delete(thread))
    await cost("erase a resource with the rest", lambda: store.delete(Resource(USER)))


def record_of(stored: Any) -> Record:
    return Record(stored.id, stored.digest, stored.body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="dynamodb://REGION/TABLE, with what options it needs")
    parser.add_argument("--messages", type=Path)
    parser.add_argument("--lengths", default="20,200,2000")
    parser.add_argument("--rounds", type=int, default=6, help="appends of a kind, of which the mean is given")
    given = parser.parse_args()
    asyncio.run(run(given.url, given.messages, [int(length) for length in given.lengths.split(",")], given.rounds))


if __name__ == "__main__":
    main()
