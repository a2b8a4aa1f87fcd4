"""What is installed: three packages that are typed, a store and the commands, and harm to nobody."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import entry_points, metadata, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

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
def builder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with pip and what pyproject.toml requires for a build, and nothing else."""
    folder = tmp_path_factory.mktemp("builder")
    run(sys.executable, "-m", "venv", folder / "env", cwd=folder)
    python = folder / "env" / "bin" / "python"
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    run(python, "-m", "pip", "install", "--quiet", "--no-compile", *requires, cwd=folder)
    return python


def build_wheel(builder: Path, source: Path, folder: Path) -> Path:
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    run(builder, "-m", "pip", "wheel", *options, source, cwd=folder.parent)
    (wheel,) = folder.glob("threadkeep-*.whl")
    return wheel


@pytest.fixture(scope="session")
def bare(builder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel, and the Python of an environment that has it beside pytest and nothing of the extras."""
    folder = tmp_path_factory.mktemp("bare")
    wheel = build_wheel(builder, ROOT, folder / "wheels")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "env", cwd=folder)
    python = folder / "env" / "bin" / "python"
    pip = (builder, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-compile", wheel, "pytest", cwd=folder)
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


def test_the_sdist_builds_the_same_packages(builder: Path, tmp_path: Path) -> None:
    hook = f"import hatchling.build; print(hatchling.build.build_sdist({str(tmp_path)!r}))"
    run(builder, "-c", hook, cwd=ROOT)
    (sdist,) = tmp_path.glob("threadkeep-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "core/threadkeep/py.typed"} <= names
    assert build_wheel(builder, sdist, tmp_path / "wheels").exists()


def test_everything_that_is_declared_has_a_version_for_the_checks() -> None:
    """What constraints.txt leaves out would be installed in whatever version is the newest on that day."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lists = (declared["project"]["dependencies"], *declared["project"]["optional-dependencies"].values())
    lines = [line for names in (*lists, *declared["dependency-groups"].values()) for line in names]
    named = (re.split(r"[^\w.-]", line)[0] for line in lines if isinstance(line, str))
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in named} - {"threadkeep"}
    held = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()}
    assert names - held == set(), "run nox -s constraints"


def test_a_bare_install_harms_no_other_project(builder: Path, bare: tuple[Path, Path], tmp_path: Path) -> None:
    _, python = bare
    listed = run(builder, "-m", "pip", "--python", python, "list", "--format=json", cwd=tmp_path)
    installed = {each["name"] for each in json.loads(listed)}
    assert {"threadkeep", "pytest"} <= installed
    assert "hypothesis" not in installed
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


@pytest.mark.slow
def test_a_new_store_is_begun_and_judged_from_an_empty_environment(
    builder: Path, bare: tuple[Path, Path], tmp_path: Path
) -> None:
    """The lines of docs/write-a-store.md, as a new author types them. What they get is the wheel, and no source."""
    wheel, _ = bare
    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    programs = tmp_path / "env" / "bin"
    pip = (programs / "python", "-m", "pip", "install", "--quiet", "--no-compile")
    run(*pip, f"{wheel}[contract]", cwd=tmp_path)
    contract = (programs / "threadkeep", "contract", "acme://judged.acme", "--profile", "brief")

    run(programs / "threadkeep", "new-store", "acme", cwd=tmp_path)
    folder = tmp_path / "acme-store"
    run(*pip, "-e", ".[test]", cwd=folder)
    draft = subprocess.run([*map(str, contract)], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert draft.returncode == 1
    assert len(re.findall(r"^law +\d+ .*: waits for \w+$", draft.stdout, re.MULTILINE)) == 13
    assert len(draft.stdout.splitlines()) == 15
    assert "Traceback" not in draft.stdout + draft.stderr

    run(*pip[:3], "uninstall", "--quiet", "--yes", "acme-store", cwd=folder)
    run(programs / "threadkeep", "new-store", "acme", "--example", "sqlite", "--folder", "whole", cwd=tmp_path)
    run(*pip, "-e", ".[test]", cwd=tmp_path / "whole")
    assert "broken" not in run(*contract, cwd=tmp_path / "whole")
    some = ("-k", "positions or cursors", "--contract-profile=brief")
    assert " passed" in run(programs / "pytest", "-x", *some, cwd=tmp_path / "whole")


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
