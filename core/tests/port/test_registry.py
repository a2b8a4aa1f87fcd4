"""From a URL to a store: real distributions on the path, with their faults, and what each costs the others: nothing."""

from __future__ import annotations

import asyncio
import importlib
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from threadkeep import Memory
from threadkeep.errors import InvalidURL, MissingExtra, PluginError, ThreadkeepError, UnknownScheme
from threadkeep.port import (
    Store,
    clock,
    hookimpl,
    installed_schemes,
    load_plugin,
    new_place,
    open_store,
    proxied,
    register,
    registered,
    registry,
    replace_hosts,
    replace_place,
    scan_backend,
    scheme_of,
    shift_version,
    store_exists,
)
from threadkeep_adapters.memory.store import InProcessStore

Install: TypeAlias = Callable[..., str]

GOOD = """
    from threadkeep.port import hookimpl
    from threadkeep_adapters.memory.store import InProcessStore

    @hookimpl
    def open_store(url):
        return InProcessStore(url)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a small distribution with a plugin module: `install(scheme, source)` gives the module's name."""
    monkeypatch.syspath_prepend(tmp_path)
    modules: list[str] = []

    def make(scheme: str, source: str | None = GOOD, *, name: str = "", value: str = "") -> str:
        module = f"plugin_{uuid.uuid4().hex}"
        name = name or f"threadkeep-{scheme}"
        if source is not None:
            (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        folder = tmp_path / f"{name.replace('-', '_')}-1.2.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (folder / "entry_points.txt").write_text(f"[threadkeep]\n{scheme} = {value or module}\n")
        importlib.invalidate_caches()
        modules.append(module)
        return module

    yield make
    for module in modules:
        sys.modules.pop(module, None)


def refused(url: Any, kind: type[ThreadkeepError]) -> str:
    with pytest.raises(kind) as caught:
        open_store(url)
    assert type(caught.value) is kind
    return str(caught.value)


def works(url: str) -> None:
    async def main() -> None:
        async with Memory(url) as memory:
            thread = memory.thread("ann", uuid.uuid4().hex)
            await thread.append("hello")
            assert [message.text for message in await thread.messages()] == ["hello"]

    asyncio.run(main())


def test_a_strangers_store_opens_by_its_scheme_like_a_built_in_one(install: Install) -> None:
    install("acme")
    works("acme://anywhere")
    works("ACME://anywhere")
    assert {"acme", "memory", "sqlite"} <= installed_schemes().keys()


def test_one_module_may_answer_to_two_schemes(install: Install) -> None:
    module = install("acme")
    install("acme2", None, value=module)
    works("acme://x")
    works("acme2://x")


def test_a_scheme_may_have_every_character_of_a_scheme(install: Install) -> None:
    install("acme+v2.x-y")
    works("acme+v2.x-y://anywhere")


def test_an_unknown_scheme_lists_what_is_installed(install: Install) -> None:
    install("acme")
    text = refused("acmee://user:secret@host/db", UnknownScheme)
    assert text.startswith("no store is installed for acmee://")
    for scheme in ("acme://", "memory://", "sqlite://"):
        assert scheme in text
    assert "secret" not in text


@pytest.mark.parametrize(
    "url", ["threads.db", "", "sqlite:", "sqlite:/x", "://x", "user:secret@host", "1a://x", " memory://x"]
)
def test_a_url_without_a_scheme_says_how_one_looks(url: str) -> None:
    text = refused(url, InvalidURL)
    assert "begins with a scheme, as in 'sqlite:///threadkeep.db'; installed:" in text
    assert "memory://" in text
    assert "secret" not in text


@pytest.mark.parametrize("url", [7, 0, b"memory://x", Path("threads.db"), ["memory://x"], True])
def test_a_url_that_is_no_string_is_refused(url: Any) -> None:
    assert "must be a string such as 'sqlite:///threadkeep.db', not" in refused(url, InvalidURL)


def test_a_misspelt_hook_is_refused_by_name(install: Install) -> None:
    module = install("acme", GOOD.replace("def open_store", "def open_stroe"))
    text = refused("acme://x", PluginError)
    assert f"{module} of threadkeep-acme 1.2" in text
    assert "open_stroe" in text
    assert refused("acme://x", PluginError) == text
    works("memory://beside a misspelt hook")


def test_a_misspelt_hook_beside_the_right_one_is_refused(install: Install) -> None:
    install("acme", GOOD + "\n    @hookimpl\n    def scan_backened(url):\n        return None\n")
    assert "scan_backened" in refused("acme://x", PluginError)


def test_a_hook_with_arguments_of_its_own_is_refused(install: Install) -> None:
    install("acme", GOOD.replace("(url):", "(url, timeout):"))
    for _ in range(2):
        text = refused("acme://x", PluginError)
        assert "threadkeep-acme 1.2" in text
        assert "timeout" in text
    works("memory://beside a wrong hook")


def test_half_a_plugin_answers_for_no_other_scheme(install: Install) -> None:
    install("acme", GOOD + "\n    @hookimpl\n    def scan_backend(url, timeout):\n        return None\n")
    refused("acme://x", PluginError)
    assert name_of("memory://mine") == "mine"


@pytest.mark.parametrize("source", ["", GOOD.replace("@hookimpl", ""), "open_store = 5"])
def test_a_module_without_the_hook_is_refused_and_told_what_is_missing(install: Install, source: str) -> None:
    install("acme", source)
    text = refused("acme://x", PluginError)
    assert "threadkeep-acme 1.2" in text
    assert "no open_store hook marked with threadkeep.port.hookimpl" in text


@pytest.mark.parametrize(
    "source", ["raise RuntimeError('broken at import')", "this is no Python", "from threadkeep import nothing"]
)
def test_a_module_that_fails_to_import_harms_no_other_scheme(install: Install, source: str) -> None:
    install("broken", source)
    install("acme")
    works("acme://x")
    works("memory://beside a broken plugin")
    assert "broken" in installed_schemes()
    for _ in range(2):
        text = refused("broken://x", PluginError)
        assert "threadkeep-broken 1.2 does not import" in text
    works("acme://x")


def test_a_module_that_is_not_there_is_a_broken_plugin_and_no_missing_extra(install: Install) -> None:
    install("acme", None, value="no_such_module.store")
    assert "no_such_module.store of threadkeep-acme 1.2 is not there" in refused("acme://x", PluginError)
    install("attr", value="threadkeep_adapters.memory:nothing")
    assert "threadkeep-attr 1.2 does not import" in refused("attr://x", PluginError)


@pytest.mark.parametrize(
    "source", ["import acme_driver.connection", "import acme_driver", "from acme_driver import connect"]
)
def test_a_missing_driver_is_named_with_what_to_do(install: Install, source: str) -> None:
    install("acme", source)
    with pytest.raises(MissingExtra) as caught:
        open_store("acme://user:secret@host")
    assert (caught.value.scheme, caught.value.module) == ("acme", "acme_driver")
    text = str(caught.value)
    assert text.startswith("acme:// needs the module 'acme_driver', which is not installed; ")
    assert "install it beside threadkeep-acme 1.2" in text
    assert "secret" not in text


def test_a_missing_driver_of_our_own_names_the_extra(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("acme", "import acme_driver")
    monkeypatch.setitem(registry._EXTRAS, "acme", "acme")
    assert 'pip install "threadkeep[acme]"' in refused("acme://x", MissingExtra)
    monkeypatch.setitem(registry._EXTRAS, "later", "later")
    assert 'pip install "threadkeep[later]"' in refused("later://x", UnknownScheme)


def test_two_distributions_that_claim_one_scheme_are_both_named(install: Install) -> None:
    one = install("acme", name="acme-one")
    two = install("acme", name="acme-two")
    text = refused("acme://x", PluginError)
    assert f"{one} of acme-one 1.2" in text
    assert f"{two} of acme-two 1.2" in text
    assert "uninstall all but one" in text
    works("memory://beside a disputed scheme")


def test_a_distribution_that_claims_a_built_in_scheme_does_not_take_it_in_silence(install: Install) -> None:
    install("memory", name="acme-memory")
    text = refused("memory://x", PluginError)
    assert "acme-memory 1.2" in text
    assert "threadkeep_adapters.memory of threadkeep" in text


def test_one_distribution_found_twice_is_one_claim(install: Install) -> None:
    module = install("acme", name="acme-store")
    install("acme", None, name="acme_store", value=module)
    works("acme://x")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return None", "did not take the URL"),
        ("return 5", "gave int, which is no threadkeep.port.store.Store"),
        ("return InProcessStore", "which is no threadkeep.port.store.Store"),
        ("raise ValueError(f'cannot read {url}')", "ValueError"),
        ("raise KeyError(url)", "KeyError"),
    ],
)
def test_a_hook_that_makes_no_store_is_a_broken_plugin_and_repeats_no_password(
    install: Install, body: str, says: str
) -> None:
    install("acme", GOOD.replace("return InProcessStore(url)", body))
    text = refused("acme://user:secret@host", PluginError)
    assert says in text
    assert "acme" in text
    assert "secret" not in text


def test_a_hook_that_fails_while_it_looks_is_a_broken_plugin_and_repeats_no_password(install: Install) -> None:
    """Only this library's errors leave, also before a store is opened (law 12)."""
    looks = "\n    @hookimpl\n    def store_exists(url):\n        raise OSError(f'no answer from {url}')\n"
    install("acme", GOOD + looks)
    with pytest.raises(PluginError, match="acme:// failed on the URL: OSError: no answer from") as caught:
        store_exists("acme://user:secret@host")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_hook_that_refuses_its_url_is_heard(install: Install) -> None:
    source = GOOD.replace("return InProcessStore(url)", "raise InvalidURL('acme:// takes a host and nothing else')")
    install(
        "acme",
        source.replace(
            "from threadkeep.port import", "from threadkeep.errors import InvalidURL\n    from threadkeep.port import"
        ),
    )
    assert refused("acme://x/y", InvalidURL) == "acme:// takes a host and nothing else"


@pytest.mark.parametrize(
    "url", ["memory://user:secret@host/path", "memory://x?password=secret", "sqlite://user:secret@host/x"]
)
def test_a_built_in_store_that_refuses_a_url_repeats_no_password(url: str) -> None:
    assert "secret" not in refused(url, InvalidURL)


@pytest.mark.parametrize("scheme", ["acme", "dynamodb", "memory", "mongodb", "postgresql", "redis", "redis+cluster"])
@pytest.mark.parametrize(
    "rest",
    [
        "ann:my/secret@host/db",
        "ann:my/secret@host:99/db",
        "ann:99/secret@host",
        "ann:my?secret@host",
        "ann:my?prefix=secret@host",
        "ann:my#secret@host",
        "ann:m@y/secret@host",
        ":my/\nsecret@host",
    ],
)
def test_a_password_that_is_not_escaped_is_refused_before_a_plugin_can_show_it(
    install: Install, scheme: str, rest: str
) -> None:
    install("acme", GOOD.replace("return InProcessStore(url)", "raise ValueError(url)"))
    text = refused(f"{scheme}://{rest}", InvalidURL)
    assert "/ as %2F, ? as %3F, # as %23 and @ as %40" in text
    assert "secret" not in text
    for look in (store_exists, scan_backend):
        with pytest.raises(InvalidURL, match="%2F"):
            look(f"{scheme}://{rest}")


@pytest.mark.parametrize("rest", ["host/a@b", "host?user=a@b", "/C:/a@b", "//C:/a@b"])
def test_an_at_sign_in_a_name_after_the_host_may_stay(install: Install, rest: str) -> None:
    install("acme")
    store = open_store(f"acme://{rest}").store
    assert isinstance(store, InProcessStore)
    assert store.name == f"acme://{rest}"


@pytest.mark.parametrize("rest", ["ann:sec[ret@host", "[::1/x", "ann:secret@h\u2100st"])
def test_a_url_that_cannot_be_split_is_refused_without_its_password(install: Install, rest: str) -> None:
    install("acme")
    text = refused(f"acme://{rest}", InvalidURL)
    assert "%5B" in text
    assert "sec" not in text


def test_each_url_is_handed_to_its_own_plugin_only(install: Install) -> None:
    install("acme", GOOD.replace("InProcessStore(url)", "InProcessStore('acme ' + url)"))
    install("other", GOOD.replace("InProcessStore(url)", "InProcessStore('other ' + url)"))
    names = []
    for url in ("acme://x", "other://x", "acme://y"):
        store = open_store(url).store
        assert isinstance(store, InProcessStore)
        names.append(store.name)
    assert names == ["acme acme://x", "other other://x", "acme acme://y"]


def test_a_plugin_without_a_raw_scan_has_none(install: Install) -> None:
    install("acme")
    assert scan_backend("acme://x") is None
    assert scan_backend("memory://x") is not None


def test_a_plugin_without_new_places_has_none(install: Install) -> None:
    install("acme")
    assert new_place("acme://x") is None
    places = {new_place("memory://x"), new_place("memory://x"), "memory://x"}
    assert len(places) == 3


SHIFTING = (
    GOOD
    + """
    @hookimpl
    def shift_version(url, by):
        return (url, by) == ("other://x", -1)
"""
)


def test_a_plugin_whose_places_say_no_version_has_none_to_shift(install: Install) -> None:
    install("acme")
    assert not shift_version("acme://x", 1)
    install("other", SHIFTING)
    assert shift_version("other://x", -1)


REPLACING = (
    GOOD
    + """
    @hookimpl
    def replace_place(url, by):
        return (url, by) in (("other://x", None), ("other://x", "other://y"))
"""
)


def test_a_plugin_whose_places_stay_has_none_to_replace(install: Install) -> None:
    install("acme")
    assert not replace_place("acme://x", None)
    install("other", REPLACING)
    assert replace_place("other://x", None)
    assert replace_place("other://x", "other://y")


def test_a_plugin_without_a_proxy_and_a_clock_has_none(install: Install) -> None:
    install("acme")
    assert proxied("acme://x", lambda host, port: (host, port)) is None
    assert not clock("acme://x", 1.0)


def test_hosts_are_replaced_and_the_rest_stays_letter_by_letter() -> None:
    asked: list[tuple[str, int]] = []

    def address(host: str, port: int) -> tuple[str, int]:
        asked.append((host, port))
        return "::1", 9

    replaced = replace_hosts("acme://a:b%40@one,[::2]:7/x?y=%2F#z", address, 5)
    assert replaced == "acme://a:b%40@[::1]:9,[::1]:9/x?y=%2F#z"
    assert asked == [("one", 5), ("::2", 7)]
    with pytest.raises(InvalidURL, match="names a host"):
        replace_hosts("acme:///x", address, 5)


def test_importing_the_registry_imports_no_plugin(install: Install) -> None:
    module = install("acme", "raise SystemExit('imported')")
    assert module in [entry.value for entry in installed_schemes()["acme"]]
    works("memory://beside a plugin that ends the process")


class Plugin:
    """A plugin of this process."""

    def __init__(self, name: str) -> None:
        self.name = name

    @hookimpl
    def open_store(self, url: str) -> Store:
        return InProcessStore(self.name)


def name_of(url: str) -> str:
    store = open_store(url).store
    assert isinstance(store, InProcessStore)
    return store.name


def test_a_plugin_of_this_process_answers_to_the_scheme_that_it_was_registered_for() -> None:
    scheme = f"mine{uuid.uuid4().hex}"
    plugin = Plugin("first")
    register(scheme, plugin)
    register(scheme, plugin)
    assert name_of(f"{scheme}://x") == "first"
    assert load_plugin(scheme) is plugin
    assert registered(scheme) is plugin
    assert registered("sqlite") is None
    other = f"mine{uuid.uuid4().hex}"
    register(other, plugin)
    assert name_of(f"{other}://x") == "first"


def test_registered_again_the_later_plugin_answers() -> None:
    scheme = f"mine{uuid.uuid4().hex}"
    for name in ("first", "second", "third"):
        register(scheme, Plugin(name))
        assert name_of(f"{scheme}://x") == name


@pytest.mark.parametrize("scheme", ["", "Mine", "my_scheme", "1mine", "mine://", "a b", 7, None])
def test_a_plugin_is_registered_for_a_scheme_that_urls_can_have(scheme: Any) -> None:
    with pytest.raises(InvalidURL, match="scheme"):
        register(scheme, Plugin("never"))


def test_what_is_installed_is_looked_through_once(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs open stores often, and some environments hold hundreds of distributions."""
    looks = []

    def counted(*, group: str) -> Any:
        looks.append(group)
        return entry_points(group=group)

    monkeypatch.setattr(registry, "entry_points", counted)
    install("acme")
    for _ in range(3):
        open_store("acme://anywhere")
    assert looks == ["threadkeep"]


def test_an_object_without_the_hook_is_not_registered() -> None:
    scheme = f"mine{uuid.uuid4().hex}"
    with pytest.raises(PluginError, match="no open_store hook"):
        register(scheme, object())
    assert scheme in refused(f"{scheme}://x", UnknownScheme)


def test_the_scheme_of_a_url_is_in_lower_case() -> None:
    assert scheme_of("SQLite:///x") == "sqlite"
