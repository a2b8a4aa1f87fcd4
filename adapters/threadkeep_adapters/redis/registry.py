"""The list of resources in a cluster, which is in another slot than the resources and so in no script together.

An entry of the list is a resource id with a token. A commit that would write the first thing of a resource answers
`unregistered` and the server's time instead. The client makes a token of that time, adds an entry, and commits again
with the token; the script takes it as the resource's registration, if there is none. So whatever a resource holds, its
registration is in the list.

Taking an entry out must never hit one whose commit is still to come. Three rules see to that:
- A token goes with one commit, sent once.
- The script refuses a token that is older than TOKEN_SECONDS; older entries that are not the registration are dead.
- Whoever empties a resource turns its registration into a note (a minus before the token) in the same step, takes that
  token's entry out, then removes the note. A commit in between needs a token of its own, which takes the note's place.

So a client that dies halfway leaves at most a name without a resource. Listing looks at the registration of each
entry and passes such names over; deleting the resource again clears them away.
"""

from __future__ import annotations

from typing import Final

TOKEN_SECONDS: Final = 10
"""How long a registration may wait for its commit, by the clock of the resource's server."""

TOKEN_MICROS: Final = TOKEN_SECONDS * 1_000_000

_END: Final = b"\x00\x00"
"""Ends the id. A NUL in an id is written as 00 01, so that entries sort as ids do, and none is the head of another."""


def token(now: int, nonce: str) -> str:
    """A token, of the server's time in microseconds and something random."""
    return f"{now}-{nonce}"


def entry(resource_id: str, token: str) -> bytes:
    """The entry of a resource with a token."""
    return _head(resource_id) + token.encode()


def parts(entry: bytes) -> tuple[str, str]:
    """The resource id and the token of an entry."""
    head, _, token = entry.rpartition(_END)
    return head.replace(b"\x00\x01", b"\x00").decode(), token.decode()


def entries_of(resource_id: str) -> tuple[bytes, bytes]:
    """Bounds, as ZRANGEBYLEX takes them, around the entries of one resource."""
    return b"[" + _head(resource_id), after(resource_id)


def after(resource_id: str) -> bytes:
    """The bound, as ZRANGEBYLEX takes it, above every entry of a resource and below those of the next id."""
    return b"(" + _head(resource_id) + b"\xff"


def is_spent(entry: bytes, emptied: str, now: int) -> bool:
    """Whether no commit can take an entry any more: its resource was just emptied, or its time is over."""
    token = parts(entry)[1]
    return token == emptied or now - int(token.partition("-")[0]) > TOKEN_MICROS


def _head(resource_id: str) -> bytes:
    return resource_id.encode().replace(b"\x00", b"\x00\x01") + _END
