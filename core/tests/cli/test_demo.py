"""`threadkeep demo`: what a newcomer is shown is true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from threadkeep.cli import main


def _demo(*arguments: str) -> str:
    told = CliRunner().invoke(main, ["demo", *arguments])
    assert told.exit_code == 0, told.output
    return told.stdout


def _said(told: str, place: str, speaker: str) -> list[str]:
    """What somebody said in a thread before the new process was started."""
    here = told.partition("6. ")[0]
    rows = [line.split(maxsplit=4) for line in here.splitlines()]
    return [row[4] for row in rows if len(row) == 5 and " ".join(row[:3]) == place and row[3] == speaker]


def test_the_demo_shows_what_is_kept_apart_and_what_is_not() -> None:
    told = _demo()
    nothing = "You have told me no order number in this conversation."
    order = "Your order is 4711."
    assert _said(told, "demo_alice / support", "support") == ["I have noted order 4711.", order, order]
    assert _said(told, "demo_bob / support", "support") == [nothing]
    assert _said(told, "demo_alice / holiday", "support") == [nothing]
    assert _said(told, "demo_alice / support", "billing") == ["A refund is on its way for order 4711."]
    assert _said(told, "demo_alice / billing", "billing") == [nothing]
    assert "6 messages before, 6 after" in told


def test_the_last_lines_are_those_of_a_new_process() -> None:
    last = _demo().partition("6. A new process")[2]
    for said in ("order 4711 arrived broken", "Your order is 4711.", "billing", "holiday"):
        assert said in last
    assert "demo_bob" not in last


def test_the_temporary_file_is_gone_afterwards() -> None:
    first = _demo().splitlines()[0]
    path = Path(first.removeprefix("Everything is kept in one SQLite file, "))
    assert path.name == "demo.db"
    assert not path.parent.exists()


def test_a_second_demo_on_one_store_adds_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'demo.db'}"

    def exported() -> list[str]:
        lines = CliRunner().invoke(main, ["export", "--store", url]).stdout.splitlines()
        return [line for line in lines if '"kind":"message"' in line]

    first = _demo("--store", url)
    before = exported()
    second = _demo("--store", url)
    assert exported() == before
    assert len(before) == 12
    assert first.partition("\n5. ")[0] == second.partition("\n5. ")[0]


def test_a_store_that_no_other_process_sees_is_named_as_one() -> None:
    told = _demo("--store", "memory://demo")
    assert "each process has its own memory" in told


def test_the_demo_leaves_the_store_of_the_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADKEEP_URL", f"sqlite:///{tmp_path / 'mine.db'}")
    _demo()
    assert list(tmp_path.iterdir()) == []


def test_the_demo_needs_no_key_no_network_and_nothing_on_the_path(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "threadkeep", "demo"],
        env={"PATH": "", "HOME": str(tmp_path), "PYTHONWARNINGS": "error"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stderr == ""
    assert list(tmp_path.iterdir()) == []
