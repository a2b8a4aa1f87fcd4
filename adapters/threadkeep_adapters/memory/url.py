"""Which store in this process's memory a URL names."""

from __future__ import annotations

import secrets
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from threadkeep.errors import InvalidURL
from threadkeep_adapters.options import AnyOption, read_options

OPTIONS: Final[tuple[AnyOption, ...]] = ()


def read_url(url: str) -> str:
    """The name that a URL gives, or InvalidURL."""
    parts = urlsplit(url)
    read_options(parts.query, OPTIONS)
    if parts.query or parts.fragment or parts.path.strip("/"):
        raise InvalidURL("memory:// takes a name and nothing else, as in memory://tests")
    return unquote(parts.netloc)


def new_url(url: str) -> str:
    """The URL of a store beside that of `url`, which nobody has opened yet."""
    return f"memory://{quote(read_url(url), safe='')}-{secrets.token_hex(6)}"
