"""What the URL of a DynamoDB store says, and how it is refused."""

from __future__ import annotations

import pytest
from opening import refused

from threadkeep.errors import InvalidURL
from threadkeep_adapters.dynamodb.url import Place, read_url

SECRET = "s3cr3t-of-the-test"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("dynamodb://eu-central-1/threads", Place("eu-central-1", "threads")),
        ("dynamodb://local/a.b-c_D?create=no", Place("local", "a.b-c_D", create=False)),
        ("dynamodb://us-east-1/threads?profile=work", Place("us-east-1", "threads", profile="work")),
        (
            "dynamodb://us-east-1/threads?endpoint=http%3A%2F%2F127.0.0.1%3A8000",
            Place("us-east-1", "threads", "http://127.0.0.1:8000"),
        ),
        (
            "dynamodb://us-east-1/threads?endpoint=http://127.0.0.1:8000",
            Place("us-east-1", "threads", "http://127.0.0.1:8000"),
        ),
        (
            "dynamodb://us-east-1/threads?timeout=0.5&connect_timeout=2&connections=3",
            Place("us-east-1", "threads", timeout=0.5, connect_timeout=2, connections=3),
        ),
    ],
)
def test_a_url_names_a_place(url: str, place: Place) -> None:
    assert read_url(url) == place


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("", "begins with a region"),
        ("EU/threads", "begins with a region"),
        ("eu-central-1", "names a table"),
        ("eu-central-1/ab", "names a table of 3 to 255"),
        ("eu-central-1/a/b/c", "names a table"),
        ("eu-central-1/thr%20eads", "names a table"),
        ("eu-central-1/threads#", "no #"),
        ("eu-central-1/threads?timout=1", "no option 'timout'; known are endpoint"),
        ("eu-central-1/threads?timeout=1&timeout=2", "timeout twice"),
        ("eu-central-1/threads?timeout=soon", "timeout is a number of seconds from 0.001 to 3600, not 'soon'"),
        ("eu-central-1/threads?timeout=nan", "timeout is a number"),
        ("eu-central-1/threads?connect_timeout=0", "connect_timeout is a number"),
        ("eu-central-1/threads?connections=1.5", "connections is a whole number from 1 to 1000,"),
        ("eu-central-1/threads?connections=0", "connections is a whole number"),
        ("eu-central-1/threads?create=perhaps", "create is yes or no, not 'perhaps'"),
        ("eu-central-1/threads?profile=", "profile is a name; leave it out"),
        ("eu-central-1/threads?endpoint=localhost:8000", "endpoint is a URL of http or https"),
        ("eu-central-1/threads?endpoint=http://", "endpoint is a URL of http or https"),
        ("eu-central-1/threads?endpoint=http://host:port", "endpoint is a URL of http or https"),
        (f"eu-central-1/threads?endpoint=http://key:{SECRET}@host", "endpoint is a URL of http or https"),
        (f"key:{SECRET}@eu-central-1/threads", "no credentials"),
        (f"[{SECRET}/threads", "the URL cannot be read"),
    ],
)
def test_a_url_that_says_something_else_is_refused_with_what_is_allowed(rest: str, said: str) -> None:
    text = refused(InvalidURL, f"dynamodb://{rest}")
    assert said in text
    assert SECRET not in text
