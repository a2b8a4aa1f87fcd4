"""The options of stores' URLs: all stores declare them in one way, call the same thing alike, and refuse alike."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from threadkeep.errors import InvalidURL
from threadkeep.port import open_store
from threadkeep_adapters.options import YES_OR_NO, Option, choice, count, read_options, seconds, text

SECRET = "s3cr3t-of-the-test"

BASES = {
    "dynamodb": "dynamodb://eu-central-1/threads",
    "memory": "memory://tests",
    "mongo": f"mongodb://user:{SECRET}@host/",
    "postgresql": f"postgresql://user:{SECRET}@host/app",
    "redis": f"redis://user:{SECRET}@host",
    "sqlite": "sqlite:///t.db",
}

OPTIONS: dict[str, tuple[Any, ...]] = {
    room: import_module(f"threadkeep_adapters.{room}.url").OPTIONS for room in sorted(BASES)
}
WORDS = {
    "create": "yes",
    "durability": "none",
    "endpoint": "http://host",
    "prepared": "auto",
    "synchronous": "full",
    "tls": "yes",
    "tls_verify": "full",
}
"""A value for each option that does not take 1."""

OWN = [(room, option) for room, options in OPTIONS.items() for option in options if isinstance(option, Option)]


def said(url: str) -> str:
    with pytest.raises(InvalidURL) as caught:
        open_store(url)
    assert SECRET not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("room", BASES)
def test_no_store_declares_a_name_twice(room: str) -> None:
    names = [option.name.lower() for option in OPTIONS[room]]
    assert len(set(names)) == len(names)


def test_what_stores_have_in_common_has_one_name_and_one_range() -> None:
    ranges: dict[str, set[str]] = {}
    for _, option in OWN:
        if option.name.endswith("timeout") or option.name == "connections":
            ranges.setdefault(option.values, set()).add(option.name)
    assert ranges == {
        "a number of seconds from 0.001 to 3600": {"timeout", "connect_timeout", "pool_timeout"},
        "a whole number from 1 to 1000": {"connections"},
    }
    assert not {option.name for _, option in OWN} & {"pool_size", "max_connections", "pool"}


@pytest.mark.parametrize("room", [room for room in BASES if room != "mongo"])  # PyMongo refuses what it does not know
def test_an_unknown_option_is_refused_with_those_that_are_known(room: str) -> None:
    text = said(f"{BASES[room]}?colour={SECRET}")
    known = [option.name for option in OPTIONS[room]]
    assert text.startswith("the URL has no option 'colour'; ")
    assert all(name in text for name in known)
    assert ("it takes none" in text) is (not known)


@pytest.mark.parametrize(("room", "option"), OWN, ids=lambda value: getattr(value, "name", value))
def test_an_option_that_is_given_twice_is_refused(room: str, option: Option[Any]) -> None:
    value = WORDS.get(option.name, "1")
    assert f"the URL gives {option.name} twice" in said(f"{BASES[room]}?{option.name}={value}&{option.name}={value}")


@pytest.mark.parametrize(("room", "option"), OWN, ids=lambda value: getattr(value, "name", value))
def test_a_value_that_an_option_cannot_have_is_refused_with_those_that_it_can(room: str, option: Option[Any]) -> None:
    assert f"{option.name} is {option.values}" in said(f"{BASES[room]}?{option.name}=")


@pytest.mark.parametrize(
    ("option", "given", "value"),
    [
        (seconds("o", 5.0, ""), "0.001", 0.001),
        (seconds("o", 5.0, ""), "3600", 3600.0),
        (seconds("o", 5.0, ""), ".5", 0.5),
        (count("o", None, "", most=7), "7", 7),
        (choice("o", "yes", YES_OR_NO, ""), "NO", False),
        (text("o", None, ""), "a b", "a b"),
    ],
)
def test_a_value_is_read(option: Option[Any], given: str, value: object) -> None:
    assert read_options(f"o={given}", [option])[option] == value
    assert read_options("", [option])[option] == option.default


@pytest.mark.parametrize(
    ("option", "given"),
    [
        (seconds("o", 5.0, ""), "0"),
        (seconds("o", 5.0, ""), "3600.1"),
        (seconds("o", 5.0, ""), "-1"),
        (seconds("o", 5.0, ""), "nan"),
        (seconds("o", 5.0, ""), "inf"),
        (count("o", 1, "", most=7), "0"),
        (count("o", 1, "", most=7), "8"),
        (count("o", 1, "", most=7), "1.5"),
        (count("o", 1, "", most=7), "٣"),
        (choice("o", "yes", YES_OR_NO, ""), "perhaps"),
        (text("o", None, ""), ""),
    ],
)
def test_a_value_out_of_bounds_is_refused_and_named(option: Option[Any], given: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        read_options(f"o={given}", [option])
    assert str(caught.value) == f"o is {option.values}, not {given!r}"


def test_a_value_that_may_be_a_secret_is_not_repeated() -> None:
    hidden = text("o", None, "", values="a word", fits=str.isalpha, is_shown=False)
    with pytest.raises(InvalidURL, match=r"^o is a word$"):
        read_options("o=a1", [hidden])


def test_what_a_promise_decides_is_refused_with_the_reason() -> None:
    with pytest.raises(InvalidURL, match="leave out the option W: it is so"):
        read_options("W=1", [], refused={"w": "it is so"}, passes_unknown=True)
    given = read_options("a=1&b=", [], refused={"w": "it is so"}, passes_unknown=True)
    assert given.drivers == [("a", "1"), ("b", "")]
