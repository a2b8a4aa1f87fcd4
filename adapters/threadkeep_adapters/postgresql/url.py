"""Where a PostgreSQL store is and how to reach it, as its URL says it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import parse_qs, urlencode, urlsplit

from threadkeep.errors import InvalidURL, StoreError
from threadkeep.port import replace_hosts
from threadkeep_adapters.options import DriverOption, choice, connection_count, read_options, seconds, text, with_value

FORM: Final = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"

PORT: Final = 5432

MAX_NAME: Final = 63
"""Bytes of a name that PostgreSQL tells apart (NAMEDATALEN - 1)."""

Prepared: TypeAlias = Literal["auto", "yes", "no"]

_PREPARED: Final[Mapping[str, Prepared]] = {"auto": "auto", "yes": "yes", "no": "no"}


def _is_schema(name: str) -> bool:
    is_own = name.startswith("pg_") or name == "information_schema"
    return 0 < len(name.encode()) <= MAX_NAME and "\0" not in name and not is_own


SCHEMA: Final = text(
    "schema",
    "threadkeep",
    "the schema that holds the tables; each is a store of its own",
    values=f"a name of 1 to {MAX_NAME} bytes, and none of PostgreSQL's own",
    column=f"a name of up to {MAX_NAME} bytes",
    fits=_is_schema,
)
CONNECTIONS: Final = connection_count("connections at most, in each process and event loop that uses the store")
POOL_TIMEOUT: Final = seconds(
    "pool_timeout", 10.0, "how long a call waits for a connection when all are in use; then it is `StoreUnavailable`"
)
CONNECT_TIMEOUT: Final = seconds(
    "connect_timeout", 10.0, "how long a call waits for a new connection; then it is `StoreUnavailable`"
)
TIMEOUT: Final = seconds(
    "timeout",
    30.0,
    "how long a statement may take; then reading is `StoreUnavailable` and writing `OutcomeUnknown`, and the server is "
    "told to give it up",
)
PREPARED: Final = choice("prepared", "auto", _PREPARED, "whether statements stay prepared on the server, see below")


def _of_libpq(name: str, meaning: str, unset: str = "") -> DriverOption:
    return DriverOption(name, meaning, column="as libpq has it", unset=unset)


FILES: Final = (
    _of_libpq("sslrootcert", "a file: the certificates of the authority that signed the server's"),
    _of_libpq("sslcert", "a file: the client's certificate"),
    _of_libpq("sslkey", "a file: the key of the client's certificate"),
    _of_libpq("sslcrl", "a file: certificates that are revoked"),
)
"""Options of the driver that name a file."""

OPTIONS: Final = (
    SCHEMA,
    CONNECTIONS,
    POOL_TIMEOUT,
    CONNECT_TIMEOUT,
    TIMEOUT,
    PREPARED,
    _of_libpq(
        "sslmode",
        "with `verify-full` and `sslrootcert` the server has to prove who it is",
        "`prefer`",
    ),
    *FILES,
    _of_libpq("sslnegotiation", "whether TLS begins at once or is asked for first"),
    _of_libpq("ssl_min_protocol_version", "the oldest version of TLS that is taken"),
    _of_libpq("ssl_max_protocol_version", "the newest version of TLS that is taken"),
    _of_libpq("application_name", "how the server's own lists name the connections", "`threadkeep`"),
    _of_libpq("target_session_attrs", "of several hosts, which kind of server is taken"),
    _of_libpq("host", "the host, where it does not stand before the database, such as the folder of a socket"),
    _of_libpq("port", "the port, likewise"),
    _of_libpq("krbsrvname", "the server's name in Kerberos"),
    _of_libpq("gsslib", "the library for Kerberos"),
)

_REFUSED: Final = dict.fromkeys(("password", "user"), f"write it before the host, as in {FORM}")


@dataclass(frozen=True, slots=True)
class Place:
    """A database, the schema in it, and how to use them."""

    dsn: str
    """The URL as the driver takes it; it may hold a password."""
    shown: str
    """The host and database, for errors; no password."""
    schema: str = SCHEMA.default
    connections: int = CONNECTIONS.default
    """At most so many, for each event loop that uses the store."""
    timeout: float = TIMEOUT.default
    """Seconds that a statement may take."""
    connect_timeout: float = CONNECT_TIMEOUT.default
    """Seconds that making a connection may take."""
    pool_timeout: float = POOL_TIMEOUT.default
    """Seconds that a call waits for a connection when all are taken."""
    prepared: Prepared = PREPARED.default
    """Whether statements are kept prepared on the server; auto: unless a proxy stands between."""
    files: tuple[tuple[str, str], ...] = ()
    """Options that name files, which the driver reads when it connects."""

    def check(self) -> None:
        """Raise StoreError where a file that the URL names is not there."""
        for name, path in self.files:
            if not Path(path).is_file():
                raise StoreError(f"{name} of the URL is {path}, and there is no such file; correct the URL")


def read_url(url: str) -> Place:
    """The place that a URL names, or InvalidURL. Nothing of it is looked up."""
    parts = urlsplit(url)
    if parts.fragment or url.endswith("#"):
        raise InvalidURL(f"the URL holds a #; write it as %23 where it belongs to a name or password, as in {FORM}")
    _, _, where = parts.netloc.rpartition("@")
    for host in where.split(","):
        _check_host(host)
    if parts.path.count("/") > 1:
        raise InvalidURL(f"the database is one name, not {parts.path[1:]!r}; write {FORM}, with / as %2F in a name")
    given = read_options(parts.query, OPTIONS, refused=_REFUSED)
    driver = dict(given.drivers)
    driver.setdefault("application_name", "threadkeep")
    return Place(
        f"postgresql://{parts.netloc}{parts.path}?{urlencode(driver)}",
        f"{where or driver.get('host') or 'the default host'}{parts.path}",
        given[SCHEMA],
        given[CONNECTIONS],
        given[TIMEOUT],
        given[CONNECT_TIMEOUT],
        given[POOL_TIMEOUT],
        given[PREPARED],
        tuple((option.name, driver[option.name]) for option in FILES if option.name in driver),
    )


def _check_host(host: str) -> None:
    _, _, after = host.rpartition("]")  # an IPv6 address has colons of its own, in brackets
    port = after.partition(":")[2]
    if port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 2**16):
        raise InvalidURL(f"a port is a number from 1 to 65535, not {port!r}; write {FORM}, with : / @ in names as %XX")


def new_url(url: str) -> str:
    """The URL of a place beside that of `url` where nothing is yet."""
    schema = read_url(url).schema.encode()[: MAX_NAME - 13].decode(errors="ignore")
    return with_value(url, SCHEMA, f"{schema}_{secrets.token_hex(6)}")


def proxied_url(url: str, proxy: Callable[[str, int], tuple[str, int]]) -> str:
    """The URL of the same place through a proxy. NotImplementedError where it names no host, or the server tells."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise NotImplementedError("the URL has no host before the database, where a proxy could be named")
    if "verify-full" in parse_qs(parts.query).get("sslmode", ()):
        raise NotImplementedError("the server's certificate names the server, and not a proxy before it")
    return replace_hosts(url, proxy, PORT)
