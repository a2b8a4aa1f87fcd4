"""What the URL of a Redis store says, and how it is refused."""

from __future__ import annotations

import pytest
from opening import refused

from threadkeep.errors import InvalidURL
from threadkeep.port import open_store
from threadkeep_adapters.redis.url import Place, read_url

SECRET = "s3cr3t-of-the-test"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://host", Place((("host", 6379),))),
        ("redis://host:7000/3", Place((("host", 7000),), database=3)),
        ("redis://[::1]:7000", Place((("::1", 7000),))),
        ("redis://:p%40ss@host", Place((("host", 6379),), password="p@ss")),
        ("redis://us%3Aer:pass@host", Place((("host", 6379),), username="us:er", password="pass")),
        ("redis+cluster://a:1,b:2,c", Place((("a", 1), ("b", 2), ("c", 6379)), cluster=True)),
        ("redis+cluster://a?tls=yes", Place((("a", 6379),), cluster=True, tls=True)),
        (
            "rediss://h?tls_ca=ca.pem&tls_verify=ca",
            Place(
                (("h", 6379),),
                tls=True,
                tls_options=(("ssl_ca_certs", "ca.pem"), ("ssl_cert_reqs", "required"), ("ssl_check_hostname", False)),
            ),
        ),
        (
            "redis://h?prefix=a%3Ab&timeout=0.5&connect_timeout=2&connections=3&durability=none",
            Place((("h", 6379),), prefix="a:b", timeout=0.5, connect_timeout=2, connections=3, durability="none"),
        ),
    ],
)
def test_a_url_names_a_place(url: str, place: Place) -> None:
    assert read_url(url) == place


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("", "names a host"),
        ("host:port", "cannot be read"),
        ("host:99999", "cannot be read"),
        ("host/name", "is a number"),
        ("host/0#", "no #"),
        ("host?timout=1", "no option 'timout'; known are prefix"),
        ("host?timeout=1&timeout=2", "timeout twice"),
        ("host?timeout=soon", "timeout is a number of seconds from 0.001 to 3600, not 'soon'"),
        ("host?timeout=nan", "timeout is a number"),
        ("host?connect_timeout=0", "connect_timeout is a number"),
        ("host?connections=1.5", "connections is a whole number from 1 to 1000,"),
        ("host?connections=0", "connections is a whole number"),
        ("host?prefix=", "prefix is a text that is not empty"),
        ("host?durability=some", "durability is required or none"),
        ("host?tls=yes", "write rediss://"),
        ("host?tls_ca=ca.pem", "need rediss://"),
    ],
)
def test_what_cannot_be_read_is_named_and_no_password_shown(rest: str, said: str) -> None:
    text = refused(InvalidURL, f"redis://user:{SECRET}@{rest}")
    assert said in text
    assert SECRET not in text


def test_a_cluster_has_no_numbered_databases() -> None:
    with pytest.raises(InvalidURL, match="no databases"):
        open_store(f"redis+cluster://:{SECRET}@host/1")


def test_a_place_shows_no_password() -> None:
    assert SECRET not in repr(read_url(f"redis://:{SECRET}@host"))
