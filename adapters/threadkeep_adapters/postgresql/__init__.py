"""The PostgreSQL store: `postgresql://` and `postgres://`.

Its hooks are what the entry point names; everything else here is internal.
"""

from threadkeep_adapters.postgresql.store import open_store, scan_backend, store_exists

__all__ = ["open_store", "scan_backend", "store_exists"]
