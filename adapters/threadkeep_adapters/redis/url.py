"""Where a Redis store is, as its URL says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from threadkeep.errors import InvalidURL
from threadkeep_adapters.options import number

FORMS: Final = "redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], rediss://... or redis+cluster://HOST:PORT[,HOST:PORT]"

PORT: Final = 6379

MAX_SECONDS: Final = 3600.0
MAX_CONNECTIONS: Final = 10_000

_TLS_FILES: Final = {"tls_ca": "ssl_ca_certs", "tls_cert": "ssl_certfile", "tls_key": "ssl_keyfile"}

OPTIONS: Final = (
    "prefix=TEXT, timeout=SECONDS, connect_timeout=SECONDS, connections=COUNT, durability=required or none, "
    "tls=yes or no (in a cluster), tls_ca=FILE, tls_cert=FILE, tls_key=FILE, tls_verify=full, ca or none"
)

_SWITCH: Final = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class Place:
    """A server or a cluster, and how to use it."""

    seeds: tuple[tuple[str, int], ...]
    """Host and port; in a cluster, of one or more of its nodes."""
    cluster: bool = False
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    prefix: str = "threadkeep"
    """With what all keys begin."""
    timeout: float = 10.0
    """How long a call waits for an answer, and before that for a free connection, in seconds each."""
    connect_timeout: float = 5.0
    """How long a call waits for a new connection, in seconds."""
    connections: int = 10
    """At most so many connections to one server, for each event loop."""
    durability: Literal["required", "none"] = "required"
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
    options = _options(parts.query)
    tls = options.pop("tls", None)
    if tls is not None and not cluster:
        raise InvalidURL("tls is an option of redis+cluster://; for a single server write rediss://")
    use_tls = scheme == "rediss" or (tls is not None and _choice("tls", tls, _SWITCH))
    tls_options = _tls_options(options, use_tls=use_tls)
    prefix = options.pop("prefix", "threadkeep")
    if not prefix:
        raise InvalidURL("prefix must not be empty: all keys of the store begin with it")
    return Place(
        seeds=tuple(_seed(host) for host in hosts.split(",")) if cluster else (_seed(hosts),),
        cluster=cluster,
        database=_database(parts.path, cluster=cluster),
        username=unquote(username) or None,
        password=unquote(password) if colon else None,
        prefix=prefix,
        timeout=number("timeout", options.pop("timeout", None), 10.0, 0.001, MAX_SECONDS),
        connect_timeout=number("connect_timeout", options.pop("connect_timeout", None), 5.0, 0.001, MAX_SECONDS),
        connections=int(number("connections", options.pop("connections", None), 10, 1, MAX_CONNECTIONS, whole=True)),
        durability=_choice(
            "durability", options.pop("durability", "required"), {"required": "required", "none": "none"}
        ),
        tls=use_tls,
        tls_options=tls_options,
    )


def _options(query: str) -> dict[str, str]:
    known = {option.partition("=")[0].strip() for option in OPTIONS.split(", ") if "=" in option}
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise InvalidURL(f"a Redis URL has no option {name!r}; known are {OPTIONS}")
        if name in given:
            raise InvalidURL(f"a Redis URL gives {name} twice")
        given[name] = value
    return given


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


def _choice(name: str, given: str, choices: dict[str, Any]) -> Any:
    if given not in choices:
        raise InvalidURL(f"{name} is {' or '.join(choices)}, not {given!r}")
    return choices[given]


def _tls_options(options: dict[str, str], *, use_tls: bool) -> tuple[tuple[str, Any], ...]:
    found: dict[str, Any] = {
        argument: options.pop(name) for name, argument in _TLS_FILES.items() if options.get(name) is not None
    }
    verify = options.pop("tls_verify", None)
    if verify is not None:
        checks = {"full": ("required", True), "ca": ("required", False), "none": ("none", False)}
        found["ssl_cert_reqs"], found["ssl_check_hostname"] = _choice("tls_verify", verify, checks)
    if found and not use_tls:
        raise InvalidURL("options that begin with tls_ need rediss://, or tls=yes in a cluster")
    return tuple(found.items())
