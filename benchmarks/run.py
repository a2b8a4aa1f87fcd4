"""All benchmarks that can be run here, one after another, each with a server of its own where it needs one.

    python benchmarks/run.py [STORE ...] [OPTIONS FOR THE SCRIPTS]

Without names, all of them. Servers are found as the tests find them: a URL in the environment, a container, a program
on this machine. A benchmark whose server is missing is left out, and says so; with CI set, or named, it is an error.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "adapters" / "tests" / "common"))

import servers  # noqa: E402  # the tests' servers are not installed, and found by the line above
from dynamodb_server import DYNAMODB  # noqa: E402  # as before
from mongodb_server import MONGO_JAVA_SERVER  # noqa: E402  # as before
from postgresql_server import POSTGRESQL  # noqa: E402  # as before
from redis_server import REDIS  # noqa: E402  # as before


class Benchmark(NamedTuple):
    """A script beside this one, and the server whose URL is its first argument."""

    script: str
    server: servers.Kind | None = None


BENCHMARKS: Final = {
    "dynamodb": Benchmark("dynamodb.py", DYNAMODB),
    "mongodb": Benchmark("mongodb.py", MONGO_JAVA_SERVER),
    "postgresql": Benchmark("postgresql.py", POSTGRESQL),
    "redis": Benchmark("redis_store.py", REDIS),
    "sqlite": Benchmark("sqlite.py"),
}
"""Store -> its benchmark. A new one needs a line here, and nothing else."""


def main(arguments: list[str]) -> int:
    """Run the benchmarks named; the exit status is that of the first that fails."""
    first = next((place for place, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    named, options = arguments[:first], arguments[first:]
    if unknown := [name for name in named if name not in BENCHMARKS]:
        print(f"there is no benchmark of {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    failed = 0
    for name in named or BENCHMARKS:
        benchmark = BENCHMARKS[name]
        given = []
        if benchmark.server is not None:
            server = servers.reserve(benchmark.server)
            try:
                server.start()
            except servers.ServerMissing as missing:
                print(f"\n# {name}: left out: {missing}", file=sys.stderr)
                failed = failed or int(bool(named or os.environ.get("CI")))
                continue
            given = [server.url]
        print(f"\n# {name}\n", flush=True)
        done = subprocess.run([sys.executable, HERE / benchmark.script, *given, *options], check=False)
        failed = failed or done.returncode
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
