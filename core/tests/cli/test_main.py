"""The command `threadkeep` itself: its list, its errors, its speed, and what the commands share."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
from click.testing import CliRunner

from threadkeep.cli import COMMANDS, main
from threadkeep.cli.options import without_secrets
from threadkeep.cli.output import visible, visible_id


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("THREADKEEP_URL", raising=False)


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_console_script_is_the_group() -> None:
    (script,) = [entry for entry in entry_points(group="console_scripts") if entry.name == "threadkeep"]
    assert script.load() is main


def test_python_m_threadkeep_is_the_same_command() -> None:
    told = subprocess.run([sys.executable, "-m", "threadkeep", "--version"], check=True, capture_output=True, text=True)
    assert told.stdout == f"threadkeep, version {version('threadkeep')}\n"


def test_help_lists_every_command_and_imports_none() -> None:
    told = _run(
        "import sys\nfrom threadkeep.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print([name for name in ('pydantic', 'sqlalchemy', 'rich', 'pluggy') if name in sys.modules])"
    )
    assert all(f"  {name} " in told for name in COMMANDS)
    assert told.endswith("[]\n")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("contract", "new-store")])
def test_each_command_explains_itself(name: str) -> None:
    told = CliRunner().invoke(main, [name, "--help"])
    assert told.exit_code == 0
    assert ("FROM TO" if name == "copy" else "--store URL") in told.stdout


@pytest.mark.parametrize("arguments", [["bogus"], ["threads", "--bogus"], ["threads", "--order", "size"], ["messages"]])
def test_bad_usage_exits_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == 2


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nowhere://me:secret@host/x", "Error: no store is installed for nowhere://"),
        ("sqlite://two/slashes.db", "Error: "),
        ("just-a-name", "Error: a store URL begins with a scheme"),
    ],
)
def test_errors_of_the_library_are_one_line_and_exit_with_1(url: str, said: str) -> None:
    told = CliRunner().invoke(main, ["threads", "--store", url])
    assert told.exit_code == 1
    assert told.stderr.startswith(said)
    assert told.stderr.count("\n") == 1
    assert "secret" not in told.output


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.setitem(sys.modules, "threadkeep.cli.contract", None)

    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'hypothesis'", name="hypothesis")

    monkeypatch.setattr("threadkeep.cli.import_module", missing)
    told = CliRunner().invoke(main, ["contract", "memory://x"])
    assert told.exit_code == 1
    assert 'pip install "threadkeep[contract]"' in told.stderr


def test_a_module_that_no_extra_brings_is_a_fault_and_shown_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'xyz'", name="xyz")

    monkeypatch.setattr("threadkeep.cli.import_module", missing)
    assert isinstance(CliRunner().invoke(main, ["threads"]).exception, ModuleNotFoundError)


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    _run(
        "import asyncio\nfrom threadkeep import Memory\n"
        "async def go():\n"
        "    async with Memory('sqlite:///many.db') as memory:\n"
        "        for index in range(50): await memory.thread('a', f'{index}').append('x' * 20000)\n"
        "asyncio.run(go())"
    )
    told = subprocess.run(
        f"{sys.executable} -m threadkeep export --store sqlite:///many.db | head -c 10",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == '{"kind":"r'
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("arguments", [["threads"], ["messages", "--resource", "a", "--thread", "東"]])
def test_a_terminal_without_unicode_gets_codes(arguments: list[str]) -> None:
    _run(
        "import asyncio\nfrom threadkeep import Memory\n"
        "async def go():\n"
        "    async with Memory('sqlite:///names.db') as memory: await memory.thread('a', '東').append('京')\n"
        "asyncio.run(go())"
    )
    told = subprocess.run(
        [sys.executable, "-m", "threadkeep", *arguments, "--store", "sqlite:///names.db"],
        env={"PYTHONIOENCODING": "latin-1", "PATH": ""},
        capture_output=True,
        check=True,
    )
    assert (b"\\u6771" if arguments == ["threads"] else b"\\u4eac") in told.stdout


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///a@b/c.db?timeout=3", "sqlite:///a@b/c.db"),
        ("postgresql://me:pass@host:1/db?password=other", "postgresql://host:1/db"),
        ("redis://:p/a@ss@host/0", "redis://host/0"),
        ("memory://name", "memory://name"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


def test_ids_are_shown_so_that_they_can_be_told_apart() -> None:
    assert visible_id("user_ann") == "user_ann"
    assert visible_id("Zoë 東京") == "Zoë 東京"
    assert visible_id(" pad ") == '" pad "'
    assert visible_id("") == '""'
    assert visible_id('"x"') == '"\\"x\\""'
    assert visible_id("é\x1b[31m\u202e") == '"é\\u001b[31m\\u202e"'


def test_texts_cannot_steer_the_terminal() -> None:
    assert visible("a\tb\nc\x1b[2J\x9b\u202eé") == "a\tb\nc\\x1b[2J\\x9b\\u202eé"
