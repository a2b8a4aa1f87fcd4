"""Mutants of a store, and whether the contract rejects them.

    python mutants/mutate.py TARGET [--count 100] [--seed 0] [--profile quick] [--json FILE]

Draws mutants of the target's files, each with one small change, and judges each in a process of its own, on a copy of
the package that holds the change. Prints a line for each mutant and the score. docs/mutants.md has what came of it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

import python_mutants
import token_mutants
from mutant import Mutant

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent
SECONDS: Final = 240
"""How long judging one mutant may take. What takes longer hangs, and no author would take it for kept."""
WRITERS: Final[Mapping[str, Callable[[str], list[Mutant]]]] = {
    ".py": python_mutants.mutants,
    ".sql": partial(token_mutants.mutants, language=token_mutants.SQL),
    ".lua": partial(token_mutants.mutants, language=token_mutants.LUA),
}


@dataclass(frozen=True, slots=True)
class Target:
    """What is changed, and the store that shows it."""

    package: Path
    """The folder of the package that is copied, within the repository."""
    files: tuple[str, ...]
    """Patterns of the files in it that are changed."""
    judged: str
    """The store, by its name in `store_urls` of the tests."""


ADAPTERS: Final = Path("adapters/threadkeep_adapters")
TARGETS: Final = {
    "memory": Target(ADAPTERS, ("memory/commit.py", "memory/layout.py", "memory/store.py"), "memory"),
    "conditions": Target(Path("core/threadkeep"), ("port/conditions.py",), "memory"),
    "sqlite": Target(
        ADAPTERS,
        ("sql/*.py", "sqlite/commit.py", "sqlite/reading.py", "sqlite/statements.py", "sqlite/sweep.py"),
        "sqlite",
    ),
    "postgresql": Target(ADAPTERS, ("postgresql/functions.sql",), "postgresql"),
    "redis": Target(ADAPTERS, ("redis/*.lua",), "redis"),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one mutant."""

    file: str
    change: str
    """As `Mutant.shown`."""
    verdict: str
    """`killed`, `hangs`, `ends` (the judging process itself ended in an error), or `survived`."""
    law: int = 0
    check: str = ""
    promise: str = ""


def drawn(target: Target, count: int, seed: int) -> list[tuple[Path, Mutant]]:
    """So many mutants of the target's files, without repetition; all, in order, where there are no more."""
    folder = ROOT / target.package
    paths = sorted({path for pattern in target.files for path in folder.glob(pattern)})
    every = [
        (path.relative_to(folder), mutant)
        for path in paths
        for mutant in WRITERS[path.suffix](path.read_text(encoding="utf-8"))
    ]
    return every if count >= len(every) else random.Random(seed).sample(every, count)


class Judge:
    """Judges copies of one package, on a server of its own where the store needs one."""

    def __init__(self, target: Target, profile: str) -> None:
        # The tests' servers are not installed.
        sys.path.insert(0, str(ROOT / "adapters" / "tests" / "common"))
        from servers import reserve
        from store_urls import KINDS, URLS

        self._target = target
        self._profile = profile
        self._url = URLS[target.judged]
        self._kind = KINDS.get(target.judged)
        self._server = reserve(self._kind) if self._kind is not None else None
        if self._server is not None:
            self._server.start()

    def judge(self, file: Path, mutant: Mutant | None) -> Outcome:
        """What comes of the package with this change, None for none."""
        source = (ROOT / self._target.package / file).read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory(prefix="mutant-") as name:
            folder = Path(name)
            copy = folder / "packages" / self._target.package.name
            shutil.copytree(ROOT / self._target.package, copy, ignore=shutil.ignore_patterns("__pycache__"))
            if mutant is not None:
                (copy / file).write_text(mutant.apply(source), encoding="utf-8")
            outcome = self._outcome(folder, str(file), mutant.shown(source) if mutant else "nothing")
        if self._kind is not None and self._server is not None:
            self._kind.tidy(self._server.url)
        return outcome

    def _outcome(self, folder: Path, file: str, change: str) -> Outcome:
        packages = folder / "packages"
        url = self._url(folder)
        if self._target.judged == "postgresql":
            # Functions are made with the schema: a mutant needs one of its own.
            url = f"{url.partition('?')[0]}?schema={folder.name.replace('-', '_').lower()}"
        command = [sys.executable, HERE / "first_broken.py", url, self._profile, packages, self._target.package.name]
        # The judged package shadows the installed one, in worker processes too.
        environment = {**os.environ, "PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"}
        with subprocess.Popen(
            [*map(str, command)],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                return Outcome(file, change, "hangs")
            finally:
                # The mutant's worker processes are in its group.
                _end_group(process.pid)
        if process.returncode:
            return Outcome(file, change, "ends", promise=(err.strip().splitlines() or ["without a word"])[-1])
        found = json.loads(out.splitlines()[-1])
        return Outcome(file, change, "killed", **found) if found else Outcome(file, change, "survived")


def _end_group(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def main() -> None:
    """Judge the mutants of one target, after the target itself, which has to be kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--count", type=int, default=100, help="how many mutants, at most (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="which of them (default: 0)")
    parser.add_argument("--profile", default="quick", help="of the contract (default: quick)")
    parser.add_argument("--json", type=Path, help="write each outcome to this file too, as it comes, as a line of JSON")
    options = parser.parse_args()
    target = TARGETS[options.target]
    chosen = drawn(target, options.count, options.seed)
    judge = Judge(target, options.profile)
    unchanged = judge.judge(chosen[0][0], None)
    if unchanged.verdict != "survived":
        raise SystemExit(f"without any change the store is not kept: {unchanged}")
    if options.json:
        options.json.write_text("", encoding="utf-8")
    outcomes = []
    for number, (file, mutant) in enumerate(chosen, 1):
        outcome = judge.judge(file, mutant)
        outcomes.append(outcome)
        by = f" by law {outcome.law}, {outcome.check}" if outcome.check else f" {outcome.promise}".rstrip()
        print(f"{number}/{len(chosen)} {outcome.verdict}{by}: {outcome.file}:{outcome.change}", flush=True)
        if options.json:
            with options.json.open("a", encoding="utf-8") as file_of_outcomes:
                file_of_outcomes.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")
    survived = [outcome for outcome in outcomes if outcome.verdict == "survived"]
    rejected = len(outcomes) - len(survived)
    print(f"\n{len(outcomes)} mutants of {options.target}: {rejected} rejected, {len(survived)} survived")
    for outcome in survived:
        print(f"  {outcome.file}:{outcome.change}")


if __name__ == "__main__":
    main()
