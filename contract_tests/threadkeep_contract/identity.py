"""Families of ids that differ in one place, anywhere; the catalogue in `confusable` has the pairs with a name.

An id is a run of one character, up to the longest that a store takes, with something in it that the other id has
otherwise: another letter case, another normal form, a mark that does not show, one bit, one character less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from threadkeep_contract.harness import Harness
from threadkeep_contract.inputs.confusable import MESSAGE_IDS

CHANGES: Final = (
    *(("x", "y"), ("a", "A"), ("ß", "ss"), ("\u212a", "K"), ("ı", "i"), ("é", "e\u0301"), ("ﬁ", "fi"), ("Å", "\u212b")),
    *(("", " "), ("", "\t"), ("", "\n"), ("", "\x00"), ("", "\u200b"), ("", "\u200d"), ("", "\ufeff"), ("", "\u00ad")),
    *(("1", "01"), ("1", "1.0"), ("1", "+1"), ("1", "1e0"), ("1", "１"), ("0", "-0"), ("", "0"), ("", "\ufe0f")),
    *((":", "/"), (":", "::"), ("|", "\\|"), ("%", "%25"), ("_", "x"), ("*", "x"), ("'", "''"), ("\\", "\\\\")),
    *(("ab", "ba"), ("ab", "aab"), ("a", "š"), ("A", "\U00010041"), ("\uffff", "\U00010000"), ("\uffff", "\U0010ffff")),
    *(("\x7f", "\x80"), ("\xff", "\u0100"), ("\ufffd", "?"), ("\u2028", "\n"), ("\r\n", "\n"), ("a", "a\u0301")),
)
"""What one id has where the other has something else."""

TWINS: Final = (*MESSAGE_IDS, *(("ids differ in one place", *change) for change in CHANGES if all(change)))
"""What a careless store does, and two ids that it then takes for one."""

_FILLS: Final = ("h", "1", "é", "漢", "😀", "\x00", " ", ":", "%")
_LENGTHS: Final = (1, 2, 3, 7, 8, 9, 16, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 191, 192, 255, 256, 257, 400, 512)


def _family(chosen: Sequence[tuple[str, str]], fill: str, length: int, place: int, most: int) -> tuple[str, ...]:
    """Ids of about so many bytes that are alike but for one place, after `place` hundredths of what surrounds it."""
    texts = dict.fromkeys(text for change in chosen for text in change)
    largest = max((len(text.encode()) for text in texts), default=0)
    around = max(1, (min(length, most) - largest) // len(fill.encode()))
    head = around * place // 100
    return tuple(dict.fromkeys(fill * head + text + fill * (around - head) for text in texts))


def families(most: int, changes: int | None = None) -> SearchStrategy[tuple[str, ...]]:
    """Ids of at most so many bytes of UTF-8 each, of 13 at least, that are alike but for one place in all of them.

    About half of `CHANGES` are in a family, so that it has some forty ids; or `changes` of them at most.
    """
    if changes is None:
        flags = st.lists(st.booleans(), min_size=len(CHANGES), max_size=len(CHANGES))
        chosen = flags.map(lambda drawn: [change for change, flag in zip(CHANGES, drawn, strict=True) if flag])
    else:
        chosen = st.lists(st.sampled_from(CHANGES), min_size=1, max_size=changes)
    return st.builds(
        _family,
        chosen=chosen,
        fill=st.sampled_from(_FILLS),
        length=st.one_of(st.sampled_from(_LENGTHS), st.just(512), st.integers(1, 512)),
        place=st.one_of(st.sampled_from((100, 0)), st.integers(0, 100)),
        most=st.just(most),
    )


def drawn_ids(harness: Harness, *, less: int = 0, changes: int | None = None) -> SearchStrategy[tuple[str, ...]]:
    """Families of ids that the store takes, each shorter than its longest by `less` bytes; see `families`."""
    drawn = families(min(512, harness.id_bytes - less), changes)
    return drawn.filter(lambda family: harness.takes(family, ids=True)) if harness.refuses else drawn
