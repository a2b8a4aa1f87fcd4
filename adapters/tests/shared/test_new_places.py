"""The hooks `new_place` and `proxied`: a place of the same kind with the same options, and another way to a place."""

from __future__ import annotations

from pathlib import Path

import pytest

from threadkeep.port import new_place, proxied
from threadkeep_adapters.memory import url as memory
from threadkeep_adapters.mongo import url as mongo
from threadkeep_adapters.postgresql import url as postgresql
from threadkeep_adapters.redis import url as redis
from threadkeep_adapters.sqlite import url as sqlite


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:secret%40x@host:5433/db?sslmode=require&schema=own&timeout=3",
        "postgresql:///db?host=%2Ftmp",
        "redis://host/1?prefix=own&timeout=3",
        "redis+cluster://one,two?tls=yes",
        "mongodb://host/db?prefix=own&appName=me",
    ],
)
def test_a_new_place_differs_in_one_option(url: str) -> None:
    place = new_place(url)
    assert place is not None
    assert new_place(url) != place
    names = {"postgresql": "schema", "redis": "prefix", "redis+cluster": "prefix", "mongodb": "prefix"}
    name = names[url.partition(":")[0]]
    kept = [part for part in url.partition("?")[2].split("&") if not part.startswith(f"{name}=")]
    start, _, query = place.partition("?")
    assert start == url.partition("?")[0]
    assert query.split("&")[:-1] == kept
    assert query.split("&")[-1].startswith(f"{name}=")


def test_a_new_place_is_one_that_its_store_takes() -> None:
    assert postgresql.read_url(postgresql.new_url(f"postgresql://h/d?schema={'é' * 30}")).schema.startswith("é" * 20)
    assert redis.read_url(redis.new_url("redis://h")).prefix.startswith("threadkeep-")
    assert mongo.read_url(mongo.new_url(f"mongodb://h/d?prefix={'p' * 60}")).prefix.startswith("p" * 40)
    made = new_place("memory://a%20b")
    assert made is not None
    assert memory.read_url(made).startswith("a b-")
    assert new_place("memory://a%20b") != made


def test_a_new_file_has_the_same_options() -> None:
    made = new_place("sqlite:////tmp/x.db?synchronous=normal")
    assert made is not None
    place = sqlite.read_url(made)
    assert place.synchronous == "normal"
    assert not Path(place.path).exists()
    assert Path(place.path).parent.is_dir()


def proxy(host: str, port: int) -> tuple[str, int]:
    """A proxy that says in its address to which server it leads."""
    return f"proxy-of-{host.replace(':', '-')}", port + 1


@pytest.mark.parametrize(
    ("url", "through"),
    [
        (
            "postgresql://ann:secret%40x@host:5433/db?sslmode=require&schema=own",
            "postgresql://ann:secret%40x@proxy-of-host:5434/db?sslmode=require&schema=own",
        ),
        ("postgresql://one,two:1/db", "postgresql://proxy-of-one:5433,proxy-of-two:2/db"),
        ("redis://:p@[::1]/1?prefix=own", "redis://:p@proxy-of---1:6380/1?prefix=own"),
        ("rediss://host?tls_verify=none", "rediss://proxy-of-host:6380?tls_verify=none"),
        ("mongodb://host", "mongodb://proxy-of-host:27018/?directConnection=true"),
        ("mongodb://host/db?prefix=own", "mongodb://proxy-of-host:27018/db?prefix=own&directConnection=true"),
        ("mongodb://host/?directConnection=false", "mongodb://proxy-of-host:27018/?directConnection=false"),
        (
            "dynamodb://eu-central-1/table?endpoint=http%3A%2F%2Fhost%3A8000&timeout=3",
            "dynamodb://eu-central-1/table?timeout=3&endpoint=http%3A%2F%2Fproxy-of-host%3A8001",
        ),
    ],
)
def test_a_place_is_reached_through_proxies_with_the_same_options(url: str, through: str) -> None:
    assert proxied(url, proxy) == through


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql:///db?host=%2Ftmp", "no host"),
        ("postgresql://host/db?sslmode=verify-full", "certificate"),
        ("redis+cluster://one,two", "cluster"),
        ("rediss://host", "certificate"),
        ("mongodb+srv://host", "replica set"),
        ("mongodb://one,two", "replica set"),
        ("mongodb://host/?tls=true", "certificate"),
        ("dynamodb://eu-central-1/table", "certificate"),
    ],
)
def test_a_place_without_a_way_through_a_proxy_says_why(url: str, reason: str) -> None:
    with pytest.raises(NotImplementedError, match=reason):
        proxied(url, proxy)


def test_a_store_without_a_server_has_no_way_through_a_proxy() -> None:
    assert proxied("memory://place", proxy) is None
    assert proxied("sqlite:////tmp/x.db", proxy) is None
