"""Pairs of scopes, and of ids, that a careless store takes for one.

Strange ids drawn one at a time find almost nothing: two that meet in the same key have to be drawn together, and have
to come back. So the material is a catalogue of pairs, each with the carelessness that it is for; checks walk all of
it, and explorations draw small pools from it.

`PREFIX` stands for the clean room's prefix. An id of a resource that does not say where the prefix goes gets it at
its start, after leading white space and marks, so that trimming is still seen.
"""

from __future__ import annotations

import unicodedata
from typing import Final, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from threadkeep.port import Resource, Thread

PREFIX: Final = "\ue000"


class Spot(NamedTuple):
    """A scope before it is in a clean room, and the ids of the messages that are used there."""

    resource_id: str
    thread_id: str
    message_ids: tuple[str, ...] = ("m1", "m2", "m3", "m4")

    def thread(self, prefix: str) -> Thread:
        """The thread in the clean room of a prefix."""
        return Thread(placed(self.resource_id, prefix), self.thread_id.replace(PREFIX, prefix))

    def resource(self, prefix: str) -> Resource:
        """The resource in the clean room of a prefix."""
        return Resource(placed(self.resource_id, prefix))


class Pair(NamedTuple):
    """Two spots that a store with this carelessness takes for one, or for part of each other."""

    carelessness: str
    first: Spot
    second: Spot

    @property
    def kind(self) -> str:
        """What the pair is of: messages, resources, or threads of one resource. Each is kept apart in its own way."""
        if self.first.message_ids != self.second.message_ids:
            return "messages"
        return "threads" if self.first.resource_id == self.second.resource_id else "resources"


_LEADING: Final = " \t\n\r\u00a0\u200b\u200f\ufeff"


def lead(resource_id: str) -> str:
    """The leading white space and marks, which stay before the prefix."""
    return resource_id[: len(resource_id) - len(resource_id.lstrip(_LEADING))]


def placed(resource_id: str, prefix: str) -> str:
    """A resource id in the clean room of a prefix."""
    if PREFIX in resource_id:
        return resource_id.replace(PREFIX, prefix)
    before = lead(resource_id)
    return before + prefix + resource_id[len(before) :]


def just_before(start: str) -> str:
    """A text that sorts before every id that begins with `start`, a room's prefix, and after those of other rooms."""
    return f"{start[:-1]}{chr(ord(start[-1]) - 1)}\U0010ffff"


def _forms(text: str) -> list[tuple[str, str]]:
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    return [(forms[0], form) for form in dict.fromkeys(forms[1:]) if form != forms[0]]


IDS: Final[tuple[tuple[str, str, str], ...]] = (
    *[
        ("letter case is folded", *pair)
        for pair in [("Ann", "ann"), ("ANN", "aNN"), ("straße", "STRASSE"), ("K", "k"), ("ΣΑΣ", "σας"), ("İ", "i̇")]
    ],
    *[
        ("ids are trimmed", *pair)
        for pair in [
            ("pad", " pad"),
            ("pad", "pad "),
            ("pad", "pad\t"),
            ("pad", "pad\n"),
            ("pad", "\u00a0pad"),
            ("pad", "pad\u200b"),
            ("pad", "\ufeffpad"),
            ("a b", "a  b"),
        ]
    ],
    *[
        ("ids are read as numbers, booleans or null", *pair)
        for pair in [
            ("123", "123.0"),
            ("123", "0123"),
            ("123", "+123"),
            ("1000", "1e3"),
            ("16", "0x10"),
            ("1000", "1_000"),
            ("9007199254740993", "9007199254740992"),
            ("1", "true"),
            ("0", "false"),
            ("null", "None"),
            ("0", "-0"),
            ("123", "１２３"),
        ]
    ],
    *[
        ("ids are brought to a normal form", *pair)
        for text in ("é", "ﬁ", "Å", "ñandú", "한글")
        for pair in _forms(text)
    ],
    *[
        ("ids are encoded with loss", *pair)
        for pair in [
            ("é", "?"),
            ("é", "Ã©"),
            ("\U00010041", "A"),
            ("😀", "\ufffd"),
            ("😀", "😁"),
            ("a\x00b", "a"),
            ("a\x00b", "a\x00c"),
            ("a\x00b", "ab"),
            ("a\nb", "a\r\nb"),
            ("a\x1fb", "a b"),
        ]
    ],
    *[
        ("ids are prefixes in a search", *pair)
        for pair in [("u1", "u10"), ("foo", "foobar"), ("a", "a\x00"), ("z", "z\U0010ffff")]
    ],
    *[
        ("ids are patterns of LIKE", *pair)
        for pair in [("a_c", "abc"), ("a%", "abc"), ("%", "x"), ("_", "x"), ("a\\%", "a%")]
    ],
    *[
        ("ids are globs", *pair)
        for pair in [("a*", "abc"), ("a?c", "abc"), ("[a]c", "ac"), ("*", "x"), ("a[!x]", "ab")]
    ],
    *[
        ("ids are regular expressions", *pair)
        for pair in [("a.c", "abc"), (".*", "abc"), ("^a", "a"), ("a$", "a"), ("(a)", "a"), ("a|b", "a"), ("\\d", "1")]
    ],
    *[
        ("ids are operators, paths or code", *pair)
        for pair in [
            ("$ne", "x"),
            ("$set", "set"),
            ("a.b", "a"),
            ("a.b", "a\uff0eb"),
            ("__proto__", "constructor"),
            ("'; --", "x"),
            ("a'b", "a''b"),
            ("' OR '1'='1", "1"),
            ('a"b', 'a\\"b'),
            ("a\\b", "a\\\\b"),
            ("a/../b", "b"),
            ("a/", "a"),
            ("a//b", "a/b"),
            (".", ".."),
            ("a%3Ab", "a:b"),
            ("a%20b", "a b"),
            ("a+b", "a b"),
            ("{tag}a", "{tag}b"),
            ("default", "Default"),
        ]
    ],
    *[
        ("a blank id falls back to a default", *pair)
        for pair in [(" ", "\t"), (" ", "default"), ("\n", "None"), ("\u00a0", "\u3000"), ("\u200b", "\ufeff")]
    ],
    *[
        ("marks that do not show are dropped", *pair)
        for pair in [
            ("abc", "\u200fabc"),
            ("abc", "a\u202ebc"),
            ("coop", "co\u00adop"),
            ("👍", "👍🏽"),
            ("👩\u200d💻", "👩💻"),
            ("❤", "❤\ufe0f"),
            ("ab", "a\u200bb"),
        ]
    ],
    *[
        ("ids are cut", "h" * length + "a", "h" * length + "b")
        for length in (8, 16, 32, 64, 100, 128, 191, 255, 400, 480)
    ],
    ("only the end of an id counts", "a" + "t" * 400, "b" + "t" * 400),
)
"""What a careless store does, and two ids that it then takes for one."""

SEPARATORS: Final = (
    *(
        ":",
        "::",
        "/",
        "//",
        "#",
        "|",
        "||",
        "-",
        "--",
        "_",
        "__",
        ".",
        ",",
        ";",
        " ",
        "\t",
        "\n",
        "\\",
        "@",
        "+",
        "=",
        "&",
    ),
    *(
        "?",
        "!",
        "~",
        "$",
        "*",
        "'",
        '"',
        "\x00",
        "\x01",
        "\x1e",
        "\x1f",
        "{}",
        "}{",
        "><",
        "', '",
        '","',
        "\u2028",
        "\uffff",
    ),
)

DERIVED: Final = (
    *("messages", "message", "records", "log", "ids", "tail", "meta", "metadata", "info", "docs", "doc", "threads"),
    *("thread", "working_memory", "memory", "wm", "index", "state", "1", "0"),
)
"""What stores append to a key to make another."""


def _pairs() -> tuple[Pair, ...]:
    pairs = [
        Pair("the owner is not in the key", Spot("a", "t"), Spot("b", "t")),
        Pair("only the owner is in the key", Spot("a", "t"), Spot("a", "u")),
        Pair("resource and thread are not told apart", Spot("a", f"{PREFIX}b"), Spot("b", f"{PREFIX}a")),
        Pair("resource and thread are not told apart", Spot("a", f"{PREFIX}a"), Spot("a", f"{PREFIX}b")),
        Pair("ids are joined without a separator", Spot("a", "bc"), Spot("ab", "c")),
        Pair("a separator is escaped, the escape is not", Spot("a\\", "x:b"), Spot("a:x\\", "b")),
        Pair("a separator is doubled", Spot("a", ":b"), Spot("a:", "b")),
    ]
    for separator in SEPARATORS:
        pairs.append(
            Pair(
                f"ids are joined by {separator!r}",
                Spot("a", f"b{separator}c"),
                Spot(f"a{separator}b", "c"),
            )
        )
        pairs.append(
            Pair(
                f"thread and message ids are joined by {separator!r}",
                Spot("a", "t", (f"b{separator}c", "c", "m1")),
                Spot("a", f"t{separator}b", ("c", f"b{separator}c", "m1")),
            )
        )
    for suffix in DERIVED:
        pairs.append(Pair("a derived key is another id's key", Spot("a", "x"), Spot("a", f"x:{suffix}")))
        pairs.append(Pair("a derived key is another id's key", Spot("a", "x"), Spot(f"a:{suffix}", "x")))
    for separator in (":", "/", "#", "|", "."):
        pairs.append(Pair("a derived key is another id's key", Spot("a", "x"), Spot("a", f"x{separator}messages")))
        pairs.append(Pair("a derived key is another id's key", Spot("a", f"x{separator}"), Spot("a", "x")))
    for carelessness, one, other in IDS:
        pairs.append(Pair(f"resource: {carelessness}", Spot(one, "t"), Spot(other, "t")))
        pairs.append(Pair(f"thread: {carelessness}", Spot("r", one), Spot("r", other)))
    return tuple(pairs)


PAIRS: Final = _pairs()
"""Every pair of scopes, with what it is for."""

MESSAGE_IDS: Final[tuple[tuple[str, str, str], ...]] = IDS
"""Pairs of message ids, which have to be two messages in one thread."""


@st.composite
def pools(draw: st.DrawFn) -> tuple[Spot, ...]:
    """A pool of two to six spots: one or two pairs, sometimes crossed with each other, shuffled."""
    pairs = draw(st.lists(st.sampled_from(PAIRS), min_size=1, max_size=2))
    spots = [spot for pair in pairs for spot in (pair.first, pair.second)]
    if draw(st.booleans()):
        one, other = spots[0], spots[-1]
        spots.append(Spot(one.resource_id, other.thread_id, one.message_ids))
        spots.append(Spot(other.resource_id, one.thread_id, other.message_ids))
    unique = {(spot.resource_id, spot.thread_id): spot for spot in spots}
    return tuple(unique.values())


def one_thread() -> SearchStrategy[tuple[Spot, ...]]:
    """A pool of one spot, whose message ids hold a pair that a careless store takes for one."""
    return st.sampled_from(MESSAGE_IDS).map(lambda pair: (Spot("a", "t", (pair[1], pair[2], "m1", "m2", "m3")),))
