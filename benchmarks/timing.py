"""Timing several ways of doing one thing in one run, turn by turn, so that what disturbs one disturbs all."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

Way: TypeAlias = Callable[[int], Awaitable[object]]
"""Does the thing once; takes the number of the round."""


async def interleaved(ways: Mapping[str, Way], rounds: int, warmup: int = 20) -> dict[str, list[float]]:
    """Seconds per way and round. The first `warmup` rounds are not counted.

    The order of each round is by chance, from a fixed seed: in a fixed cycle each way would always run after the same
    other one, and have its waits for the disk.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    chance = random.Random(0)
    gc.collect()
    gc.freeze()
    for number in range(warmup + rounds):
        chance.shuffle(order)
        for name in order:
            started = time.perf_counter()
            await ways[name](number)
            elapsed = time.perf_counter() - started
            if number >= warmup:
                times[name].append(elapsed)
    gc.unfreeze()
    return times


def quantile(times: Mapping[str, Sequence[float]], share: float) -> dict[str, float]:
    """The time in seconds that this share of each way's rounds took at most: 0.5 is the median."""
    return {name: sorted(values)[min(len(values) - 1, int(len(values) * share))] for name, values in times.items()}


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as Markdown."""
    lines = [f"\n{title}\n", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
