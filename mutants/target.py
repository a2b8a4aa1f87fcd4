"""What is changed, and the store that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Target:
    """Files of one package."""

    package: Path
    """The folder of the package that is copied, within the repository."""
    files: Sequence[str]
    """Patterns of the files in it that are changed."""
    judged: str
    """The scheme of the store that is judged."""
    tests: Sequence[str]
    """What the store's own tests are, for pytest."""


_ADAPTERS: Final = Path("adapters/threadkeep_adapters")

TARGETS: Final = {
    "memory": Target(
        _ADAPTERS,
        ("memory/commit.py", "memory/layout.py", "memory/store.py"),
        "memory",
        ("adapters/tests/memory", "adapters/tests/shared/test_new_places.py"),
    ),
    "conditions": Target(Path("core/threadkeep"), ("port/conditions.py",), "memory", ("core/tests/port",)),
    "sqlite": Target(
        _ADAPTERS,
        ("sql/*.py", "sqlite/commit.py", "sqlite/statements.py"),
        "sqlite",
        ("adapters/tests/sqlite",),
    ),
    "postgresql": Target(_ADAPTERS, ("postgresql/functions.sql",), "postgresql", ("adapters/tests/postgresql",)),
    "lua": Target(_ADAPTERS, ("redis/*.lua",), "redis", ("adapters/tests/redis",)),
}
