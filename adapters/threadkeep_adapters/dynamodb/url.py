"""Where a DynamoDB store is, as its URL says it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from threadkeep.errors import InvalidURL
from threadkeep.port import replace_hosts
from threadkeep_adapters.options import YES_OR_NO, choice, connection_count, read_options, seconds, text, with_value

FORM: Final = "dynamodb://REGION/TABLE"


def _is_endpoint(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and "@" not in parts.netloc


ENDPOINT: Final = text(
    "endpoint",
    None,
    "another service with this interface, `endpoint=http%3A%2F%2F127.0.0.1%3A8000` for DynamoDB Local",
    values="a URL of http or https with a host, as in endpoint=http://127.0.0.1:8000",
    column="a URL",
    fits=_is_endpoint,
    unset="AWS's of the region",
    is_shown=False,
)
PROFILE: Final = text(
    "profile",
    None,
    "a profile of AWS's shared configuration",
    values="a name; leave it out to use what AWS's usual chain finds",
    column="a name",
    unset="none",
)
CREATE: Final = choice("create", "yes", YES_OR_NO, "whether opening the store makes a table that is missing")
TIMEOUT: Final = seconds(
    "timeout", 10.0, "how long a call waits for a free connection, then goes on trying, and waits for one answer"
)
CONNECT_TIMEOUT: Final = seconds("connect_timeout", 5.0, "how long a call waits for a new connection")
CONNECTIONS: Final = connection_count("requests at once; each has a thread and a connection of its own")

OPTIONS: Final = (ENDPOINT, PROFILE, CREATE, TIMEOUT, CONNECT_TIMEOUT, CONNECTIONS)

_TABLE: Final = re.compile(r"[A-Za-z0-9_.\-]{3,255}")
"""https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html"""
_REGION: Final = re.compile(r"[a-z0-9\-]{1,63}")


@dataclass(frozen=True, slots=True)
class Place:
    """A table, and how to use it."""

    region: str
    table: str
    endpoint: str | None = ENDPOINT.default
    """The URL of another service with this interface; None for AWS's own of the region."""
    profile: str | None = PROFILE.default
    """A profile of AWS's shared configuration; None for what the usual chain finds."""
    create: bool = CREATE.default
    """Whether opening makes the table where it is missing."""
    timeout: float = TIMEOUT.default
    """How long a verb goes on trying, and a request waits for its answer, in seconds."""
    connect_timeout: float = CONNECT_TIMEOUT.default
    connections: int = CONNECTIONS.default
    """At most so many requests at once."""


def read_url(url: str) -> Place:
    """The place that a URL names, or InvalidURL, which does not repeat the URL."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise InvalidURL("a DynamoDB URL has no credentials; they come from AWS's usual chain, or from ?profile=NAME")
    if parts.fragment or url.endswith("#"):
        raise InvalidURL("a DynamoDB URL has no #; write it as %23 in an option")
    region, table = unquote(parts.netloc), unquote(parts.path).removeprefix("/")
    if not _REGION.fullmatch(region):
        raise InvalidURL(f"a DynamoDB URL begins with a region, as in dynamodb://eu-central-1/threads, not {region!r}")
    if not _TABLE.fullmatch(table):
        raise InvalidURL(
            f"a DynamoDB URL names a table of 3 to 255 letters, digits, '_', '-' and '.' ({FORM}), not {table!r}"
        )
    given = read_options(parts.query, OPTIONS)
    return Place(
        region,
        table,
        given[ENDPOINT],
        given[PROFILE],
        given[CREATE],
        given[TIMEOUT],
        given[CONNECT_TIMEOUT],
        given[CONNECTIONS],
    )


def proxied_url(url: str, proxy: Callable[[str, int], tuple[str, int]]) -> str:
    """The URL of the same table through a proxy. NotImplementedError where the service is reached by TLS."""
    endpoint = read_url(url).endpoint
    if endpoint is None or urlsplit(endpoint).scheme != "http":
        raise NotImplementedError("the service's certificate names the service, and not a proxy before it")
    return with_value(url, ENDPOINT, replace_hosts(endpoint, proxy, 80))
