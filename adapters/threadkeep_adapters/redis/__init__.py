"""The Redis store: `redis://`, `rediss://` and `redis+cluster://`.

Its hooks are what the entry point names; everything else here is internal.
"""

from threadkeep_adapters.redis.store import new_place, open_store, proxied, scan_backend, shift_version, store_exists

__all__ = ["new_place", "open_store", "proxied", "scan_backend", "shift_version", "store_exists"]
