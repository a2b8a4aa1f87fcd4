"""Saboteurs of the real stores: each a store of this distribution with one fault, in its statements or in its code.

The stores are in `saboteurs_sqlite`, `saboteurs_redis` and `saboteurs_postgresql`. `register_all` lets each answer to a
scheme of its own, `SCHEME+FAULT`; behind the scheme its URL is that of the store which it breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Final, Protocol

from threadkeep.port import Store, hookimpl, register


class Broken(Protocol):
    """What the class of such a store says of itself."""

    fault: ClassVar[str]
    """The fault's name, unique among saboteurs."""
    caught_by: ClassVar[int]
    """The number of the law whose checks must reject the store."""
    seen_in: ClassVar[str]
    slips: ClassVar[str] = ""
    """Why no check rejects it in every try yet; empty where one does."""
    """What real store or kind of database has, or had, the fault."""


class Plugin:
    """Answers to the scheme of one saboteur."""

    def __init__(self, scheme: str, broken: type[Any], sound: Any, read_url: Callable[[str], Any]) -> None:
        """`scheme` is that of the store that is broken, `sound` its plugin, `broken` a class of stores of a place."""
        self.scheme: Final = f"{scheme}+{broken.fault}"
        self._scheme = scheme
        self._broken = broken
        self._sound = sound
        self._read_url = read_url

    @hookimpl
    def open_store(self, url: str) -> Store:
        store: Store = self._broken(self._read_url(self._as_sound(url)))
        return store

    @hookimpl
    def scan_backend(self, url: str) -> Iterator[bytes]:
        found: Iterator[bytes] = self._sound.scan_backend(self._as_sound(url))
        return found

    @hookimpl
    def proxied(self, url: str, proxy: Callable[[str, int], tuple[str, int]]) -> str | None:
        hook = getattr(self._sound, "proxied", None)
        return None if hook is None else self.url(hook(self._as_sound(url), proxy))

    @hookimpl
    def new_place(self, url: str) -> str | None:
        # For what is judged on such places alone; those of servers would stay behind.
        return self.url(self._sound.new_place(self._as_sound(url))) if hasattr(self._sound, "replace_place") else None

    @hookimpl
    def replace_place(self, url: str, by: str | None) -> bool:
        hook = getattr(self._sound, "replace_place", None)
        return hook is not None and bool(hook(self._as_sound(url), None if by is None else self._as_sound(by)))

    def url(self, of_sound: str) -> str:
        """The saboteur's URL at the place of a sound store's URL."""
        return self.scheme + of_sound.removeprefix(self._scheme)

    def _as_sound(self, url: str) -> str:
        return self._scheme + url.removeprefix(self.scheme)


def plugins(scheme: str, broken: Sequence[type[Any]], sound: Any, read_url: Callable[[str], Any]) -> dict[str, Plugin]:
    """By fault, the plugins of one store's saboteurs, registered."""
    made = {kind.fault: Plugin(scheme, kind, sound, read_url) for kind in broken}
    for plugin in made.values():
        register(plugin.scheme, plugin)
    return made


def swapped(text: str, *swaps: tuple[str, str]) -> str:
    """A text with each first part replaced by the second. Raises LookupError for one that is not in it, since what
    changes nothing breaks nothing."""
    for there, instead in swaps:
        if there not in text:
            raise LookupError(f"the text has no {there!r}")
        text = text.replace(there, instead)
    return text
