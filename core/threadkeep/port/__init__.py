"""What stands between the handles and a store: the port that stores implement, and what core does for all of them.

Authors of stores need no other room. A store subclasses `Store`, and its plugin implements the hooks with `hookimpl`.
"""

from __future__ import annotations

from threadkeep.port.canonical import MAX_DEPTH, MAX_INT_DIGITS, canonical_json, sorted_json
from threadkeep.port.checks import MAX_COUNT, MAX_PAGE, MAX_POSITION, MAX_TIME, MIN_TIME
from threadkeep.port.conditions import Versioned, check_thread, next_versions
from threadkeep.port.guard import Guard
from threadkeep.port.hooks import hookimpl
from threadkeep.port.ids import check_id, new_id
from threadkeep.port.keys import escape, flat_key, hash_tag
from threadkeep.port.limits import KIB, MIB, Limits, check_size
from threadkeep.port.refusals import SHORT_ID_BYTES, Refusal
from threadkeep.port.registry import (
    DEFAULT_URL,
    URL_VARIABLE,
    clock,
    installed_schemes,
    load_plugin,
    new_place,
    open_store,
    proxied,
    register,
    registered,
    replace_hosts,
    replace_place,
    scan_backend,
    scheme_of,
    shift_version,
    store_exists,
)
from threadkeep.port.schema import check_schema_version
from threadkeep.port.store import (
    MISSING,
    After,
    Changes,
    Clause,
    Costs,
    Doc,
    Meter,
    Order,
    Put,
    Receipt,
    Record,
    Resource,
    Scope,
    Snapshot,
    Store,
    Stored,
    Tail,
    Thread,
    ThreadRow,
    Translate,
    Window,
)
from threadkeep.port.times import from_micros, to_micros

__all__ = [
    "DEFAULT_URL",
    "KIB",
    "MAX_COUNT",
    "MAX_DEPTH",
    "MAX_INT_DIGITS",
    "MAX_PAGE",
    "MAX_POSITION",
    "MAX_TIME",
    "MIB",
    "MIN_TIME",
    "MISSING",
    "SHORT_ID_BYTES",
    "URL_VARIABLE",
    "After",
    "Changes",
    "Clause",
    "Costs",
    "Doc",
    "Guard",
    "Limits",
    "Meter",
    "Order",
    "Put",
    "Receipt",
    "Record",
    "Refusal",
    "Resource",
    "Scope",
    "Snapshot",
    "Store",
    "Stored",
    "Tail",
    "Thread",
    "ThreadRow",
    "Translate",
    "Versioned",
    "Window",
    "canonical_json",
    "check_id",
    "check_schema_version",
    "check_size",
    "check_thread",
    "clock",
    "escape",
    "flat_key",
    "from_micros",
    "hash_tag",
    "hookimpl",
    "installed_schemes",
    "load_plugin",
    "new_id",
    "new_place",
    "next_versions",
    "open_store",
    "proxied",
    "register",
    "registered",
    "replace_hosts",
    "replace_place",
    "scan_backend",
    "scheme_of",
    "shift_version",
    "sorted_json",
    "store_exists",
    "to_micros",
]
