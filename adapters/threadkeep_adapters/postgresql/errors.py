"""What PostgreSQL's errors mean here, by SQLSTATE (appendix A of its manual)."""

from __future__ import annotations

from typing import Final

import asyncpg

from threadkeep.errors import StoreDamaged, StoreError, StoreFull, StoreNotWritable, StoreUnavailable, ThreadkeepError

READ_ONLY: Final = "25006"
"""A transaction may only read: the server is a standby, or its database was made read-only. Nothing was written."""

MEANINGS: Final[dict[str, tuple[type[ThreadkeepError], str]]] = {
    "08": (StoreUnavailable, ""),
    "0A000": (StoreError, ""),
    READ_ONLY: (
        StoreUnavailable,
        "its connections were let go, so that the next call asks whoever answers at the address then; where that only "
        "reads too, connect to the primary server, or make the database writable",
    ),
    "26000": (StoreError, "a proxy that pools connections has lost a prepared statement; add ?prepared=no to the URL"),
    "28": (StoreNotWritable, "correct the user or password in the URL, or the server's pg_hba.conf"),
    "3D000": (StoreNotWritable, "create the database, or correct the URL"),
    "3F000": (StoreDamaged, "the schema was removed while the store was open; open it again"),
    "40": (StoreUnavailable, ""),
    "42501": (StoreNotWritable, "grant the user what is missing, as the store's page says"),
    "42883": (StoreDamaged, "a function of the schema was removed while the store was open; open it again"),
    "42P01": (StoreDamaged, "a table was removed while the store was open; restore it, or open the store again"),
    "42P05": (StoreError, "a proxy that pools connections mixes prepared statements; add ?prepared=no to the URL"),
    "53100": (StoreFull, ""),
    "53300": (
        StoreUnavailable,
        "allow fewer with ?connections=, a longer wait with ?pool_timeout=, or more on the server",
    ),
    "53": (StoreUnavailable, ""),
    "55P03": (StoreUnavailable, ""),
    "57": (StoreUnavailable, ""),
    "XX001": (StoreDamaged, ""),
    "XX002": (StoreDamaged, ""),
}
"""SQLSTATE, or its class in two letters -> the error, and what to do. No statement has written anything then."""

LOST_RACES: Final = frozenset({"40001", "40P01", "23505"})
"""Serialization failure, deadlock, unique violation: another transaction was first, and a new attempt sees it."""


def sqlstate(error: BaseException) -> str:
    """The five letters of a server's error, "" for any other."""
    return getattr(error, "sqlstate", None) or ""


ASTRAY: Final = asyncpg.InternalClientError
"""The driver has lost its way on a connection, as where a server died under it, and cannot go on with it."""


def is_lost(error: BaseException) -> bool:
    """Whether the connection ended or the answer did not come, so that a statement may have been done or not.

    57P01 to 57P05 are the server's last words before it ends a connection; a commit may have gone before them.
    """
    state = sqlstate(error)
    if isinstance(error, asyncpg.PostgresError):
        return state.startswith(("08", "57P"))
    return isinstance(error, OSError | TimeoutError | asyncpg.InterfaceError | ASTRAY)


def meaning(error: Exception) -> ThreadkeepError | None:
    """The error of ours for one of the server's, None where the table has none."""
    state = sqlstate(error)
    found = MEANINGS.get(state) or MEANINGS.get(state[:2])
    if found is None:
        return None
    kind, advice = found
    said = f"{error} (SQLSTATE {state})"
    return kind(f"{said}; {advice}" if advice else said)


def unreachable(error: Exception) -> ThreadkeepError:
    """For what is no answer of the server: it is not there, or does not answer in time."""
    return StoreUnavailable(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


ERRORS: Final = (
    (asyncpg.PostgresError, meaning),
    (asyncpg.InterfaceError, unreachable),
    (OSError, unreachable),
    (TimeoutError, unreachable),
)
"""The table of the store."""
