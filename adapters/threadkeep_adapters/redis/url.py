"""Where a Redis store is, as its URL says it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from threadkeep.errors import InvalidURL
from threadkeep.port import replace_hosts
from threadkeep_adapters.options import (
    YES_OR_NO,
    Given,
    choice,
    connection_count,
    read_options,
    seconds,
    text,
    with_value,
)

FORMS: Final = "redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], rediss://... or redis+cluster://HOST:PORT[,HOST:PORT]"

PORT: Final = 6379

Durability: TypeAlias = Literal["required", "none"]

_DURABILITY: Final[Mapping[str, Durability]] = {"required": "required", "none": "none"}

_CHECKS: Final = {"full": ("required", True), "ca": ("required", False), "none": ("none", False)}
"""What is asked of the server's certificate, and whether its name is checked, as redis-py's SSLConnection has it."""

PREFIX: Final = text(
    "prefix",
    "threadkeep",
    "with what all keys begin; stores with different prefixes share a database and nothing else",
)
TIMEOUT: Final = seconds("timeout", 10.0, "how long a call waits for an answer, and before that for a free connection")
CONNECT_TIMEOUT: Final = seconds("connect_timeout", 5.0, "how long a call waits for a new connection")
CONNECTIONS: Final = connection_count("connections to one server, for each event loop, at most")
DURABILITY: Final = choice(
    "durability", "required", _DURABILITY, "what is asked of the server when the store is opened, see below"
)
TLS: Final = choice("tls", "no", YES_OR_NO, "TLS in a cluster; a single server's scheme says it")
TLS_CA: Final = text(
    "tls_ca", None, "the certificates of the authority that signed the server's", column="a file", unset="the system's"
)
TLS_CERT: Final = text("tls_cert", None, "the client's certificate", column="a file", unset="none")
TLS_KEY: Final = text("tls_key", None, "the key of the client's certificate", column="a file", unset="none")
TLS_VERIFY: Final = choice(
    "tls_verify",
    "full",
    _CHECKS,
    "whether the server's certificate and its name are checked, only the certificate, or nothing",
)

OPTIONS: Final = (
    PREFIX,
    TIMEOUT,
    CONNECT_TIMEOUT,
    CONNECTIONS,
    DURABILITY,
    TLS,
    TLS_CA,
    TLS_CERT,
    TLS_KEY,
    TLS_VERIFY,
)

_TLS_FILES: Final = ((TLS_CA, "ssl_ca_certs"), (TLS_CERT, "ssl_certfile"), (TLS_KEY, "ssl_keyfile"))
"""Options that name a file, and what redis-py's SSLConnection calls them."""


@dataclass(frozen=True, slots=True)
class Place:
    """A server or a cluster, and how to use it."""

    seeds: tuple[tuple[str, int], ...]
    """Host and port; in a cluster, of one or more of its nodes."""
    cluster: bool = False
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    prefix: str = PREFIX.default
    """With what all keys begin."""
    timeout: float = TIMEOUT.default
    """How long a call waits for an answer, and before that for a free connection, in seconds each."""
    connect_timeout: float = CONNECT_TIMEOUT.default
    """How long a call waits for a new connection, in seconds."""
    connections: int = CONNECTIONS.default
    """At most so many connections to one server, for each event loop."""
    durability: Durability = DURABILITY.default
    tls: bool = False
    tls_options: tuple[tuple[str, Any], ...] = ()
    """As redis-py's SSLConnection takes them."""


def read_url(url: str) -> Place:
    """The place that a URL names, or InvalidURL, which does not repeat the URL, since it may hold a password."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    cluster = scheme == "redis+cluster"
    if parts.fragment or url.endswith("#"):
        raise InvalidURL("a Redis URL has no #; write it as %23 where it belongs to a name or password")
    login, _, hosts = parts.netloc.rpartition("@")
    username, colon, password = login.partition(":")
    given = read_options(parts.query, OPTIONS)
    if TLS in given and not cluster:
        raise InvalidURL("tls is an option of redis+cluster://; for a single server write rediss://")
    use_tls = scheme == "rediss" or given[TLS]
    return Place(
        seeds=tuple(_seed(host) for host in hosts.split(",")) if cluster else (_seed(hosts),),
        cluster=cluster,
        database=_database(parts.path, cluster=cluster),
        username=unquote(username) or None,
        password=unquote(password) if colon else None,
        prefix=given[PREFIX],
        timeout=given[TIMEOUT],
        connect_timeout=given[CONNECT_TIMEOUT],
        connections=given[CONNECTIONS],
        durability=given[DURABILITY],
        tls=use_tls,
        tls_options=_tls_options(given, use_tls=use_tls),
    )


def _seed(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidURL(f"the host of a Redis URL cannot be read ({error}); write {FORMS}") from None
    if not host:
        raise InvalidURL(f"a Redis URL names a host; write {FORMS}")
    return unquote(host), PORT if port is None else port


def _database(path: str, *, cluster: bool) -> int:
    name = path.strip("/")
    if not name:
        return 0
    if cluster:
        raise InvalidURL("a Redis cluster has no databases with numbers; leave out what follows the host")
    if not (name.isascii() and name.isdigit()):
        raise InvalidURL(f"the database in a Redis URL is a number, as in redis://host/0, not {name!r}")
    return int(name)


def _tls_options(given: Given, *, use_tls: bool) -> tuple[tuple[str, Any], ...]:
    found: list[tuple[str, Any]] = [(argument, given[option]) for option, argument in _TLS_FILES if option in given]
    if TLS_VERIFY in given:
        certificate, name = given[TLS_VERIFY]
        found += [("ssl_cert_reqs", certificate), ("ssl_check_hostname", name)]
    if found and not use_tls:
        raise InvalidURL("options that begin with tls_ need rediss://, or tls=yes in a cluster")
    return tuple(found)


def new_url(url: str) -> str:
    """The URL of a place beside that of `url` where nothing is yet."""
    return with_value(url, PREFIX, f"{read_url(url).prefix}-{secrets.token_hex(6)}")


def proxied_url(url: str, proxy: Callable[[str, int], tuple[str, int]]) -> str:
    """The URL of the same place through a proxy. NotImplementedError where the server would tell."""
    place = read_url(url)
    if place.cluster:
        raise NotImplementedError("a cluster tells its clients where its nodes are, which is past a proxy")
    if place.tls and not {("ssl_cert_reqs", "none"), ("ssl_check_hostname", False)} & set(place.tls_options):
        raise NotImplementedError("the server's certificate names the server, and not a proxy before it")
    return replace_hosts(url, proxy, PORT)
