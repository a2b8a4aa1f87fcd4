"""`threadkeep new-store`: what it writes can be read, installed and judged, and it overwrites nothing."""

from __future__ import annotations

import ast
import importlib.util
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from threadkeep import Memory
from threadkeep.cli import main
from threadkeep.cli.new_store.package import DRAFT, EXAMPLES, Names, files_of
from threadkeep.port import Store, register
from threadkeep_contract.unwritten import unwritten

VERBS = ["load", "commit", "delete", "threads", "resources"]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Schemes that a test registers are gone after it.
    monkeypatch.setattr("threadkeep.port.registry._registered", {})
    monkeypatch.setattr("threadkeep.port.registry._managers", {})
    monkeypatch.setattr("threadkeep.port.registry._loaded", {})


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["new-store", *arguments])


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.parent.name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    """Write the store of a scheme, let its module answer to it, and give a URL."""

    def write(scheme: str, *options: str) -> str:
        told = run(scheme, "--folder", f"of {scheme}", *options)
        assert told.exit_code == 0, told.output
        register(scheme, imported(tmp_path / f"of {scheme}" / "src" / Names.of(scheme).package / "__init__.py"))
        return f"{scheme}://{tmp_path}/threads"

    return write


def test_the_package_has_an_entry_point_the_port_and_the_contract(tmp_path: Path) -> None:
    told = run("acme")
    assert told.exit_code == 0, told.output
    folder = tmp_path / "acme-store"
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert found == [
        ".gitignore",
        "README.md",
        "pyproject.toml",
        "src/acme_store/__init__.py",
        "src/acme_store/py.typed",
        "tests/test_contract.py",
    ]
    assert all(f"wrote {Path('acme-store') / path}\n" in told.output for path in found)
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"] == {"threadkeep": {"acme": "acme_store"}}
    assert project["dependencies"] == ["threadkeep"]
    assert project["optional-dependencies"] == {"test": ["threadkeep[contract]"]}
    test = (folder / "tests" / "test_contract.py").read_text(encoding="utf-8")
    assert "class TestAcme(ContractSuite):\n" in test
    assert 'url = f"acme://{tempfile.mkdtemp()}/judged"\n' in test


@pytest.mark.parametrize("store", [DRAFT, *EXAMPLES])
def test_names_with_signs_give_names_that_python_and_pip_take(store: str) -> None:
    names = Names.of("acme+tls-2.x")
    assert (names.distribution, names.package, names.prefix) == (
        "acme-tls-2-x-store",
        "acme_tls_2_x_store",
        "AcmeTls2X",
    )
    files = files_of(names, store)
    for path, text in files.items():
        if path.endswith(".py"):
            ast.parse(text)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["entry-points"] == {"threadkeep": {"acme+tls-2.x": "acme_tls_2_x_store"}}
    assert "class AcmeTls2XStore(Store):" in files["src/acme_tls_2_x_store/__init__.py"]


@pytest.mark.parametrize("store", [DRAFT, *EXAMPLES])
def test_another_name_leaves_none_of_the_examples_name(store: str) -> None:
    for path, text in files_of(Names.of("zeta"), store).items():
        assert "acme" not in f"{path}{text}".lower()


@pytest.mark.parametrize(
    "name", ["", "Acme", "1acme", "acme_x", "acme--x", "acme.", "acme x", "åcme", "../acme", "acme\n"]
)
def test_a_name_that_no_scheme_has_is_refused_with_what_is_allowed(name: str, tmp_path: Path) -> None:
    told = run(name)
    assert told.exit_code == 2
    assert "a lower-case letter, then such letters and digits" in told.output
    assert list(tmp_path.iterdir()) == []


def test_a_scheme_that_is_installed_is_refused(tmp_path: Path) -> None:
    told = run("sqlite")
    assert told.exit_code == 2
    assert "sqlite:// is taken by threadkeep" in told.output
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "acme-store").write_text("mine")
    told = run("acme")
    assert told.exit_code == 1
    assert "acme-store is there already; name another with --folder" in told.output
    assert (tmp_path / "acme-store").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert run("acme", "--folder", "empty").exit_code == 1
    assert list((tmp_path / "empty").iterdir()) == []
    assert run("acme", "--folder", "new/folder").exit_code == 0
    assert (tmp_path / "new" / "folder" / "pyproject.toml").is_file()


def test_a_folder_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = run("acme", "--folder", "file/inside")
    assert told.exit_code == 1
    assert told.output.startswith(f"Error: {Path('file/inside')} cannot be written: ")
    assert told.output.count("\n") == 1


def test_the_draft_says_which_verbs_are_not_written(written: Callable[..., str]) -> None:
    url = written("draft")
    assert unwritten(url) == {verb: f"{verb} is not written yet" for verb in VERBS}
    source = files_of(Names.of("draft"), DRAFT)["src/draft_store/__init__.py"]
    (store,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    explained = {node.name for node in store.body if isinstance(node, ast.AsyncFunctionDef) and ast.get_docstring(node)}
    assert explained == Store.__abstractmethods__ == {*VERBS, "open", "close"}


def test_a_report_on_a_draft_has_one_line_a_law_and_no_traceback(
    written: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    url = written("draft")
    told = CliRunner().invoke(main, ["contract", url, "--profile", "brief", "--law", "3", "--law", "10"])
    assert told.exit_code == 1
    assert told.stdout.splitlines() == [
        "law  3 Order: waits for commit",
        "law 10 Deletion: waits for commit",
        "",
        "Verbs that are not written yet: load, commit, delete, threads, resources. "
        "A law is left at the first check that fails.",
    ]
    assert "Traceback" not in told.output + capfd.readouterr().err


def test_laws_that_do_not_wait_are_reported_as_ever(written: Callable[..., str], tmp_path: Path) -> None:
    url = written("half", "--example", "sqlite")
    module = tmp_path / "of half" / "src" / "half_store" / "__init__.py"
    text = module.read_text(encoding="utf-8")
    body = "        await self._write(lambda db: _delete(db, scope))\n"
    assert body in text
    module.write_text(text.replace(body, "        raise NotImplementedError\n"), encoding="utf-8")
    register("half", imported(module))
    assert unwritten(url) == {"delete": "delete is not written yet"}
    told = CliRunner().invoke(main, ["contract", url, "--profile", "brief", "--law", "7"])
    assert told.exit_code == 0, told.output
    assert "kept" in told.stdout
    assert "Verbs that are not written yet: delete." in told.stdout


async def test_the_example_is_a_store_that_works(written: Callable[..., str]) -> None:
    url = written("whole", "--example", "sqlite")
    async with Memory(url) as memory:
        await memory.thread("alice", "support").append("hello")
    async with Memory(url) as memory:
        assert [message.text for message in await memory.thread("alice", "support").messages()] == ["hello"]


def test_nothing_is_unwritten_in_a_whole_store(tmp_path: Path) -> None:
    assert unwritten(f"sqlite:///{tmp_path / 'whole.db'}") == {}
