"""What `mongodb://` URLs say, and which are refused without repeating a password."""

from __future__ import annotations

import pytest
from opening import refused

from threadkeep.errors import InvalidURL
from threadkeep_adapters.mongo.url import DRIVER_OPTIONS, read_url


def test_a_url_says_place_and_options() -> None:
    place = read_url("mongodb://ann:s%2Fecret@one:1,two:2/chat?replicaSet=rs0&prefix=bot&buckets=8&maxPoolSize=3")
    assert (place.database, place.prefix, place.buckets) == ("chat", "bot", 8)
    assert place.url == "mongodb://ann:s%2Fecret@one:1,two:2/chat?replicaSet=rs0&maxPoolSize=3"
    assert "maxPoolSize" not in place.options
    assert {"maxPoolSize", *place.options} == {option.name for option in DRIVER_OPTIONS}
    assert place.options["socketTimeoutMS"] == 10_000
    assert "ecret" not in repr(place)


def test_the_database_has_a_default() -> None:
    for url in ("mongodb://host", "mongodb://host/", "mongodb://host/?prefix=bot"):
        assert read_url(url).database == "threadkeep"


def test_a_url_of_the_dns_is_not_looked_up_yet() -> None:
    assert read_url("mongodb+srv://ann:secret@cluster.example.com/chat").url.startswith("mongodb+srv://ann")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mongodb://", "cannot be read"),
        ("mongodb://host:port/", "cannot be read"),
        ("mongodb://host/a.b", "no database of the name"),
        ("mongodb://host/chat#part", "has no #"),
        ("mongodb://host/?w=1", "acknowledged by a majority"),
        ("mongodb://host/?readPreference=secondary", "reads go to the primary"),
        ("mongodb://host/?timeoutMS=5", "socketTimeoutMS"),
        ("mongodb://host/?buckets=0", "1 to 256"),
        ("mongodb://host/?buckets=many", "1 to 256"),
        ("mongodb://host/?prefix=", "prefix"),
        ("mongodb://host/?prefix=a$b", "prefix"),
        ("mongodb://host/?prefix=a&prefix=b", "twice"),
        ("mongodb://host/?socketTimeoutMS=soon", "socketTimeoutMS"),
        ("mongodb://ann:secret@host/?nonsense=1", "nonsense"),
        ("mongodb://host/?tlsCertificateKeyFilePassword=secret&nonsense=1", "nonsense"),
        ("mongodb://host:port/?maxPoolSize=5", "cannot be read (Port"),
    ],
)
def test_what_a_url_cannot_say_is_refused_by_name(url: str, said: str) -> None:
    text = refused(InvalidURL, url)
    assert said in text
    assert "secret" not in text
