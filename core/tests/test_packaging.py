"""What is installed: three packages that are typed, a store and the commands, and harm to nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import entry_points, metadata, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

PACKAGES = {"threadkeep", "threadkeep_adapters", "threadkeep_contract"}

FOREIGN_CONFTEST = """
import asyncio
import pytest

@pytest.fixture
def harness():
    return "the foreign project's own"
"""

FOREIGN_TEST = """
import sys

class TestSuite:
    url = "not a store"

    def test_own_fixture(self, harness):
        assert harness == "the foreign project's own"

def test_nothing_heavy_is_loaded():
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert loaded & {"hypothesis", "threadkeep", "sqlalchemy", "pydantic"} == set()
    assert "threadkeep_contract.plugin" in sys.modules
"""


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel, and the Python of an environment that has it beside pytest and nothing of the extras."""
    folder = tmp_path_factory.mktemp("bare")
    run(sys.executable, "-m", "venv", folder / "env", cwd=folder)
    python = folder / "env" / "bin" / "python"
    run(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("threadkeep-*.whl")
    run(python, "-m", "pip", "install", "--quiet", wheel, "pytest", cwd=folder)
    return wheel, python


def test_the_wheel_has_three_typed_packages_and_nothing_else(bare: tuple[Path, Path]) -> None:
    wheel, _ = bare
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    for package in PACKAGES:
        folder = next(
            path for path in (ROOT / part / package for part in ("core", "adapters", "contract_tests")) if path.is_dir()
        )
        here = {f"{package}/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*.py")}
        assert here == {name for name in names if name.startswith(f"{package}/") and name.endswith(".py")}


def test_the_sdist_builds_the_same_packages(tmp_path: Path) -> None:
    hook = f"import hatchling.build; print(hatchling.build.build_sdist({str(tmp_path)!r}))"
    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "hatchling", cwd=tmp_path)
    run(python, "-c", hook, cwd=ROOT)
    (sdist,) = tmp_path.glob("threadkeep-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "core/threadkeep/py.typed"} <= names
    wheels = tmp_path / "wheels"
    run(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, sdist, cwd=tmp_path)
    assert len(list(wheels.glob("threadkeep-*.whl"))) == 1


def test_a_bare_install_harms_no_other_project(bare: tuple[Path, Path], tmp_path: Path) -> None:
    _, python = bare
    assert json.loads(run(python, "-m", "pip", "list", "--format=json", cwd=tmp_path)) != []
    assert "hypothesis" not in run(python, "-m", "pip", "list", cwd=tmp_path)
    (tmp_path / "conftest.py").write_text(FOREIGN_CONFTEST)
    (tmp_path / "test_foreign.py").write_text(FOREIGN_TEST)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\naddopts = --strict-markers --strict-config\n"
    )
    shown = run(python, "-W", "error", "-m", "pytest", cwd=tmp_path)
    assert "2 passed" in shown
    assert "warning" not in shown
    assert "the contract" not in shown


def test_a_bare_install_has_sqlite_memory_and_the_commands(bare: tuple[Path, Path], tmp_path: Path) -> None:
    _, python = bare
    program = """
        from threadkeep.blocking import Memory
        for url in ("memory://", "sqlite:///bare.db"):
            with Memory(url) as memory:
                memory.thread("alice", "support").append("hello")
                assert [m.text for m in memory.thread("alice", "support").messages()] == ["hello"]
    """
    run(python, "-W", "error", "-c", "if True:" + program, cwd=tmp_path)
    command = python.parent / "threadkeep"
    assert "support" in run(command, "threads", "--store", "sqlite:///bare.db", cwd=tmp_path)
    assert "support" in run(python, "-m", "threadkeep", "threads", "--store", "sqlite:///bare.db", cwd=tmp_path)


def test_without_the_extra_the_contract_says_how_to_get_it(bare: tuple[Path, Path], tmp_path: Path) -> None:
    _, python = bare
    command = [str(python), "-m", "threadkeep", "contract", "memory://judged"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert 'pip install "threadkeep[contract]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_every_extra_that_is_declared_brings_something() -> None:
    extras = metadata("threadkeep").get_all("Provides-Extra") or []
    assert sorted(extras) == ["all", "contract", "dynamodb", "models", "mongo", "postgres", "redis", "telemetry"]
    for extra in extras:
        assert any(f"extra == '{extra}'" in requirement for requirement in requires("threadkeep") or [])


def test_every_registered_store_has_its_page() -> None:
    registered = {
        entry.name: entry.value
        for entry in entry_points(group="threadkeep")
        if entry.dist and entry.dist.name == "threadkeep"
    }
    pages = {page.stem for page in (ROOT / "docs" / "stores").glob("*.md")}
    assert pages <= set(registered)
    # Several schemes of one module may share the page of one of them.
    assert {registered[page] for page in pages} == set(registered.values())
