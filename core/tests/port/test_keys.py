"""Keys for flat key spaces: what differs stays different, and Redis Cluster sees the tag that was meant."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadkeep.port import escape, flat_key, hash_tag

NASTY = st.text(st.sampled_from("ab:{}%23B57D\0 é\U0001f9f5/#|\x1f*?[]"), min_size=1, max_size=6)
PARTS = st.lists(NASTY, min_size=1, max_size=4)

PAIRS = [
    (("a", "b:c"), ("a:b", "c")),
    (("a", "b"), ("a:b",)),
    (("x",), ("x", "messages")),
    (("x:messages",), ("x", "messages")),
    (("a%3Ab",), ("a:b",)),
    (("a%253Ab",), ("a%3Ab",)),
    (("{a}b",), ("{a}", "b")),
    (("{a", "b}"), ("{a:b}",)),
    (("",), ("", "")),
    (("a", ""), ("a",)),
    (("Ann",), ("ann",)),
    (("pad",), (" pad ",)),
    (("a\0",), ("a",)),
    (("é",), ("e\u0301",)),
    (("1",), ("1.0",)),
]


def unescape(key: str) -> str:
    """The inverse of `escape`, written without it."""
    for code, sign in (("%3A", ":"), ("%7B", "{"), ("%7D", "}"), ("%25", "%")):
        key = key.replace(code, sign)
    return key


def tag_of(key: str) -> str | None:
    """What Redis Cluster hashes of a key, None for the whole: the algorithm of the cluster specification."""
    start = key.find("{")
    if start < 0:
        return None
    end = key.find("}", start + 1)
    return None if end < 0 or end == start + 1 else key[start + 1 : end]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_pairs_that_a_careless_key_takes_for_one(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert flat_key(*one) != flat_key(*other)


def test_all_short_lists_of_signs_have_keys_of_their_own() -> None:
    ids = ["".join(signs) for size in range(3) for signs in itertools.product("a:%{}3A", repeat=size)]
    lists = [*((one,) for one in ids), *itertools.product(ids, repeat=2)]
    assert len({flat_key(*parts) for parts in lists}) == len(lists)


@given(PARTS)
def test_the_parts_can_be_read_back(parts: list[str]) -> None:
    assert [unescape(part) for part in flat_key(*parts).split(":")] == parts


@given(st.text(min_size=1))
def test_a_hash_tag_is_the_part_and_nothing_else(part: str) -> None:
    """Also for ids that begin with } or hold {}, which would otherwise be empty tags or end too early."""
    key = f"store:{hash_tag(part)}:log:}}{{x}}"
    assert tag_of(key) == escape(part)
    assert unescape(escape(part)) == part


@given(st.text(st.characters(exclude_characters=":%{}")))
def test_other_signs_are_left_alone(part: str) -> None:
    assert escape(part) == part


def test_what_has_no_key_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one part"):
        flat_key()
    with pytest.raises(ValueError, match="cannot be empty"):
        hash_tag("")
