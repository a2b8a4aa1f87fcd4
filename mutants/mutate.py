"""Mutants of a store, and whether the contract rejects them.

    python mutants/mutate.py TARGET [--count 100] [--seed 0] [--only NUMBERS] [--tests] [--help]

Draws mutants of the target's files, each with one small change, and judges each in a process of its own, on a copy of
the package that holds the change. Prints a line for each mutant, with its number among all, and the score.
docs/mutants.md has what came of it.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import python_mutants
import token_mutants
from judge import ROOT, Judge, Outcome
from mutant import Mutant
from places import PLACES
from target import TARGETS, Target

Numbered: TypeAlias = tuple[int, Path, Mutant]
"""A mutant, the file that it changes within its package, and its number among all mutants of the target."""

WRITERS: Final[Mapping[str, Callable[[str], list[Mutant]]]] = {
    ".py": python_mutants.mutants,
    ".sql": partial(token_mutants.mutants, language=token_mutants.SQL),
    ".lua": partial(token_mutants.mutants, language=token_mutants.LUA),
}


def every(target: Target) -> list[Numbered]:
    """All mutants of the target's files. As long as these stay as they are, so do the numbers, which begin with 0."""
    folder = ROOT / target.package
    paths = sorted({path for pattern in target.files for path in folder.glob(pattern)})
    found = [
        (path.relative_to(folder), mutant)
        for path in paths
        for mutant in WRITERS[path.suffix](path.read_text(encoding="utf-8"))
    ]
    return [(number, path, mutant) for number, (path, mutant) in enumerate(found)]


def drawn(target: Target, count: int, seed: int) -> list[Numbered]:
    """So many mutants of the target, without repetition; all, in order, where there are no more."""
    mutants = every(target)
    return mutants if count >= len(mutants) else random.Random(seed).sample(mutants, count)


def main() -> None:
    """Judge the mutants of one target, after the target itself, which has to be kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--count", type=int, default=100, help="how many mutants, at most (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="which of them (default: 0)")
    parser.add_argument("--only", metavar="NUMBERS", help="those with these numbers instead, separated by commas")
    parser.add_argument("--store", choices=PLACES, help="judged instead of the target's own: its scheme")
    parser.add_argument("--profile", default="quick", help="of the contract (default: quick)")
    parser.add_argument(
        "--order",
        type=Path,
        help="a file for the order of checks, so that the next run need not judge the store without any change",
    )
    parser.add_argument("--tests", action="store_true", help="try what the contract keeps with the store's own tests")
    parser.add_argument("--json", type=Path, help="write each outcome to this file too, as it comes, as a line of JSON")
    options = parser.parse_args()
    target = TARGETS[options.target]
    if options.only is None:
        chosen = drawn(target, options.count, options.seed)
    else:
        mutants = every(target)
        chosen = [mutants[int(number)] for number in options.only.split(",")]
    print(f"{len(chosen)} of {len(every(target))} mutants of {options.target}, seed {options.seed}", flush=True)
    if options.json:
        options.json.write_text("", encoding="utf-8")
    outcomes = []
    with closing(Judge(replace(target, judged=options.store or target.judged), options.profile)) as judge:
        judge.measure(options.order)
        for done, (number, file, mutant) in enumerate(chosen, 1):
            outcome = judge.judge(file, mutant, number)
            if options.tests and not outcome.rejected:
                outcome = judge.tested(file, mutant, outcome)
            outcomes.append(outcome)
            print(f"{done}/{len(chosen)} {outcome}", flush=True)
            if options.json:
                with options.json.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")
    _summary(options.target, outcomes)


def _summary(name: str, outcomes: list[Outcome]) -> None:
    counts = Counter(outcome.verdict for outcome in outcomes)
    rejected = sum(outcome.rejected for outcome in outcomes)
    print(f"\n{len(outcomes)} mutants of {name}, {rejected} rejected by the contract; {dict(counts)}")
    for outcome in outcomes:
        if not outcome.rejected:
            print(f"  {outcome}")


if __name__ == "__main__":
    main()
