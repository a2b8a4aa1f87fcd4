"""Where a DynamoDB store is, as its URL says it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from threadkeep.errors import InvalidURL
from threadkeep_adapters.options import number

FORM: Final = "dynamodb://REGION/TABLE"

OPTIONS: Final = (
    "endpoint=URL, profile=NAME, create=yes or no, timeout=SECONDS, connect_timeout=SECONDS, connections=COUNT"
)

MAX_SECONDS: Final = 3600.0
MAX_CONNECTIONS: Final = 1000

_TABLE: Final = re.compile(r"[A-Za-z0-9_.\-]{3,255}")
"""https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html"""
_REGION: Final = re.compile(r"[a-z0-9\-]{1,63}")


@dataclass(frozen=True, slots=True)
class Place:
    """A table, and how to use it."""

    region: str
    table: str
    endpoint: str | None = None
    """The URL of another service with this interface; None for AWS's own of the region."""
    profile: str | None = None
    """A profile of AWS's shared configuration; None for what the usual chain finds."""
    create: bool = True
    """Whether opening makes the table where it is missing."""
    timeout: float = 10.0
    """How long a verb goes on trying, and a request waits for its answer, in seconds."""
    connect_timeout: float = 5.0
    connections: int = 10
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
    options = _options(parts.query)
    endpoint = options.get("endpoint")
    if endpoint is not None and not _is_endpoint(endpoint):
        raise InvalidURL("endpoint is a URL of http or https with a host, as in endpoint=http://127.0.0.1:8000")
    create = options.get("create", "yes")
    if create not in ("yes", "no"):
        raise InvalidURL(f"create is yes or no, not {create!r}")
    profile = options.get("profile")
    if profile == "":
        raise InvalidURL("profile must not be empty; leave it out to use what AWS's usual chain finds")
    return Place(
        region,
        table,
        endpoint,
        profile,
        create == "yes",
        number("timeout", options.get("timeout"), 10.0, 0.001, MAX_SECONDS),
        number("connect_timeout", options.get("connect_timeout"), 5.0, 0.001, MAX_SECONDS),
        int(number("connections", options.get("connections"), 10, 1, MAX_CONNECTIONS, whole=True)),
    )


def _options(query: str) -> dict[str, str]:
    known = {option.partition("=")[0] for option in OPTIONS.split(", ") if "=" in option}
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise InvalidURL(f"a DynamoDB URL has no option {name!r}; known are {OPTIONS}")
        if name in given:
            raise InvalidURL(f"a DynamoDB URL gives {name} twice")
        given[name] = value
    return given


def _is_endpoint(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and "@" not in parts.netloc
