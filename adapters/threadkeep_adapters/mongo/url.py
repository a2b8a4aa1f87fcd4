"""Where a MongoDB store is, as its URL says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from threadkeep.errors import InvalidURL

FORM: Final = "mongodb://[USER:PASSWORD@]HOST[:PORT][,HOST:PORT...]/[DATABASE][?OPTIONS]"

DATABASE: Final = "threadkeep"
PREFIX: Final = "threadkeep"
MAX_BUCKETS: Final = 256

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

DEFAULTS: Final[dict[str, Any]] = {
    "sockettimeoutms": 10_000,
    "connecttimeoutms": 5_000,
    "serverselectiontimeoutms": 5_000,
    "waitqueuetimeoutms": 10_000,
    "maxpoolsize": 10,
}
"""Where the URL does not say otherwise, so that every wait is bounded."""


@dataclass(frozen=True, slots=True)
class Place:
    """A deployment, a database in it, and the collections of one store."""

    url: str = field(repr=False)
    """As PyMongo takes it; it may hold a password."""
    database: str = DATABASE
    prefix: str = PREFIX
    """With what the names of the store's collections begin."""
    buckets: int | None = None
    """Over how many collections the commits of resources are spread, where the store is made now."""
    options: dict[str, Any] = field(default_factory=dict)
    """Defaults for what the URL leaves open, as the client takes them."""


def read_url(url: str) -> Place:
    """The place that a URL names, or InvalidURL, which does not repeat the URL, since it may hold a password."""
    if "#" in url:
        raise InvalidURL("a MongoDB URL has no #; write it as %23 where it belongs to a name or password")
    parts = urlsplit(url)
    own, theirs = _options(parts.query)
    database = unquote(parts.path.removeprefix("/"))
    if any(sign in database for sign in '/\\. "$*<>:|?\x00') or len(database.encode()) > 63:
        raise InvalidURL(f'MongoDB takes no database of the name {database!r}; it has up to 63 bytes and no /\\. "$')
    path = "/" if not database else parts.path
    scheme = parts.scheme.lower()
    cleaned = urlunsplit((scheme, parts.netloc, path, urlencode(theirs), ""))
    given = {name.lower() for name, _ in theirs}
    _check(cleaned, theirs, is_srv=scheme.endswith("+srv"))
    return Place(
        url=cleaned,
        database=database or DATABASE,
        prefix=_prefix(own),
        buckets=_buckets(own),
        options={name: value for name, value in DEFAULTS.items() if name not in given},
    )


def _check(url: str, options: list[tuple[str, str]], *, is_srv: bool) -> None:
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


def _options(query: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    own: dict[str, str] = {}
    theirs = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in ("prefix", "buckets"):
            if name in own:
                raise InvalidURL(f"a MongoDB URL gives {name} twice")
            own[name] = value
        elif name.lower() in _REFUSED:
            raise InvalidURL(f"leave out {name}: {_REFUSED[name.lower()]}")
        else:
            theirs.append((name, value))
    return own, theirs


def _prefix(options: dict[str, str]) -> str:
    prefix = options.get("prefix", PREFIX)
    if not prefix or len(prefix.encode()) > 60 or set(prefix) & {"$", "\x00"} or prefix.startswith((".", "system.")):
        raise InvalidURL(
            f"prefix is what names of collections begin with, of 1 to 60 bytes, without $, and not {prefix!r}"
        )
    return prefix


def _buckets(options: dict[str, str]) -> int | None:
    given = options.get("buckets")
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and 1 <= int(given) <= MAX_BUCKETS):
        raise InvalidURL(f"buckets is a whole number from 1 to {MAX_BUCKETS}, not {given!r}")
    return int(given)
