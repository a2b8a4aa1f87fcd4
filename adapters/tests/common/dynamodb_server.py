"""DynamoDB Local, AWS's own stand-in for tests, as a kind of server."""

from __future__ import annotations

import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, quote, urlsplit

import boto3
from servers import Kind, built

VERSION: Final = "2.6.1"
"""As servers_built/dynamodb-local/pom.xml has it."""

REGION: Final = "eu-central-1"
TABLE: Final = "threadkeep"

# DynamoDB Local takes any credentials, and keeps a database for each.
os.environ.setdefault("AWS_ACCESS_KEY_ID", "threadkeep")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "threadkeep")


def client(url: str) -> Any:
    """A client of boto3 for the server of a store's URL, to look behind the store's back. As Any, for brevity."""
    (endpoint,) = parse_qs(urlsplit(url).query)["endpoint"]
    return closing(boto3.client("dynamodb", region_name=urlsplit(url).netloc, endpoint_url=endpoint))


FLAGS: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""A server that lives for minutes spends more on its best compiler, and on threads of it, than it gains."""


class DynamoDB(Kind):
    """A server that keeps its data in a file, as SQLite does."""

    name = "dynamodb"
    variable = "THREADKEEP_TEST_DYNAMODB_URL"
    image = f"amazon/dynamodb-local:{VERSION}"
    image_port = 8000
    image_command: ClassVar[Sequence[str]] = (*FLAGS, "-jar", "DynamoDBLocal.jar", "-dbPath", ".", "-disableTelemetry")
    package = "default-jre-headless"
    # A server that stands in for the real one and is many times slower: a default profile takes as long as all others'.
    profile = "quick"
    slow = True

    def find(self) -> Path | None:
        jars = built("dynamodb-local")
        return jars if shutil.which("java") and (jars / f"DynamoDBLocal-{VERSION}.jar").exists() else None

    def command(self, program: Path, folder: Path, port: int) -> Sequence[str]:
        return [
            "java",
            *FLAGS,
            f"-Djava.library.path={program}",
            "-cp",
            f"{program}/*",
            "com.amazonaws.services.dynamodbv2.local.main.ServerRunner",
            *("-port", str(port), *self.data(folder), "-disableTelemetry"),
        ]

    def data(self, folder: Path) -> Sequence[str]:
        """The options that say where the data is."""
        return "-dbPath", str(folder)

    def url(self, host: str, port: int) -> str:
        return f"dynamodb://{REGION}/{TABLE}?endpoint={quote(f'http://{host}:{port}', safe='')}"

    def answers(self, host: str, port: int) -> bool:
        try:
            urllib.request.urlopen(f"http://{host}:{port}", timeout=5).close()
        except urllib.error.HTTPError as refused:
            # Without a request it knows, a server that works says 400.
            refused.close()
            return refused.code == 400
        except OSError:
            return False
        return True


class InMemory(DynamoDB):
    """A server that forgets when it ends, for tests that let it live: it does not wait for a disk at each commit."""

    image_command: ClassVar[Sequence[str]] = (*FLAGS, "-jar", "DynamoDBLocal.jar", "-inMemory", "-disableTelemetry")

    def data(self, folder: Path) -> Sequence[str]:
        return ("-inMemory",)


DYNAMODB: Final = InMemory()
DURABLE: Final = DynamoDB()
