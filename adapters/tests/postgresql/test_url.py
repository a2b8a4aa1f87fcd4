"""What a PostgreSQL URL may say, and what is refused by name and without the password (law 12)."""

from __future__ import annotations

import pytest
from opening import refused

from threadkeep.errors import InvalidURL
from threadkeep.port import open_store
from threadkeep_adapters.postgresql.url import read_url

BASE = "postgresql://ann:secret%2Fword@db.example:5433/app"


def test_a_url_alone_has_the_documented_defaults() -> None:
    place = read_url(BASE)
    assert place.dsn == f"{BASE}?application_name=threadkeep"
    assert place.shown == "db.example:5433/app"
    assert (place.schema, place.connections, place.prepared) == ("threadkeep", 10, "auto")
    assert (place.timeout, place.connect_timeout, place.pool_timeout) == (30, 10, 10)


def test_options_of_the_store_are_read_and_those_of_the_driver_passed_on() -> None:
    place = read_url(
        f"{BASE}?schema=Own%20one&connections=3&timeout=2.5&connect_timeout=1&pool_timeout=.5&prepared=no"
        "&sslmode=verify-full&sslrootcert=/etc/ca%26b.pem&application_name=mine"
    )
    assert (place.schema, place.connections, place.prepared) == ("Own one", 3, "no")
    assert (place.timeout, place.connect_timeout, place.pool_timeout) == (2.5, 1, 0.5)
    assert place.dsn == f"{BASE}?sslmode=verify-full&sslrootcert=%2Fetc%2Fca%26b.pem&application_name=mine"


@pytest.mark.parametrize("url", ["postgresql:///app", "postgresql://ann@[::1]:5433/app", "postgresql://a:1,b:2/app"])
def test_forms_of_libpq_are_taken(url: str) -> None:
    assert read_url(url).dsn == f"{url}?application_name=threadkeep"


def test_postgres_is_the_same_scheme() -> None:
    assert open_store(BASE.replace("postgresql:", "postgres:")).store.place == read_url(BASE)  # type: ignore[attr-defined]  # of this store


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (f"{BASE}?shema=x", "'shema'"),
        (f"{BASE}?password=x", "password: write it before the host"),
        (f"{BASE}?schema=a&schema=b", "schema twice"),
        (f"{BASE}?schema=", "schema"),
        (f"{BASE}?schema={'x' * 64}", "63 bytes"),
        (f"{BASE}?schema=pg_catalog", "PostgreSQL's own"),
        (f"{BASE}?connections=0", "connections"),
        (f"{BASE}?connections=ten", "'ten'"),
        (f"{BASE}?timeout=0", "timeout"),
        (f"{BASE}?connect_timeout=nan", "connect_timeout"),
        (f"{BASE}?pool_timeout=soon", "'soon'"),
        (f"{BASE}?prepared=maybe", "'maybe'"),
        (f"{BASE}/more", "one name"),
        (f"{BASE}#part", "%23"),
        ("postgresql://ann:secret%2Fword@db.example:port/app", "'port'"),
        ("postgresql://ann:secret%2Fword@db.example:70000/app", "'70000'"),
    ],
)
def test_what_a_url_may_not_say_is_named_and_the_password_is_not(given: str, named: str) -> None:
    text = refused(InvalidURL, given)
    assert named in text
    assert "secret" not in text
