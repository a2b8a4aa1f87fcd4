"""The DynamoDB store: `dynamodb://`.

Its hooks are what the entry point names; everything else here is internal.
"""

from threadkeep_adapters.dynamodb.store import open_store, proxied, scan_backend, store_exists

__all__ = ["open_store", "proxied", "scan_backend", "store_exists"]
