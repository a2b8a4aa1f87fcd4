"""The laws, listed once. The suite, the saboteurs, the report, the command and the pages in docs/laws follow this list.

Each law is a module (or a package) here, whose docstring is the law in prose and whose one class has the checks. The
module of the same name in `threadkeep_contract.saboteurs` has the stores that the law must catch. This module imports
none of them, so that whoever only wants to know which laws there are needs no Hypothesis.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from threadkeep_contract.harness import Law

NAMES: Final = (
    "isolation",
    "duplication",
    "order",
    "atomicity",
    "concurrency",
    "durability",
    "fidelity",
    "reading",
    "working_memory",
    "deletion",
    "limits",
    "lifecycle",
    "cost",
)
"""The module of each law. The first is law 1, the second law 2, and so on."""

NUMBERS: Final = range(1, len(NAMES) + 1)
"""The numbers of the laws."""


def law(number: int) -> type[Law]:
    """The law of a number, or KeyError. Its class is called as its module, in capitalised words."""
    if number not in NUMBERS:
        raise KeyError(number)
    name = NAMES[number - 1]
    found: type[Law] = getattr(import_module(f"{__name__}.{name}"), name.title().replace("_", ""))
    if found.number != number:
        raise ImportError(f"{found.__name__} says it is law {found.number}, and is listed as law {number}")
    return found


def checks(law: type[Law]) -> list[str]:
    """The names of a law's checks, in the order in which pytest runs them: as they are written, bases first."""
    return [name for part in reversed(law.__mro__) for name in vars(part) if name.startswith("test_")]
