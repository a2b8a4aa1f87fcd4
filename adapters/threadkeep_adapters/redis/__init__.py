"""The Redis store: `redis://`, `rediss://` and `redis+cluster://`.

Its hooks are what the entry point names; everything else here is internal.
"""

from threadkeep_adapters.redis.store import open_store, scan_backend, store_exists

__all__ = ["open_store", "scan_backend", "store_exists"]
