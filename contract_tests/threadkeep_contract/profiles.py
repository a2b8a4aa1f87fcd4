"""The profiles: how much a run of the contract tries. Every number that depends on the time one has is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How much is tried."""

    name: str
    examples: int
    """Examples of each exploration; a check may ask for a share of it."""
    steps: int
    """Operations in one example, at most."""
    rounds: int
    """Rounds of a race between tasks."""
    tasks: int
    """Tasks that race at once."""
    processes: int
    """Worker processes that race at once."""
    process_rounds: int
    """Rounds of a race between processes."""
    kills: int
    """Worker processes that are killed in one check."""
    length: int
    """Messages in a long thread."""
    bystanders: int
    """Other threads and resources whose presence must not show."""
    seconds: float
    """Time limit of one `Harness.run`; a store that takes longer hangs."""
    shrink_seconds: float
    """How long a failing example is made smaller."""
    records: int
    """Messages in the longest thread, at least; above every cap that a backend or an author may have had in mind."""
    positions: int
    """Messages that a thread is given, one after the other, at least; above what fits into two bytes."""
    scopes: int
    """Threads in the largest resource, and resources beside each other, at least."""
    mebibytes: int
    """MiB in the heaviest thread."""
    moments: int
    """Moments of each kind at which a call is cancelled, at most."""
    calls: int
    """Calls that follow a cancelled one: more than a pool has connections, which are ten or so."""
    share: int
    """Of a catalogue one entry in so many is tried; see `Harness.some`."""


BRIEF: Final = Profile(
    name="brief",
    examples=5,
    steps=12,
    rounds=2,
    tasks=4,
    processes=3,
    process_rounds=2,
    kills=1,
    length=120,
    bystanders=20,
    seconds=60,
    shrink_seconds=5,
    records=130,
    positions=130,
    scopes=12,
    mebibytes=3,
    moments=2,
    calls=12,
    share=27,
)
"""Just enough to see that a store works at all, as on another version of something."""

QUICK: Final = Profile(
    name="quick",
    examples=18,
    steps=20,
    rounds=4,
    tasks=8,
    processes=3,
    process_rounds=4,
    kills=2,
    length=200,
    bystanders=40,
    seconds=60,
    shrink_seconds=5,
    records=2600,
    positions=2600,
    scopes=1100,
    mebibytes=18,
    moments=4,
    calls=20,
    share=4,
)
"""For a store whose server is slow."""

DEFAULT: Final = Profile(
    name="default",
    examples=80,
    steps=30,
    rounds=20,
    tasks=16,
    processes=3,
    process_rounds=20,
    kills=8,
    length=500,
    bystanders=200,
    seconds=60,
    shrink_seconds=10,
    records=5200,
    positions=66_000,
    scopes=2600,
    mebibytes=20,
    moments=12,
    calls=30,
    share=1,
)
"""What a store is judged with unless somebody says otherwise; the only one in which every saboteur is caught."""

DEEP: Final = Profile(
    name="deep",
    examples=1500,
    steps=60,
    rounds=200,
    tasks=32,
    processes=6,
    process_rounds=200,
    kills=300,
    length=5000,
    bystanders=2000,
    seconds=300,
    shrink_seconds=120,
    records=20000,
    positions=140_000,
    scopes=11000,
    mebibytes=64,
    moments=40,
    calls=60,
    share=1,
)
"""Much more, for a night."""

PROFILES: Final[Mapping[str, Profile]] = {profile.name: profile for profile in (BRIEF, QUICK, DEFAULT, DEEP)}
"""Every profile by its name, the one that tries least first."""
