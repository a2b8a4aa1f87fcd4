"""Where a MongoDB store is, as its URL says it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from threadkeep.errors import InvalidURL
from threadkeep.port import replace_hosts
from threadkeep_adapters.options import DriverOption, count, read_options, text, with_value

FORM: Final = "mongodb://[USER:PASSWORD@]HOST[:PORT][,HOST:PORT...]/[DATABASE][?OPTIONS]"

PORT: Final = 27017

DATABASE: Final = "threadkeep"
MAX_BUCKETS: Final = 256


def _is_prefix(name: str) -> bool:
    is_servers = name.startswith((".", "system."))
    return 0 < len(name.encode()) <= 60 and not set(name) & {"$", "\x00"} and not is_servers


PREFIX: Final = text(
    "prefix",
    "threadkeep",
    "with what the names of the collections begin; stores with different prefixes share a database and nothing else",
    values="what names of collections begin with, of 1 to 60 bytes, without $",
    column="text of 1 to 60 bytes",
    fits=_is_prefix,
)
BUCKETS: Final = count(
    "buckets",
    None,
    "over how many collections resources are spread; decided when the store is made, and kept",
    most=MAX_BUCKETS,
    unset="1",
)


def _of_mongodb(name: str, default: int, meaning: str) -> DriverOption:
    return DriverOption(name, meaning, default, column="as MongoDB has it")


DRIVER_OPTIONS: Final = (
    _of_mongodb("maxPoolSize", 10, "connections to one server, for each event loop, at most"),
    _of_mongodb("serverSelectionTimeoutMS", 5_000, "how long a call waits for a server that it can use"),
    _of_mongodb("connectTimeoutMS", 5_000, "how long a call waits for a new connection"),
    _of_mongodb("waitQueueTimeoutMS", 10_000, "how long a call waits for a free connection"),
    _of_mongodb("socketTimeoutMS", 10_000, "how long a call waits for an answer"),
)
"""Those whose default is not the driver's, so that every wait is bounded."""

OPTIONS: Final = (PREFIX, BUCKETS, *DRIVER_OPTIONS)

_REFUSED: Final = {
    "w": "commits are acknowledged by a majority",
    "wtimeoutms": "commits wait for a majority",
    "journal": "commits are journaled",
    "readpreference": "reads go to the primary",
    "readpreferencetags": "reads go to the primary",
    "readconcernlevel": "reads see what a majority has",
    "timeoutms": "it would cut calls short after they were sent; give socketTimeoutMS",
}
"""Options of MongoDB that a promise of the store decides."""


@dataclass(frozen=True, slots=True)
class Place:
    """A deployment, a database in it, and the collections of one store."""

    url: str = field(repr=False)
    """As PyMongo takes it; it may hold a password."""
    database: str = DATABASE
    prefix: str = PREFIX.default
    """With what the names of the store's collections begin."""
    buckets: int | None = BUCKETS.default
    """Over how many collections the commits of resources are spread, where the store is made now."""
    options: dict[str, Any] = field(default_factory=dict)
    """Defaults for what the URL leaves open, as the client takes them."""


def read_url(url: str) -> Place:
    """The place that a URL names, or InvalidURL, which does not repeat the URL, since it may hold a password."""
    if "#" in url:
        raise InvalidURL("a MongoDB URL has no #; write it as %23 where it belongs to a name or password")
    parts = urlsplit(url)
    given = read_options(parts.query, OPTIONS, refused=_REFUSED, passes_unknown=True)
    database = unquote(parts.path.removeprefix("/"))
    if any(sign in database for sign in '/\\. "$*<>:|?\x00') or len(database.encode()) > 63:
        raise InvalidURL(f'MongoDB takes no database of the name {database!r}; it has up to 63 bytes and no /\\. "$')
    path = "/" if not database else parts.path
    scheme = parts.scheme.lower()
    cleaned = urlunsplit((scheme, parts.netloc, path, urlencode(given.drivers), ""))
    named = {name.lower() for name, _ in given.drivers}
    _check(cleaned, given.drivers, is_srv=scheme.endswith("+srv"))
    return Place(
        url=cleaned,
        database=database or DATABASE,
        prefix=given[PREFIX],
        buckets=given[BUCKETS],
        options={option.name: option.default for option in DRIVER_OPTIONS if option.name.lower() not in named},
    )


def _check(url: str, options: Sequence[tuple[str, str]], *, is_srv: bool) -> None:
    if is_srv:
        # What PyMongo would look up in the DNS now, it looks up when it connects.
        url = url.replace("mongodb+srv://", "mongodb://", 1)
    if (wrong := _refusal(url)) is None:
        return
    # PyMongo does not say which option it means.
    alone = [name for name, value in options if _refusal(f"mongodb://host/?{urlencode({name: value})}") == wrong]
    raise InvalidURL(f"the MongoDB URL cannot be read ({': '.join([*alone, wrong])}); write {FORM}")


def _refusal(url: str) -> str | None:
    """What PyMongo finds wrong with a URL."""
    try:
        parse_uri(url, warn=False, validate=True)
    except (PyMongoError, ValueError) as error:
        return str(error)
    return None


def new_url(url: str) -> str:
    """The URL of a place beside that of `url` where nothing is yet."""
    prefix = read_url(url).prefix.encode()[:40].decode(errors="ignore")
    return with_value(url, PREFIX, f"{prefix}-{secrets.token_hex(6)}")


def proxied_url(url: str, proxy: Callable[[str, int], tuple[str, int]]) -> str:
    """The URL of the same place through a proxy. NotImplementedError where the servers tell where they are."""
    parts = urlsplit(url)
    options = {name.lower(): value.lower() for name, value in parse_qsl(parts.query)}
    if parts.scheme.lower().endswith("+srv") or "," in parts.netloc:
        raise NotImplementedError("servers of a replica set tell their clients where they are, which is past a proxy")
    if "true" in (options.get("tls"), options.get("ssl")):
        raise NotImplementedError("the server's certificate names the server, and not a proxy before it")
    through = replace_hosts(url, proxy, PORT)
    if "directconnection" in options:
        return through
    # A member of a replica set would send the client to the address that it calls its own.
    sign = "&" if parts.query else "?" if parts.path else "/?"
    return f"{through}{sign}directConnection=true"
