"""The thirteen laws, in order. Each module opens with its law in prose."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from threadkeep_contract.harness import Law

HOMES: Final[dict[int, tuple[str, str]]] = {
    1: ("isolation", "Isolation"),
    2: ("duplication", "Duplication"),
    3: ("order", "Order"),
    4: ("atomicity", "Atomicity"),
    5: ("concurrency", "Concurrency"),
    6: ("durability", "Durability"),
    7: ("fidelity", "Fidelity"),
    8: ("reading", "Reading"),
    9: ("working_memory", "WorkingMemory"),
    10: ("deletion", "Deletion"),
    11: ("limits", "Limits"),
    12: ("lifecycle", "Lifecycle"),
    13: ("cost", "Cost"),
}
"""Number -> module and class of each law."""


def law(number: int) -> type[Law]:
    """The law of a number, or KeyError."""
    module, name = HOMES[number]
    found: type[Law] = getattr(import_module(f"{__name__}.{module}"), name)
    if found.number != number:
        raise ImportError(f"{name} says it is law {found.number}, and stands at {number}")
    return found


def checks(law: type[Law]) -> list[str]:
    """The names of a law's checks, in the order in which they are written."""
    return [name for name in vars(law) if name.startswith("test_")]
