"""Two commits side by side: the same turns on the same server, round by round in one run.

    python benchmarks/compare.py OLD NEW [--stores sqlite,postgresql,redis] [--clients 1,16] [--rounds 30]

Each commit is installed into an environment of its own, with the versions that NEW's constraints.txt says. A turn loads
the newest 20 messages and appends 2. In each round both commits run, in an order by chance, so that what disturbs one
disturbs the other. The ratio is NEW's median time by OLD's: above 1, NEW is slower. Ratios repeat to about a tenth.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent
sys.path.insert(0, str(ROOT / "adapters" / "tests" / "common"))

import servers  # noqa: E402  # the tests' servers are not installed, and found by the line above
from postgresql_server import POSTGRESQL  # noqa: E402  # as before
from redis_server import REDIS  # noqa: E402  # as before

EXTRAS: Final = "postgres,redis"
WARM: Final = 3
"""Rounds before those that count."""


def install(commit: str, folder: Path) -> Path:
    """The Python of a new environment with a commit installed."""
    source, environment = folder / "source", folder / "environment"
    source.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, environment], check=True)
    python = environment / "bin" / "python"
    wanted = f"threadkeep[{EXTRAS}] @ {source}"
    constraint = f"--constraint={ROOT / 'constraints.txt'}"
    subprocess.run(["uv", "pip", "install", "--quiet", f"--python={python}", constraint, wanted], check=True)
    return python


def place(store: str, name: str, folder: Path) -> str:
    """The URL of an empty store on the server that both commits use."""
    match store:
        case "memory":
            return f"memory://{name}"
        case "sqlite":
            return f"sqlite:///{folder / name}.db"
        case "postgresql":
            return f"{started(POSTGRESQL)}?schema={name}"
        case "redis":
            return f"{started(REDIS)}?prefix={name}"
    raise SystemExit(f"there is no store {store!r} here; there are: memory, sqlite, postgresql, redis")


def started(kind: servers.Kind) -> str:
    """The URL of a server, which this process starts once."""
    return servers.shared(kind).url


class Side:
    """A worker process with one commit installed."""

    def __init__(self, python: Path, url: str, clients: int, turns: int, length: int) -> None:
        words: list[str | Path] = [python, HERE / "compare_worker.py", url, str(clients), str(turns), str(length)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("unreachable: both were asked to be pipes")
        self._requests: IO[str] = self._process.stdin
        self._answers: IO[str] = self._process.stdout
        self._answer()

    def round(self) -> float:
        """Run one round; the seconds that it took."""
        self._requests.write("\n")
        self._requests.flush()
        return float(self._answer())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _answer(self) -> str:
        line = self._answers.readline()
        if not line:
            raise SystemExit(f"a worker ended early, with exit code {self._process.wait()}")
        return line.strip()


@contextmanager
def sides(pythons: Sequence[Path], urls: Sequence[str], clients: int, turns: int, length: int) -> Iterator[list[Side]]:
    """A worker for each commit, ended afterwards."""
    with ExitStack() as stack:
        found = []
        for python, url in zip(pythons, urls, strict=True):
            side = Side(python, url, clients, turns, length)
            stack.callback(side.close)
            found.append(side)
        yield found


def compare(running: Sequence[Side], rounds: int) -> list[list[float]]:
    """Seconds of each side's rounds."""
    times: list[list[float]] = [[] for _ in running]
    order = list(range(len(running)))
    chance = random.Random(0)
    for number in range(WARM + rounds):
        chance.shuffle(order)
        for index in order:
            seconds = running[index].round()
            if number >= WARM:
                times[index].append(seconds)
    return times


def main() -> None:
    """Print one row for each store and number of clients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--stores", default="sqlite,postgresql,redis")
    parser.add_argument("--clients", default="1,16")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--turns", type=int, default=40, help="turns of all clients together in one round")
    parser.add_argument("--length", type=int, default=1000, help="messages in each thread at the start")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="threadkeep-compare-") as temporary:
        folder = Path(temporary)
        pythons = [install(commit, folder / name) for name, commit in (("old", given.old), ("new", given.new))]
        print(f"| store | clients | {given.old[:12]}, µs a turn | {given.new[:12]}, µs a turn | new by old |")
        print("|---|---|---|---|---|")
        for store in given.stores.split(","):
            for clients in map(int, given.clients.split(",")):
                turns = max(1, given.turns // clients)
                urls = [place(store, f"{name}{clients}", folder) for name in ("old", "new")]
                with sides(pythons, urls, clients, turns, given.length) as running:
                    times = compare(running, given.rounds)
                old, new = (statistics.median(each) / (turns * clients) * 1e6 for each in times)
                print(f"| {store} | {clients} | {old:,.0f} | {new:,.0f} | {new / old:.2f} |", flush=True)


if __name__ == "__main__":
    main()
