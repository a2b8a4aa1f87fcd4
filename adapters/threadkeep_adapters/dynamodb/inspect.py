"""A look into a table without an event loop: whether there is a store, and everything that the table holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from botocore.exceptions import ClientError

from threadkeep_adapters.dynamodb.connections import Client
from threadkeep_adapters.dynamodb.errors import code_of
from threadkeep_adapters.dynamodb.schema import read_version
from threadkeep_adapters.dynamodb.url import Place


def exists(place: Place) -> bool:
    """Whether there is a store. Raises what botocore raises."""
    with closing(Client(place)) as client:
        try:
            return read_version(client) is not None
        except ClientError as error:
            if code_of(error) in ("ResourceNotFoundException", "ValidationException"):
                return False
            raise


def scan(place: Place) -> Iterator[bytes]:
    """Every item of the table, each as its attributes' values."""
    given: dict[str, Any] = {"ConsistentRead": True}
    with closing(Client(place)) as client:
        while True:
            page = client.read(client.deadline(), "scan", **given)
            for item in page["Items"]:
                values = [next(iter(value.values())) for value in item.values()]
                yield b"\n".join(value if isinstance(value, bytes) else str(value).encode() for value in values)
            if "LastEvaluatedKey" not in page:
                return
            given["ExclusiveStartKey"] = page["LastEvaluatedKey"]
