"""JSON as it is stored: which values are JSON, their text, and the text for digests."""

from __future__ import annotations

import json
from typing import Final

from pydantic_core import to_json

from threadkeep.errors import InvalidContent

MAX_DEPTH: Final = 150
"""Levels of nesting in a message or document. Law 7 asks for 100; the JSON reader (jiter) stops at 200."""


MAX_INT_DIGITS: Final = 4300
"""Python's own bound on reading an integer from text (sys.int_info.default_max_str_digits)."""


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


_encode_sorted = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True).encode


def canonical_json(value: object, what: str) -> str:
    """JSON text that reads back as exactly `value`, keys in the order given, or InvalidContent naming the place.

    `what` names the value in errors. Only what JSON has is taken: dict with string keys, list, str, int, float, bool,
    None. A tuple, a number as key, NaN or a lone surrogate would come back as something else, and is refused.
    """
    return canonical_forms(value, what)[0]


def canonical_forms(value: object, what: str, *, simple: bool = False) -> tuple[str, bytes]:
    """A value's `canonical_json`, and its `sorted_json` in UTF-8: one text where the keys are in order already.

    `simple` says of a value that it holds strings only, in lists and in dicts whose keys are in order.
    """
    try:
        shape = 0 if simple else _shape(value, 0)
        if shape == 0:
            form = to_json(value)
            return form.decode(), form
        if shape is not None:
            text = _encode(value)
            form = text.encode()
            return text, _encode_sorted(value).encode() if shape & _UNSORTED else form
    except (ValueError, RecursionError):
        pass
    _refuse(value, what, 0)
    return _encode(value), _encode_sorted(value).encode()


def sorted_json(value: object) -> str:
    """JSON text in which the order of keys plays no part, for digests. `value` has passed `canonical_json`."""
    return _encode_sorted(value)


_PLAIN: Final = frozenset({str, bool, type(None)})


_UNSORTED: Final = 1


_NUMBERS: Final = 2


_INT64: Final = 2**63


def _shape(value: object, depth: int) -> int | None:
    """0 or more of _UNSORTED, where keys do not rise by code point, and _NUMBERS, where there are floats or large
    integers; None where a type is not JSON's own, or the nesting is too deep.

    The texts of floats and large integers are Python's own, whose form is fixed; for all else, pydantic's faster writer
    gives the same text.
    """
    shape = 0
    if type(value) is dict:
        last = ""
        for key, item in value.items():
            if type(key) is not str:
                return None
            if key < last:
                shape |= _UNSORTED
            last = key
            if type(item) not in _PLAIN:
                inside = _shape(item, depth + 1)
                if inside is None:
                    return None
                shape |= inside
    elif type(value) is list:
        for item in value:
            if type(item) not in _PLAIN:
                inside = _shape(item, depth + 1)
                if inside is None:
                    return None
                shape |= inside
    elif type(value) is int:
        return 0 if -_INT64 <= value < _INT64 else _NUMBERS
    elif type(value) is float:
        return _NUMBERS
    else:
        return 0 if type(value) in _PLAIN else None
    return shape if depth < MAX_DEPTH or (depth == MAX_DEPTH and not value) else None


def _refuse(value: object, path: str, depth: int) -> None:
    """Find what is wrong with a value and raise, or return where nothing is."""
    if depth > MAX_DEPTH:
        raise InvalidContent(f"{path[:80]}... is nested deeper than {MAX_DEPTH} levels; flatten it, or keep it as text")
    match value:
        case None | bool():
            return
        case str():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise InvalidContent(
                    f"{path} holds a lone surrogate at index {error.start}, which UTF-8 cannot encode; remove it"
                ) from None
        case int():
            if abs(value) >= 10**MAX_INT_DIGITS:
                raise InvalidContent(f"{path} is an integer of more than {MAX_INT_DIGITS} digits; send it as a string")
        case float():
            if value != value or value in (float("inf"), float("-inf")):
                raise InvalidContent(f"{path} is {value}, which JSON does not have; use null or a string")
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise InvalidContent(f"{path} has the key {key!r}; keys must be strings, as in JSON")
                _refuse(key, f"{path} key {key[:40]!r}", depth)
                _refuse(item, f"{path}.{key}", depth + 1)
        case list():
            for index, item in enumerate(value):
                _refuse(item, f"{path}[{index}]", depth + 1)
        case _:
            raise InvalidContent(
                f"{path} is a {type(value).__name__}; only JSON is kept (dict, list, str, int, float, bool, None)"
            )
