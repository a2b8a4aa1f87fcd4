"""One random script on all stores at once: every store answers every call alike, errors included.

The stores are those that the contract judges (`store_urls.URLS`), so that a new one joins by itself.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Final

import pytest
import servers
import store_urls
from differential import Differential, Script, Sized
from servers import ServerMissing

import threadkeep_contract.saboteurs as saboteurs
from threadkeep.port import Limits, Store, hookimpl, register
from threadkeep_adapters.memory.store import InProcessStore
from threadkeep_contract.harness import LawBroken
from threadkeep_contract.inputs.confusable import Spot
from threadkeep_contract.inputs.operations import Load, Program

pytestmark = pytest.mark.slow

SECONDS: Final = 30.0
"""How long scripts are played on all stores."""

LEAST: Final = 20
"""Scripts that are played on all stores however long they take."""

ENOUGH: Final = 200
"""Scripts among which one shows each of FAULTS; the same ones in every run."""

FAULTS: Final = (
    "owner-missing-from-key",
    "repeat-moves-to-end",
    "position-reused-after-truncation",
    "drop-before-conditions",
    "times-to-milliseconds",
    "activity-goes-back",
    "delete-leaves-documents",
    "tail-moved-names-given-tail",
    "last-returns-oldest",
    "version-restarts-after-removal",
    "commit-over-25-records-fails",
    "conflict-told-as-outage",
)
"""Saboteurs of as many kinds as one writer's script can show: wrong answers, wrong errors, wrong texts of errors."""


@pytest.mark.timeout(SECONDS * 10)
def test_all_stores_answer_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    urls, missing = {}, []
    for name, url_in in store_urls.URLS.items():
        kind = store_urls.KINDS.get(name)
        try:
            if kind is not None:
                servers.reserve(kind).start()
        except ServerMissing as reason:
            missing.append(f"{name}: {reason}")
            continue
        urls[name] = url_in(tmp_path)
    differential = Differential(urls)
    try:
        differential.explore(LEAST, SECONDS)
    finally:
        differential.close()
    with capsys.disabled():
        print(f"\n{differential.scripts} scripts, {differential.calls} calls, answered alike by {', '.join(urls)}")
    if missing:
        servers.give_up(f"only {', '.join(urls)} were compared; {'; '.join(missing)}")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_store_among_sound_ones_is_found_and_named(fault: str, tmp_path: Path) -> None:
    register("saboteur", saboteurs)
    urls = {
        "memory": f"memory://{uuid.uuid4().hex}",
        "broken": f"saboteur://{fault}/{uuid.uuid4().hex}",
        "sqlite": f"sqlite:///{tmp_path / 'sound.db'}",
    }
    differential = Differential(urls, shrink_seconds=0)
    try:
        with pytest.raises(LawBroken) as broken:
            differential.explore(ENOUGH)
    finally:
        differential.close()
    assert "is answered by broken as by the model, memory" in broken.value.promise
    assert urls["broken"] in broken.value.history
    ast.parse(broken.value.history)


def test_a_failing_script_is_printed_as_python_that_runs(tmp_path: Path) -> None:
    """On the saboteur itself it would need registering first, so it is run with a sound store's URL in its place."""
    register("saboteur", saboteurs)
    url = f"saboteur://last-returns-oldest/{uuid.uuid4().hex}"
    differential = Differential({"memory": f"memory://{uuid.uuid4().hex}", "broken": url}, shrink_seconds=0)
    try:
        with pytest.raises(LawBroken) as broken:
            differential.explore(ENOUGH)
    finally:
        differential.close()
    script = tmp_path / "script.py"
    script.write_text(broken.value.history.replace(url, f"sqlite:///{tmp_path / 'sound.db'}"), encoding="utf-8")
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


class _Wide:
    """A plugin for a sound store that declares more than the least."""

    @hookimpl
    def open_store(self, url: str) -> Store:
        store = InProcessStore(url)
        store.limits = Limits(commit_messages=150)
        return store


def _sized(differential: Differential, limit: str, over: int) -> int:
    """How many calls are compared where a script has two readings and one commit of a size, but for its end."""
    program = Program((Spot("a", "t"),), (Load(0, 0), Load(0, 1)))
    before = differential.calls
    differential._harness.run(differential.play, Script(program, ((2, Sized(0, 0, limit, over)),)))
    return differential.calls - before - 5


@pytest.mark.parametrize("limit", ["id_bytes", "commit_messages", "working_memory_bytes"])
def test_what_one_store_takes_more_of_by_its_declaration_is_no_difference(limit: str) -> None:
    register("wide", _Wide())
    memory, name = f"memory://{uuid.uuid4().hex}", uuid.uuid4().hex
    differential = Differential({"memory": memory, "wide": f"wide://{name}"})
    try:
        assert _sized(differential, limit, 0) == 3
        assert _sized(differential, limit, 1) == (2 if limit == "commit_messages" else 3)
    finally:
        differential.close()
