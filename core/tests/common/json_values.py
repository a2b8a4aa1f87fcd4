"""JSON values for tests of fidelity: all that law 7 names, small."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
KEYS = TEXTS | st.sampled_from(["$set", "a.b", "__proto__", "", "\0", "type"])
NUMBERS = st.integers() | st.integers(-(10**60), 10**60) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def nested(levels: int, leaf: Any = 1) -> Any:
    """`leaf` inside so many lists and objects, by turns."""
    for level in range(levels):
        leaf = [leaf] if level % 2 else {"k": leaf}
    return leaf
