"""The version of a store's layout, which every store writes into the place that it makes."""

from __future__ import annotations

from threadkeep.errors import StoreTooNew, StoreTooOld


def check_schema_version(found: int, own: int) -> None:
    """Refuse a place of another layout, before anything in it is read or written.

    `found` is the version that the place says, `own` the one that the store reads and writes. Raises StoreTooNew and
    StoreTooOld.
    """
    if found > own:
        raise StoreTooNew(found, own)
    if found < own:
        raise StoreTooOld(found, own)
