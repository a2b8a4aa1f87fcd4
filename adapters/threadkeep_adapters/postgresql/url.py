"""Where a PostgreSQL store is and how to reach it, as its URL says it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

from threadkeep.errors import InvalidURL, StoreError

FORM: Final = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"

SECONDS: Final = ("timeout", "connect_timeout", "pool_timeout")
MAX_SECONDS: Final = 86_400
"""A day."""

MAX_POOL: Final = 1000
"""Connections; far more than a server of default settings takes (max_connections = 100)."""

MAX_NAME: Final = 63
"""Bytes of a name that PostgreSQL tells apart (NAMEDATALEN - 1)."""

DRIVER_OPTIONS: Final = frozenset(
    {
        "application_name",
        "gsslib",
        "host",
        "krbsrvname",
        "port",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslnegotiation",
        "sslrootcert",
        "target_session_attrs",
    }
)
"""Options that the driver reads from a URL, by the names of libpq."""

FILES: Final = ("sslcert", "sslcrl", "sslkey", "sslrootcert")
"""Options of the driver that name a file."""

Prepared: TypeAlias = Literal["auto", "yes", "no"]


@dataclass(frozen=True, slots=True)
class Place:
    """A database, the schema in it, and how to use them."""

    dsn: str
    """The URL as the driver takes it; it may hold a password."""
    shown: str
    """The host and database, for errors; no password."""
    schema: str = "threadkeep"
    pool_size: int = 10
    """Connections at most, for each event loop that uses the store."""
    timeout: float = 30.0
    """Seconds that a statement may take."""
    connect_timeout: float = 10.0
    """Seconds that making a connection may take."""
    pool_timeout: float = 10.0
    """Seconds that a call waits for a connection when all are taken."""
    prepared: Prepared = "auto"
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
    own: dict[str, str] = {}
    driver: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in own or name in driver:
            raise InvalidURL(f"the URL gives {name} twice")
        if name in DRIVER_OPTIONS:
            driver[name] = value
        elif name in ("schema", "pool_size", "prepared", *SECONDS):
            own[name] = value
        elif name in ("password", "user"):
            raise InvalidURL(f"the URL gives {name} as an option; write it before the host, as in {FORM}")
        else:
            known = ", ".join(("schema", "pool_size", "prepared", *SECONDS, *sorted(DRIVER_OPTIONS)))
            raise InvalidURL(f"the URL has the unknown option {name!r}; known are {known}")
    driver.setdefault("application_name", "threadkeep")
    prepared = own.get("prepared", "auto")
    if prepared not in ("auto", "yes", "no"):
        raise InvalidURL(f"prepared is auto, yes or no, not {prepared!r}")
    return Place(
        f"postgresql://{parts.netloc}{parts.path}?{urlencode(driver)}",
        f"{where or driver.get('host') or 'the default host'}{parts.path}",
        _schema(own.get("schema", "threadkeep")),
        _pool_size(own.get("pool_size", "10")),
        _seconds("timeout", own.get("timeout", "30")),
        _seconds("connect_timeout", own.get("connect_timeout", "10")),
        _seconds("pool_timeout", own.get("pool_timeout", "10")),
        cast(Prepared, prepared),
        tuple((name, driver[name]) for name in FILES if name in driver),
    )


def _check_host(host: str) -> None:
    _, _, after = host.rpartition("]")  # an IPv6 address has colons of its own, in brackets
    port = after.partition(":")[2]
    if port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 2**16):
        raise InvalidURL(f"a port is a number from 1 to 65535, not {port!r}; write {FORM}, with : / @ in names as %XX")


def _schema(name: str) -> str:
    if not name or "\0" in name or len(name.encode()) > MAX_NAME:
        raise InvalidURL(f"schema is a name of 1 to {MAX_NAME} bytes, not {name!r}")
    if name.startswith("pg_") or name == "information_schema":
        raise InvalidURL(f"schema {name!r} is PostgreSQL's own; name another")
    return name


def _pool_size(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= MAX_POOL):
        raise InvalidURL(f"pool_size is a number of connections from 1 to {MAX_POOL}, not {text!r}")
    return int(text)


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_SECONDS:
        raise InvalidURL(f"{name} is a number of seconds above 0 and up to {MAX_SECONDS}, not {text!r}")
    return seconds
