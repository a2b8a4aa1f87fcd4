"""From a URL to the one plugin that answers to its scheme, and to its store.

Plugins are found in `importlib.metadata` and loaded by name, one at a time, so that a broken one harms only those who
use it. pluggy's own `load_setuptools_entrypoints(group)` would import them all.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import pluggy

from threadkeep.errors import InvalidURL, MissingExtra, PluginError, ThreadkeepError, UnknownScheme
from threadkeep.port import hooks
from threadkeep.port.guard import Guard
from threadkeep.port.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEFAULT_URL: Final = "sqlite:///threadkeep.db"
URL_VARIABLE: Final = "THREADKEEP_URL"

_EXTRAS: Final[dict[str, str]] = {
    "dynamodb": "dynamodb",
    "mongodb": "mongo",
    "mongodb+srv": "mongo",
    "postgres": "postgres",
    "postgresql": "postgres",
    "redis": "redis",
    "rediss": "redis",
    "redis+cluster": "redis",
}
"""Scheme -> extra, for schemes whose store comes with this distribution and whose driver does not."""

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.\-]*)://", re.IGNORECASE)
_PASSWORD: Final = re.compile(r"//[^/?#@:]*:([^/?#]+)@")
_CUT_PASSWORD: Final = re.compile(_SCHEME.pattern + r"[^/?#]*:[^/?#]*[/?#].*@", re.IGNORECASE | re.DOTALL)
"""A URL in which a / ? or # may stand within the password, where it ends what comes before the host."""


def installed_schemes() -> dict[str, list[EntryPoint]]:
    """The entry points of every installed store plugin, by URL scheme, sorted; nothing is imported."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in sorted(entry_points(group=hooks.GROUP), key=lambda entry: entry.name):
        if entry not in found.setdefault(entry.name, []):
            found[entry.name].append(entry)
    return found


def scheme_of(url: str) -> str:
    """The scheme of a store URL, lower case, or InvalidURL."""
    if not isinstance(url, str):
        raise InvalidURL(f"a store URL must be a string such as {DEFAULT_URL!r}, not {type(url).__name__}")
    match = _SCHEME.match(url)
    if match is None:
        raise InvalidURL(
            f"a store URL begins with a scheme, as in {DEFAULT_URL!r}; installed: "
            + ", ".join(f"{name}://" for name in installed_schemes())
        )
    return match.group(1).lower()


_registered: dict[str, object] = {}
_loaded: dict[tuple[str, ...], object] = {}
"""By scheme and the path on which it was found: to look through all that is installed takes longer than a turn does."""
_managers: dict[str, pluggy.PluginManager] = {}
"""By scheme. Each plugin has a manager of its own, so that what is wrong with one cannot answer for another."""


def register(scheme: str, plugin: object) -> None:
    """Let a plugin of this process, a module or object with the hooks, answer to a URL scheme.

    For tests and notebooks; what is installed registers by entry point. Where the scheme was registered before, the
    later plugin answers. Raises PluginError where the hooks are wrong, and InvalidURL for a scheme that no URL has.
    """
    if not _SCHEME.fullmatch(f"{scheme}://") or str(scheme) != str(scheme).lower():
        raise InvalidURL(
            f"a scheme is a lower-case letter, then such letters, digits, '+', '-' or '.', and not {scheme!r}"
        )
    _manage(scheme, plugin, f"for {scheme}://")
    _registered[scheme] = plugin


def registered(scheme: str) -> object | None:
    """The plugin that `register` let answer to a scheme in this process, or None where an entry point has to."""
    return _registered.get(scheme)


def load_plugin(scheme: str) -> object:
    """The plugin module that answers to a scheme; once found, it is the one for as long as `sys.path` is the same.

    Raises UnknownScheme, MissingExtra where the plugin's driver is not installed, and PluginError where two
    distributions claim the scheme or the module does not implement the hooks.
    """
    if scheme in _registered:
        return _registered[scheme]
    searched = (scheme, *sys.path)
    if searched in _loaded:
        return _loaded[searched]
    found = installed_schemes()
    claims = found.get(scheme, [])
    if not claims:
        raise UnknownScheme(scheme, tuple(found), _hint(scheme))
    if len({claim.value for claim in claims}) > 1:
        named = ", ".join(f"{claim.value} of {_distribution(claim)}" for claim in claims)
        raise PluginError(f"{scheme}:// is claimed by more than one plugin: {named}; uninstall all but one")
    claim = claims[0]
    try:
        module: object = claim.load()
    except ModuleNotFoundError as error:
        missing = error.name or str(error)
        if missing.partition(".")[0] == claim.module.partition(".")[0]:
            raise PluginError(f"the plugin {claim.value} of {_distribution(claim)} is not there: {error}") from error
        raise MissingExtra(scheme, missing, _hint(scheme) or f"install it beside {_distribution(claim)}") from error
    except Exception as error:
        raise PluginError(f"the plugin {claim.value} of {_distribution(claim)} does not import: {error}") from error
    _manage(scheme, module, f"{claim.value} of {_distribution(claim)}")
    _loaded[searched] = module
    return module


def _manage(scheme: str, plugin: object, name: str) -> None:
    if scheme in _managers and _managers[scheme].is_registered(plugin):
        return
    manager = pluggy.PluginManager("threadkeep")
    manager.add_hookspecs(hooks)
    try:
        manager.register(plugin, name=name)
        manager.check_pending()
        callers = manager.get_hookcallers(plugin) or []
        if "open_store" not in {caller.name for caller in callers}:
            raise PluginError("it has no open_store hook marked with threadkeep.port.hookimpl")
    except (pluggy.PluginValidationError, PluginError) as error:
        raise PluginError(f"the plugin {name} is not usable: {error}") from error
    _managers[scheme] = manager


def _distribution(claim: EntryPoint) -> str:
    return f"{claim.dist.name} {claim.dist.version}" if claim.dist is not None else "an unnamed distribution"


def _hint(scheme: str) -> str:
    extra = _EXTRAS.get(scheme)
    return f'pip install "threadkeep[{extra}]"' if extra else ""


def _caller(url: str, hook: str) -> pluggy.HookCaller:
    scheme = scheme_of(url)
    load_plugin(scheme)
    _check_escapes(url)
    caller: pluggy.HookCaller = getattr(_managers[scheme].hook, hook)
    return caller


def _check_escapes(url: str) -> None:
    if _CUT_PASSWORD.match(url):
        # A plugin would take the end of the password for a database or an option, and name it.
        raise InvalidURL(
            "an @ follows the first / ? or # of the URL; in a user's name or password write / as %2F, ? as %3F,"
            " # as %23 and @ as %40, and after the host write @ as %40"
        )
    try:
        urlsplit(url)
    except ValueError as error:
        said = _without_password(url, str(error))
        raise InvalidURL(f"the URL cannot be read ({said}); in names and passwords write [ as %5B, ] as %5D") from None


def open_store(url: str | None = None) -> Guard:
    """The store that a URL names, guarded, not yet connected. None is THREADKEEP_URL, else an SQLite file here.

    Raises InvalidURL and its kinds, and PluginError.
    """
    url = (os.environ.get(URL_VARIABLE) or DEFAULT_URL) if url is None else url
    store = _asked(url, "open_store")
    if store is None:
        raise PluginError(f"the plugin for {scheme_of(url)}:// did not take the URL")
    if not isinstance(store, Store):
        raise PluginError(
            f"the plugin for {scheme_of(url)}:// gave {type(store).__name__}, which is no threadkeep.port.store.Store"
        )
    return Guard(store)


def _asked(url: str, hook: str, **given: object) -> object:
    """What a hook of the URL's plugin answers. Whatever it raises comes as an error of ours, without the password."""
    caller = _caller(url, hook)
    try:
        answer: object = caller(url=url, **given)
        return answer
    except InvalidURL as error:
        said = _without_password(url, str(error))
        if said == str(error):
            raise
        raise InvalidURL(said) from None
    except ThreadkeepError:
        raise
    except Exception as error:  # noqa: BLE001  # raised again as an error of this library, which alone may leave
        said = f"{type(error).__name__}: {error}"
        shown = _without_password(url, said)
        # The cause would show the password again.
        raise PluginError(f"the plugin for {scheme_of(url)}:// failed on the URL: {shown}") from (
            error if shown == said else None
        )


def _without_password(url: str, text: str) -> str:
    """A text about a URL, in which the URL's password is not shown."""
    found = _PASSWORD.search(url)
    return text.replace(found[1], "***") if found else text


def store_exists(url: str) -> bool | None:
    """Whether there is a store at a URL, or None where the plugin does not say. Nothing is made.

    Raises InvalidURL and its kinds, and PluginError.
    """
    exists = _asked(url, "store_exists")
    return None if exists is None else bool(exists)


def scan_backend(url: str) -> Iterator[bytes] | None:
    """Everything that the backend of a URL holds, raw, or None where the plugin does not offer it. For tests."""
    scan: Iterator[bytes] | None = _caller(url, "scan_backend")(url=url)
    return scan


def new_place(url: str) -> str | None:
    """The URL of a place like that of `url` where nothing is yet, or None where the plugin offers none. For tests.

    Raises InvalidURL and its kinds, and PluginError.
    """
    place = _asked(url, "new_place")
    return None if place is None else str(place)


def shift_version(url: str, by: int) -> bool:
    """Make a place say that its layout is so many versions newer, or older. False where the plugin does not offer it.

    For tests. Raises InvalidURL and its kinds, and PluginError.
    """
    return bool(_asked(url, "shift_version", by=by))


def replace_place(url: str, by: str | None) -> bool:
    """Take away what is at the place of a URL, or move there what is at `by`. False where the plugin does not offer it.

    For tests. Raises as `new_place`.
    """
    return bool(_asked(url, "replace_place", by=by))


def proxied(url: str, proxy: Callable[[str, int], tuple[str, int]]) -> str | None:
    """The URL of the same place through proxies, which `proxy(host, port)` makes, or None without the hook. For tests.

    Raises NotImplementedError with the plugin's reason where the place cannot be reached so, else as `new_place`.
    """
    try:
        place = _asked(url, "proxied", proxy=proxy)
    except PluginError as error:
        if isinstance(error.__cause__, NotImplementedError):
            raise error.__cause__ from None
        raise
    return None if place is None else str(place)


def replace_hosts(url: str, address: Callable[[str, int], tuple[str, int]], port: int) -> str:
    """A URL `scheme://user@host:port/...` with the host and port that `address` gives for those that it names.

    `port` is the one where the URL names none. Several hosts are separated by commas. InvalidURL without a host.
    """
    # Several hosts are none in urllib's eyes, which takes them for a bad IPv6 address from Python 3.15 on.
    found = re.match(r"[^:/?#]+://([^/?#]*)", url)
    netloc = found[1] if found else ""
    login, at, hosts = netloc.rpartition("@")
    replaced = []
    for each in hosts.split(","):
        one = urlsplit(f"//{each}")
        if not one.hostname:
            raise InvalidURL(f"a URL of {scheme_of(url)}:// names a host here, as in {scheme_of(url)}://host:{port}")
        host, other = address(unquote(one.hostname), one.port or port)
        replaced.append(f"[{host}]:{other}" if ":" in host else f"{host}:{other}")
    return url.replace(f"//{netloc}", f"//{login}{at}{','.join(replaced)}", 1)


def clock(url: str, seconds: float) -> bool:
    """Whether the plugin has set the clock of the URL's server so many seconds ahead. For tests.

    Raises as `new_place`.
    """
    return bool(_asked(url, "clock", seconds=seconds))
