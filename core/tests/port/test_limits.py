"""Limits and the one place that checks ids, sizes and JSON (laws 7 and 11)."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from json_values import JSON, KEYS, nested

from threadkeep.errors import InvalidContent, InvalidId, LimitExceeded
from threadkeep.port import (
    KIB,
    MAX_DEPTH,
    MAX_INT_DIGITS,
    MIB,
    Limits,
    canonical_json,
    check_id,
    check_size,
    sorted_json,
)


def identical(one: Any, other: Any) -> bool:
    """Equality in which 1, 1.0 and True, 0.0 and -0.0, and the order of keys are told apart."""
    return repr(one) == repr(other)


@given(JSON)
def test_law_7_canonical_text_reads_back_as_the_value(value: Any) -> None:
    text = canonical_json(value, "value")
    assert identical(json.loads(text), value)
    assert text == canonical_json(json.loads(text), "value")


def same_as_python_writes(value: Any) -> bool:
    return canonical_json(value, "value") == json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@given(JSON)
def test_text_and_so_digests_do_not_depend_on_which_writer_made_them(value: Any) -> None:
    assert same_as_python_writes(value)


def test_both_writers_write_every_character_alike() -> None:
    characters = "".join(chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000)
    assert same_as_python_writes(characters)
    assert same_as_python_writes({character: character for character in characters[:300]})


@given(st.dictionaries(KEYS, JSON, min_size=2, max_size=4), st.data())
def test_the_order_of_keys_is_kept_in_text_and_plays_no_part_in_digests(value: Any, data: st.DataObject) -> None:
    keys = data.draw(st.permutations(list(value)))
    other = {key: value[key] for key in keys}
    assert list(json.loads(canonical_json(other, "value"))) == keys
    assert sorted_json(other) == sorted_json(value)


@pytest.mark.parametrize(
    "value",
    [
        "\0",
        "\U0001f989\u200f",
        2**53 + 1,
        10**MAX_INT_DIGITS - 1,
        1 - 10**MAX_INT_DIGITS,
        0.1 + 0.2,
        5e-324,
        1.7976931348623157e308,
        -0.0,
        1e22,
        10**22,
        {"$set": 1, "a.b": 2, "__proto__": 3, "": [], "e": {}},
        nested(100),
        nested(MAX_DEPTH),
        [[]] * 1000,
        [nested(MAX_DEPTH - 1)] * 3,
    ],
    ids=lambda value: repr(value)[:20] if not isinstance(value, int) else "int",
)
def test_law_7_what_json_has_is_kept_to_the_last_bit(value: Any) -> None:
    assert identical(json.loads(canonical_json(value, "value")), value)


CYCLE: list[Any] = []
CYCLE.append(CYCLE)
DEEP = "value" + ("[0].k" * 40)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [float("nan")]}, "value.a[0] is nan, which JSON does not have; use null or a string"),
        ([float("-inf")], "value[0] is -inf, which JSON does not have; use null or a string"),
        ({"a": "x\ud800"}, "value.a holds a lone surrogate at index 1, which UTF-8 cannot encode; remove it"),
        ({"\udfff": 1}, "value key '\\udfff' holds a lone surrogate at index 0, which UTF-8 cannot encode; remove it"),
        ({"a": {1: 2}}, "value.a has the key 1; keys must be strings, as in JSON"),
        ({True: 2}, "value has the key True; keys must be strings, as in JSON"),
        ({None: 2}, "value has the key None; keys must be strings, as in JSON"),
        ({"a": (1, 2)}, "value.a is a tuple; only JSON is kept (dict, list, str, int, float, bool, None)"),
        ([()] + [[]] * 200, "value[0] is a tuple; only JSON is kept (dict, list, str, int, float, bool, None)"),
        (b"a", "value is a bytes; only JSON is kept (dict, list, str, int, float, bool, None)"),
        ({"a": {1}}, "value.a is a set; only JSON is kept (dict, list, str, int, float, bool, None)"),
        ([10**MAX_INT_DIGITS], f"value[0] is an integer of more than {MAX_INT_DIGITS} digits; send it as a string"),
        ([-(10**MAX_INT_DIGITS)], f"value[0] is an integer of more than {MAX_INT_DIGITS} digits; send it as a string"),
        (
            nested(MAX_DEPTH + 2),
            f"{DEEP[:80]}... is nested deeper than {MAX_DEPTH} levels; flatten it, or keep it as text",
        ),
        (nested(100_000), f"{DEEP[:80]}... is nested deeper than {MAX_DEPTH} levels; flatten it, or keep it as text"),
        (
            CYCLE,
            f"{'value' + '[0]' * 25}... is nested deeper than {MAX_DEPTH} levels; flatten it, or keep it as text",
        ),
    ],
    ids=range(16),
)
def test_law_7_what_json_has_not_is_refused_with_its_path_and_the_remedy(value: Any, text: str) -> None:
    with pytest.raises(InvalidContent, match=f"^{re.escape(text)}$"):
        canonical_json(value, "value")


@given(st.integers(MAX_DEPTH - 3, MAX_DEPTH + 3), st.integers(0, 200))
def test_depth_is_counted_alike_whatever_stands_beside_it(levels: int, beside: int) -> None:
    value = [nested(levels - 1), *([[]] * beside)]
    if levels <= MAX_DEPTH:
        assert json.loads(canonical_json(value, "value")) == value
    else:
        with pytest.raises(InvalidContent, match=f"nested deeper than {MAX_DEPTH} levels"):
            canonical_json(value, "value")


@pytest.mark.parametrize(
    "good", [" ", " pad ", "a:b", "x\0", "%", "__proto__", "🦉", "\u00e9", "e\u0301", "123", "x" * 512, "é" * 256]
)
def test_law_11_an_id_at_the_limit_is_taken_as_it_is(good: str) -> None:
    assert check_id("thread_id", good, Limits()) is good


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (None, "thread_id must be a non-empty string, not NoneType; there is no default thread_id"),
        (123, "thread_id must be a non-empty string, not int; there is no default thread_id"),
        (b"a", "thread_id must be a non-empty string, not bytes; there is no default thread_id"),
        ("", "thread_id must not be empty; there is no default thread_id"),
        ("ab\ud800", "thread_id holds a lone surrogate at index 2, which UTF-8 cannot encode; remove it"),
    ],
)
def test_law_1_a_bad_id_is_refused_by_name(bad: object, text: str) -> None:
    with pytest.raises(InvalidId, match=f"^{re.escape(text)}$"):
        check_id("thread_id", bad, Limits())


@pytest.mark.parametrize("long", ["x" * 513, "é" * 257])
def test_law_11_an_id_over_the_limit_is_refused_with_the_numbers(long: str) -> None:
    with pytest.raises(LimitExceeded) as caught:
        check_id("thread_id", long, Limits())
    error = caught.value
    assert (error.limit, error.allowed, error.given) == ("id_bytes", 512, len(long.encode()))
    assert str(error) == (
        f"thread_id (UTF-8 bytes) is {error.given}, over the limit id_bytes = 512; make it smaller or split it"
    )


@pytest.mark.parametrize("letter", ["x", "é", "🦉"])
def test_law_11_sizes_are_bytes_of_utf_8(letter: str) -> None:
    limits = Limits()
    text = letter * (limits.metadata_bytes // len(letter.encode()))
    assert check_size("metadata_bytes", text, limits, "metadata") == 64 * KIB
    with pytest.raises(
        LimitExceeded, match=r"^metadata \(bytes of JSON\) is 65537, over the limit metadata_bytes = 65536"
    ):
        check_size("metadata_bytes", text + "x", limits, "metadata")


def test_law_11_the_least_limits_are_those_of_the_contract() -> None:
    least = Limits()
    assert (least.id_bytes, least.message_bytes, least.commit_messages) == (512, MIB, 100)
    assert (least.commit_bytes, least.working_memory_bytes, least.metadata_bytes) == (2 * MIB, 256 * KIB, 64 * KIB)


@pytest.mark.parametrize("name", [limit.name for limit in fields(Limits)])
def test_law_11_a_store_may_declare_more_and_never_less(name: str) -> None:
    least = getattr(Limits(), name)
    assert getattr(Limits(**{name: least + 1}), name) == least + 1
    with pytest.raises(ValueError, match=f"^{name} must be at least {least}, the least that a store may declare$"):
        Limits(**{name: least - 1})
