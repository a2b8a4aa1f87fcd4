"""The table: made where it is missing, known again by its schema item, and never taken from another program."""

from __future__ import annotations

import time
from typing import Any, Final

from botocore.exceptions import ClientError

from threadkeep.errors import StoreDamaged, StoreNotWritable, StoreUnavailable
from threadkeep.port import check_schema_version
from threadkeep_adapters.dynamodb.connections import Client
from threadkeep_adapters.dynamodb.errors import code_of
from threadkeep_adapters.dynamodb.layout import SCHEMA, SCHEMA_KEY

KEYS: Final = {"pk": "HASH", "sk": "RANGE"}

MAKING_SECONDS: Final = 120.0
"""How long opening waits for a table that is being made."""

POLL_SECONDS: Final = 0.2


def prepare(client: Client) -> None:
    """Make the table and its schema item where there are none. Raises as `Store.open`."""
    deadline = client.deadline()
    try:
        version = read_version(client)
    except ClientError as error:
        if code_of(error) == "ResourceNotFoundException":
            _make(client)
        elif code_of(error) == "ValidationException":
            _check_keys(_describe(client), client.place.table)
            raise
        else:
            raise
        version = read_version(client)
    if version is None:
        if client.read(deadline, "scan", ConsistentRead=True, Limit=1)["Items"] and read_version(client) is None:
            raise StoreDamaged(
                f"the table {client.place.table} holds items of another program; name another table in the URL"
            )
        try:
            # Sent again after a lost answer, it finds its own item, which is read then.
            client.read(
                deadline,
                "put_item",
                Item={**SCHEMA_KEY, "v": {"N": str(SCHEMA)}},
                ConditionExpression="attribute_not_exists(pk)",
            )
            return
        except ClientError as error:
            if code_of(error) != "ConditionalCheckFailedException":
                raise
        version = read_version(client)
    if version is not None:
        check_schema_version(version, SCHEMA)


def read_version(client: Client) -> int | None:
    """The version that the schema item names; None where there is no such item."""
    item = client.read(client.deadline(), "get_item", Key=SCHEMA_KEY, ConsistentRead=True).get("Item")
    if item is None:
        return None
    try:
        version = int(item["v"]["N"])
    except (KeyError, ValueError):
        version = -1
    if version < 0:
        raise StoreDamaged(
            f"the schema item of the table {client.place.table} is none that this library wrote: {item}; name another "
            "table in the URL"
        )
    return version


def _describe(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.read(client.deadline(), "describe_table")["Table"]
    return found


def _check_keys(table: dict[str, Any], name: str) -> None:
    types = {one["AttributeName"]: one["AttributeType"] for one in table["AttributeDefinitions"]}
    keys = {one["AttributeName"]: one["KeyType"] for one in table["KeySchema"]}
    if keys != KEYS or any(types[key] != "B" for key in keys):
        raise StoreDamaged(
            f"the table {name} belongs to another program: its keys are {keys} of types {types}, and not binary pk and "
            "sk; name another table in the URL"
        )


def _make(client: Client) -> None:
    """Make the table, or wait for whoever is making it, until it takes requests."""
    place = client.place
    if not place.create:
        raise StoreNotWritable(
            f"there is no table {place.table} in {place.region}, and the URL says create=no; make it as the store's "
            "page says"
        )
    try:
        # Sent again after a lost answer, it finds its own table in the making.
        client.read(
            client.deadline(),
            "create_table",
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in KEYS.items()],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "B"} for name in KEYS],
            BillingMode="PAY_PER_REQUEST",
        )
    except ClientError as error:
        if code_of(error) != "ResourceInUseException":
            raise
    end = time.monotonic() + MAKING_SECONDS
    while True:
        try:
            table = _describe(client)
            if table["TableStatus"] in ("ACTIVE", "UPDATING"):
                _check_keys(table, place.table)
                return
        except ClientError as error:
            # What was just made may not be known everywhere yet.
            if code_of(error) != "ResourceNotFoundException":
                raise
        if time.monotonic() > end:
            raise StoreUnavailable(f"the table {place.table} was not active after {MAKING_SECONDS:g} s")
        time.sleep(POLL_SECONDS)
