"""Whether DynamoDB Local keeps what it acknowledged when it is killed, asked with bare boto3 and without threadkeep.

    python adapters/tests/common/dynamodb_durability.py [KILLS]

Four clients write transactions, of a head that says their number and of three items, to a server with `-dbPath`, until
it is killed with SIGKILL. After each restart every client's head and items are read, strongly consistent. Exit status 1
where an acknowledged transaction is missing, 2 where one is there in part.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import boto3
import servers
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from dynamodb_server import DURABLE, REGION
from servers import Server

TABLE: Final = "bare"
ITEMS: Final = 3
"""Items of a transaction, beside the head."""
CLIENTS: Final = 4


def connect(server: Server) -> Any:
    """A client that repeats nothing."""
    (endpoint,) = parse_qs(urlsplit(server.url).query)["endpoint"]
    config = Config(retries={"total_max_attempts": 1}, read_timeout=20)
    return boto3.client("dynamodb", region_name=REGION, endpoint_url=endpoint, config=config)


def create(client: Any) -> None:
    client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "N"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )


def write(server: Server, name: str, acknowledged: dict[str, int]) -> None:
    """Write transactions under a name until the server is gone."""
    client = connect(server)
    number = 0
    while True:
        number += 1
        head = {"pk": {"S": name}, "sk": {"N": "0"}, "n": {"N": str(number)}}
        items = [
            {"pk": {"S": name}, "sk": {"N": str(ITEMS * number + part)}, "b": {"S": "x" * 3000}}
            for part in range(ITEMS)
        ]
        try:
            client.transact_write_items(
                TransactItems=[{"Put": {"TableName": TABLE, "Item": item}} for item in (head, *items)]
            )
        except (BotoCoreError, ClientError):
            return
        acknowledged[name] = number


def read(client: Any, name: str) -> tuple[int, list[int]]:
    """What the head says, and the sort keys of the items."""
    pages = client.get_paginator("query").paginate(
        TableName=TABLE,
        ConsistentRead=True,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": name}},
    )
    found = [item for page in pages for item in page["Items"]]
    head = [int(item["n"]["N"]) for item in found if item["sk"]["N"] == "0"]
    return (head[0] if head else 0), [int(item["sk"]["N"]) for item in found if item["sk"]["N"] != "0"]


def main(kills: int) -> int:
    """Kill so many times; the exit status."""
    server = servers.private(DURABLE)
    total = lost = torn = 0
    try:
        client = connect(server)
        create(client)
        for kill in range(kills):
            acknowledged = {f"{kill}-{number}": 0 for number in range(CLIENTS)}
            threads = [threading.Thread(target=write, args=(server, name, acknowledged)) for name in acknowledged]
            for thread in threads:
                thread.start()
            time.sleep(random.uniform(1, 2.5))
            server.kill()
            for thread in threads:
                thread.join()
            server.start()
            for name, count in acknowledged.items():
                head, items = read(client, name)
                total += count
                if head < count:
                    lost += 1
                    print(f"client {name}: {count} acknowledged, {head} there")
                if items != list(range(ITEMS, ITEMS * (head + 1))):
                    torn += 1
                    print(f"client {name}: the head says {head}, the items are {items}")
            print(f"kill {kill + 1}: {total} acknowledged so far; lost by {lost} clients, torn for {torn}", flush=True)
    finally:
        server.stop()
    return 2 if torn else 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
