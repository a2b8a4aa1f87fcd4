"""The hook `new_place`: a place of the same kind, with the same options, where nothing is yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from threadkeep.port import new_place
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
