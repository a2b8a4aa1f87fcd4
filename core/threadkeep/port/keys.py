"""Injective keys for flat key spaces: two different lists of ids never give one key.

Joining ids with a separator that they may contain lets `a:b` + `c` meet `a` + `b:c`. Here the separator and what the
servers give a meaning to are escaped in every part, so that the parts can be read back from the key.
"""

from __future__ import annotations

from typing import Final

SEPARATOR: Final = ":"

_ESCAPES: Final = {ord(sign): f"%{ord(sign):02X}" for sign in "%:{}"}
"""The sign of an escape, the separator, and the braces of Redis Cluster's hash tags."""


def escape(part: str) -> str:
    """A part of a key without `:`, `{` and `}`, which are written as `%3A`, `%7B` and `%7D`, and `%` as `%25`.

    Injective, and the identity on what holds none of the four. Nothing else is touched: not case, spaces or NUL.
    """
    return part.translate(_ESCAPES)


def flat_key(*parts: str) -> str:
    """One key for a list of parts, each of which is escaped. Different lists give different keys.

    Raises ValueError without a part, since the key of no part would be that of one empty part.
    """
    if not parts:
        raise ValueError("a key has at least one part")
    return SEPARATOR.join(map(escape, parts))


def hash_tag(part: str) -> str:
    """A part in braces: Redis Cluster puts all keys with one hash tag in one slot.

    It is never empty and holds no brace within, so that the server sees exactly this part as the tag
    (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags). Raises ValueError for an
    empty part, which the server would not take for a tag.
    """
    if not part:
        raise ValueError("a hash tag cannot be empty")
    return f"{{{escape(part)}}}"
