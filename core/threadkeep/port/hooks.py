"""The hooks that a store plugin implements.

A plugin is a module named by an entry point of the group `threadkeep`; the entry point's name is the URL scheme. One
module may answer to several schemes. `open_store` is needed; `store_exists` serves the commands that look into a store,
the others the contract suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pluggy

from threadkeep.port.store import Store

GROUP = "threadkeep"

hookspec = pluggy.HookspecMarker("threadkeep")
hookimpl = pluggy.HookimplMarker("threadkeep")


@hookspec(firstresult=True)
def open_store(url: str) -> Store | None:
    """Make the store that `url` names. Nothing is connected yet: `Store.open` does that.

    Raises InvalidURL where the URL says something that the store does not know, without repeating a password.
    """


@hookspec(firstresult=True)
def store_exists(url: str) -> bool | None:
    """Whether there is a store at `url` already. Nothing is made, and nothing is connected that need not be.

    Called by commands that look into a store, which must not make one by looking. Without it, they open the URL.
    """


@hookspec(firstresult=True)
def scan_backend(url: str) -> Iterator[bytes] | None:
    """Everything that the backend holds for `url`, in chunks: law 10 looks for what a deletion left behind.

    Chunks are raw bytes, or decoded where the store compresses or encrypts: then everything that the backend still
    holds is decoded, whether or not the store would still read it. Ids and contents are looked for as UTF-8 and as
    UTF-16. A store whose scan cannot show some of them says why in `not_offered`, under `Clause.SCAN`.

    Called by the contract suite only. Without it, the report says that deletion was not checked this way.
    """


@hookspec(firstresult=True)
def new_place(url: str) -> str | None:
    """The URL of a place where nothing is yet, like that of `url`: another file, schema or prefix. Nothing is made.

    Called by the contract suite only: law 12 opens such places for the first time, by many at once, and leaves them.
    Without it, the report says that a first opening was not judged.
    """


@hookspec(firstresult=True)
def shift_version(url: str, by: int) -> bool | None:
    """Make the place at `url` say that its layout is `by` versions newer than it said, or older where `by` is negative.

    Only the number is written that `Store.open` looks at. Returns True.

    Called by the contract suite only, on a place of `new_place`: law 12 looks how places of other versions are refused.
    Without it, the report says that this was not judged.
    """


@hookspec(firstresult=True)
def replace_place(url: str, by: str | None) -> bool | None:
    """Take away what is at the place of `url`, as whoever runs a machine does: a file is deleted, a database dropped.

    With `by`, what is at that place of `new_place` is moved there instead; no store is open on `by`. Stores are open on
    `url`, and are not told. Returns True.

    Called by the contract suite only, on places of `new_place`: law 12 looks that nothing is acknowledged any more by
    stores that were opened before. Without it, the report says that this was not judged.
    """


@hookspec(firstresult=True)
def proxied(url: str, proxy: Callable[[str, int], tuple[str, int]]) -> str | None:
    """The URL of the same place, reached through a proxy. Nothing is connected.

    `proxy(host, port)` makes a TCP proxy to a server and gives the host and port at which it listens; clients reach
    every server of the place through one. For URLs as `scheme://user@host:port/...` this is
    `threadkeep.port.replace_hosts(url, proxy, port)`. Raises NotImplementedError, with the reason in words, where this
    place cannot be reached so, as where it tells its clients other addresses.

    Called by the contract suite only: laws 4, 6 and 12 cut connections and lose answers there, law 13 compares the
    meter with what goes over the wire. Without it, the report says that these were not judged.
    """


@hookspec(firstresult=True)
def clock(url: str, seconds: float) -> bool | None:
    """Set the clock that the server of `url` sees so many seconds ahead of the machine's, or behind; 0 sets it right.

    True when it is done. Called by the contract suite only: law 6 sets it forward and back, and no answer may be
    another one. Without it, the report says that this was not judged. The clock of the store's own process is set in
    any case.
    """
