"""The store in the memory of this process: `memory://`.

Its hooks are what the entry point names; everything else here is internal.
"""

from threadkeep_adapters.memory.store import new_place, open_store, scan_backend

__all__ = ["new_place", "open_store", "scan_backend"]
