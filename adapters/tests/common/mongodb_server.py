"""Servers that speak MongoDB's protocol, as kinds of servers for tests.

`mongod` wherever one is to be had. Two others, built by scripts/install_servers.sh, have opposite weaknesses: FerretDB
keeps what it acknowledged through a SIGKILL and scans for every query; mongo-java-server is fast and loses what it had
not yet written. So both are judged, and FerretDB alone judges durability.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from servers import Kind, built

SAMPLE: Final = 8
"""Collections of commits that are counted to tell whether all of them are worth to be emptied."""
TIDY: Final = 10
"""Documents in each of them, on average, that are worth it."""

SLOW: Final = "socketTimeoutMS=45000"
"""For the largest commits on FerretDB: 16 MiB take it 1.2 s of one core, and a look past them 0.3 s."""


LEFT_SOCKETS: Final = pytest.mark.filterwarnings(
    r"ignore:Exception ignored (in.|while finalizing socket) <socket\.socket:pytest.PytestUnraisableExceptionWarning"
)
"""PyMongo 4.20 leaves the socket to the garbage collector where a client is closed while its monitor connects."""


def client(url: str, **options: Any) -> MongoClient[dict[str, Any]]:
    """A client of the bare driver, to look behind a store's back."""
    given = {"serverSelectionTimeoutMS": 5000, "socketTimeoutMS": 10_000, "connectTimeoutMS": 2000, **options}
    return MongoClient(url, **given)


def with_options(url: str, options: str) -> str:
    """A URL with options added."""
    return f"{url}{'&' if '?' in url else '?'}{options}"


class _Mongo(Kind):
    database = "threadkeep"
    left_behind = (LEFT_SOCKETS,)

    def url(self, host: str, port: int) -> str:
        return f"mongodb://{host}:{port}/{self.database}"

    def answers(self, host: str, port: int) -> bool:
        try:
            with client(f"mongodb://{host}:{port}", serverSelectionTimeoutMS=1000) as asked:
                asked.admin.command("ping")
        except PyMongoError:
            return False
        return True


class _Scanning(_Mongo):
    """A server that looks at every document of a collection to answer a query."""

    # The default profile makes about 60,000 calls, and every one of them makes such a server scan.
    profile = "quick"
    slow = True
    buckets: ClassVar[int] = 64
    """Over how many collections a store spreads its commits, so that each is short."""

    def url(self, host: str, port: int) -> str:
        return with_options(super().url(host, port), f"buckets={self.buckets}")

    def tidy(self, url: str) -> None:
        with client(url.partition("?")[0]) as bare:
            database = bare[self.database]
            names = sorted(database.list_collection_names())
            for registry in (name for name in names if name.endswith(".resources")):
                prefix = registry.removesuffix(".resources")
                commits = [name for name in names if name.startswith(f"{prefix}.commits")]
                if not commits:
                    continue
                # What resources hold may be large. What is left of erased ones is small, and worth it when it is much.
                full = {commits[int(entry["k"][:8], 16) % len(commits)] for entry in database[registry].find()}
                if sum(database[name].estimated_document_count() for name in commits[:SAMPLE]) > SAMPLE * TIDY:
                    full = set(commits)
                for name in (*full, registry):
                    database[name].delete_many({})


class Mongod(_Mongo):
    """MongoDB itself, a single server."""

    name = "mongod"
    variable = "THREADKEEP_TEST_MONGODB_URL"
    image = "mongo:8"
    image_port = 27017
    package = "mongodb-org-server"

    def find(self) -> Path | None:
        found = shutil.which("mongod")
        return Path(found) if found else None

    def command(self, program: Path, folder: Path, port: int) -> Sequence[str]:
        data = folder / "data"
        data.mkdir(exist_ok=True)
        return [str(program), "--dbpath", str(data), "--bind_ip", "127.0.0.1", "--port", str(port), "--nounixsocket"]


class Ferretdb(_Scanning):
    """FerretDB 1 on SQLite files."""

    name = "ferretdb"
    variable = "THREADKEEP_TEST_FERRETDB_URL"
    package = "golang"
    # The quick profile takes it ten minutes of a processor, three times what mongo-java-server takes.
    profile = "brief"

    def find(self) -> Path | None:
        program = built("ferretdb") / "ferretdb"
        return program if program.exists() else None

    def command(self, program: Path, folder: Path, port: int) -> Sequence[str]:
        data = folder / "data"
        data.mkdir(exist_ok=True)
        # A quarter of its time goes into collecting garbage otherwise (https://pkg.go.dev/runtime, GOGC).
        return ["env", "GOGC=800", str(program), f"127.0.0.1:{port}", str(data)]


class MongoJavaServer(_Scanning):
    """mongo-java-server on an H2 file."""

    name = "mongo-java-server"
    variable = "THREADKEEP_TEST_MONGO_JAVA_SERVER_URL"
    package = "maven"

    def find(self) -> Path | None:
        folder = built("mongo-java-server")
        return folder if (folder / "Server.class").exists() and shutil.which("java") else None

    def command(self, program: Path, folder: Path, port: int) -> Sequence[str]:
        path = f"{program}:{program / 'lib'}/*"
        # It lives for minutes: the first compiler and the collector without threads of its own start soonest.
        options = ("-Xmx1g", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
        return ["java", *options, "-cp", path, "Server", str(port), str(folder / "data.db")]


MONGOD: Final = Mongod()
FERRETDB: Final = Ferretdb()
MONGO_JAVA_SERVER: Final = MongoJavaServer()
