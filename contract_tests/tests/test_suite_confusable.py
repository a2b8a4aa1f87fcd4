"""The catalogue of pairs: two scopes each, storable everywhere, and confused by the carelessness that they are for."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Literal

import pytest

from threadkeep.port import Limits, Thread, check_id
from threadkeep_contract.inputs.confusable import IDS, PAIRS, PREFIX, placed

ROOM = "123456789000001"


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.carelessness}")
def test_a_pair_is_two_scopes_within_every_limit(pair: tuple[object, ...]) -> None:
    _, first, second = pair
    scopes = [spot.thread(ROOM) for spot in (first, second)]  # type: ignore[attr-defined] # spots
    assert scopes[0] != scopes[1]
    for scope in scopes:
        check_id("resource_id", scope.resource_id, Limits())
        check_id("thread_id", scope.thread_id, Limits())
        assert ROOM in scope.resource_id


def test_ids_that_are_written_differently_are_different_in_a_room() -> None:
    # Pools are drawn from several pairs: what is one resource in two of them has to be told by its id.
    written = {spot.resource_id for _, *spots in PAIRS for spot in spots}
    assert len({placed(resource_id, ROOM) for resource_id in written}) == len(written)
    written_scopes = {(spot.resource_id, spot.thread_id) for _, *spots in PAIRS for spot in spots}
    spots = {spot for _, *spots in PAIRS for spot in spots}
    assert len({spot.thread(ROOM) for spot in spots}) == len(written_scopes)


@pytest.mark.parametrize(("_", "one", "other"), IDS, ids=ascii)
def test_two_ids_of_a_pair_differ(_: str, one: str, other: str) -> None:
    assert one != other


def number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def joined(separator: str) -> Callable[[Thread], object]:
    return lambda scope: f"{scope.resource_id}{separator}{scope.thread_id}"


def normal(form: Literal["NFC", "NFD", "NFKC", "NFKD"]) -> Callable[[str], object]:
    return lambda text: unicodedata.normalize(form, text)


def of_resource(change: Callable[[str], object]) -> Callable[[Thread], object]:
    return lambda scope: (change(scope.resource_id), scope.thread_id)


def of_thread(change: Callable[[str], object]) -> Callable[[Thread], object]:
    return lambda scope: (scope.resource_id, change(scope.thread_id))


CHANGES: dict[str, Callable[[str], object]] = {
    "lower case": str.lower,
    "case folding": str.casefold,
    "trimming": str.strip,
    "trimming on the left": str.lstrip,
    "trimming on the right": str.rstrip,
    "reading numbers": number,
    "NFC": normal("NFC"),
    "NFD": normal("NFD"),
    "NFKC": normal("NFKC"),
    "255 characters": lambda text: text[:255],
    "400 bytes": lambda text: text.encode()[:400],
    "the last 255 characters": lambda text: text[-255:],
    "what is before NUL": lambda text: text.partition("\x00")[0],
    "Latin-1 with replacement": lambda text: text.encode("latin-1", "replace"),
    "the basic plane": lambda text: "".join(chr(ord(char) & 0xFFFF) for char in text),
    "what shows": lambda text: "".join(char for char in text if unicodedata.category(char) != "Cf"),
}

SEPARATORS = (":", "::", "/", "#", "|", "-", "_", ".", ",", " ", "\t", "\x00", "\x1f", "{}")

CARELESS: dict[str, Callable[[Thread], object]] = {
    "the thread id alone": lambda scope: scope.thread_id,
    "the resource id alone": lambda scope: scope.resource_id,
    "a set of both": lambda scope: frozenset((scope.resource_id, scope.thread_id)),
    "joined by nothing": lambda scope: scope.resource_id + scope.thread_id,
    "colons escaped, the escape not": lambda scope: ":".join(
        part.replace(":", "\\:") for part in (scope.resource_id, scope.thread_id)
    ),
    **{f"joined by {separator!r}": joined(separator) for separator in SEPARATORS},
    **{f"{name} of the resource": of_resource(change) for name, change in CHANGES.items()},
    **{f"{name} of the thread": of_thread(change) for name, change in CHANGES.items()},
}
"""Keys that a careless store would make of a scope."""


@pytest.mark.parametrize("key", CARELESS.values(), ids=CARELESS)
def test_every_careless_key_is_caught_by_some_pair(key: Callable[[Thread], object]) -> None:
    """Also with the clean room's prefix before the resource id, which must not hide what is trimmed or read."""
    caught = [pair.carelessness for pair in PAIRS if key(pair.first.thread(ROOM)) == key(pair.second.thread(ROOM))]
    assert caught


def test_the_prefix_goes_after_what_could_be_trimmed() -> None:
    assert placed(" pad", ROOM) == f" {ROOM}pad"
    assert placed("pad ", ROOM) == f"{ROOM}pad "
    assert placed("\ufeff\u200fx", ROOM) == f"\ufeff\u200f{ROOM}x"
    assert placed(f"{PREFIX}a", ROOM) == f"{ROOM}a"
    assert placed(" ", ROOM) == f" {ROOM}"
