"""What of the suite's material a store takes: a store may declare valid input that it refuses."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from threadkeep.port import SHORT_ID_BYTES, Refusal
from threadkeep_contract.inputs.confusable import Pair, Spot
from threadkeep_contract.inputs.operations import Program

ROOM_BYTES: Final = 15
"""Bytes of a clean room's prefix, which goes before an id."""


def taken(value: object, refuses: Collection[Refusal], *, ids: bool = False) -> bool:
    """Whether a store that refuses this takes a value with all that is in it. `ids` says that its texts are ids."""
    match value:
        case str() if ids:
            size = ROOM_BYTES + len(value.encode("utf-8", "surrogatepass"))
            short = Refusal.LONG_IDS not in refuses or size <= SHORT_ID_BYTES
            return short and not (Refusal.NUL_IN_IDS in refuses and "\x00" in value)
        case str():
            return not (Refusal.NUL_IN_TEXT in refuses and "\x00" in value)
        case Program():
            return taken(value.pool, refuses, ids=True)
        case Pair():
            return taken((value.first, value.second), refuses, ids=True)
        case Spot():
            return all(taken(part, refuses, ids=True) for part in value)
        case tuple() | list():
            return all(taken(item, refuses, ids=ids) for item in value)
        case dict():
            return all(taken(part, refuses, ids=ids) for item in value.items() for part in item)
    return True
