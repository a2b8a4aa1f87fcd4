"""The SQLite store: `sqlite://`.

Its hooks are what the entry point names; everything else here is internal.
"""

from threadkeep_adapters.sqlite.store import (
    new_place,
    open_store,
    replace_place,
    scan_backend,
    shift_version,
    store_exists,
)

__all__ = ["new_place", "open_store", "replace_place", "scan_backend", "shift_version", "store_exists"]
