"""Stores that were registered in this process: modules are judged in processes too, of objects it is said why not.

Laws 4, 5, 6 and 12 have checks that need worker processes.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from threadkeep.port import Changes, Store, Thread, hookimpl, register
from threadkeep_adapters.sqlite import store as sqlite
from threadkeep_contract.harness import NotJudged, record
from threadkeep_contract.processes import forkserver
from threadkeep_contract.processes.team import place_of, workers
from threadkeep_contract.processes.worker import Run, Step
from threadkeep_contract.report import Finding, judge

MODULE = """
from threadkeep.port import hookimpl
from threadkeep_adapters.sqlite import store


@hookimpl
def open_store(url):
    return store.open_store(url.replace("notebook-module", "sqlite"))
"""


class _Plugin:
    @hookimpl
    def open_store(self, url: str) -> Store:
        return sqlite.open_store("sqlite" + url[url.index("://") :])


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module in a folder that is on the path of this process alone, as a notebook's is."""
    folder = tmp_path / "notebook"
    folder.mkdir()
    (folder / "notebook_store.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "notebook_store", raising=False)
    return import_module("notebook_store")


def judged(url: str, law: int, check: str) -> Finding:
    """What came of one check."""
    (finding,) = [one for one in judge(url, laws=[law], profile="brief").law(law).findings if one.check == check]
    return finding


@pytest.mark.parametrize("forks", [True, False], ids=["forked", "fresh"])
def test_a_registered_module_is_loaded_by_worker_processes(
    module: ModuleType, forks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forkserver, "_servers", {})
    if not forks:
        monkeypatch.setattr(forkserver, "_forks", lambda: False)
    register("notebook-module", module)

    async def run() -> None:
        async with workers(f"notebook-module:///{tmp_path}/a.db", 2) as team:
            for number, worker in enumerate(team):
                step = Step("commit", Thread("r", "t"), Changes(1, "e", (record(f"m{number}"),)))
                (outcome,) = await worker.outcomes_of(Run((step,)))
                assert outcome.receipt is not None
                assert outcome.receipt.positions == [number + 1]

    asyncio.run(run())
    for server in forkserver._servers.values():
        server.end()


def test_a_registered_module_is_judged_in_processes(module: ModuleType, tmp_path: Path) -> None:
    """Law 6."""
    register("notebook-module", module)
    found = judged(f"notebook-module:///{tmp_path}/a.db", 6, "test_what_processes_left_is_there")
    assert (found.status, found.not_offered) == ("kept", {}), found.seen


def test_a_registered_object_is_not_judged_in_processes_and_it_is_said_why(tmp_path: Path) -> None:
    """Law 6."""
    register("notebook-object", _Plugin())
    found = judged(f"notebook-object:///{tmp_path}/a.db", 6, "test_what_processes_left_is_there")
    assert found.status == "not judged"
    assert found.seen == "the plugin registered for notebook-object:// is an object of this process alone"
    assert "Name the plugin by an entry point of the group `threadkeep`" in found.promise
    assert "Traceback" not in found.seen + found.promise + found.history


def test_a_module_that_no_process_can_import_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ModuleType("made_by_hand")
    made.__dict__.update(open_store=_Plugin().open_store)
    register("notebook-made", made)
    with pytest.raises(NotJudged, match="is made_by_hand of this process alone"):
        place_of("notebook-made://x")

    # As one whose file has gone since it was imported.
    monkeypatch.setitem(sys.modules, "made_by_hand", made)

    async def run() -> None:
        async with workers(f"notebook-made:///{tmp_path}/a.db", 1):
            pass

    with pytest.raises(NotJudged, match=r"cannot import the store's module \(ModuleNotFoundError: No module named"):
        asyncio.run(run())


def test_an_installed_plugin_is_found_by_its_entry_point() -> None:
    assert place_of("sqlite:///x.db").module == ""
