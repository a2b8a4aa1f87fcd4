"""`--share`: what is slow is dealt into shares; a run tries one of them, and all of them together try everything."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[3] / "conftest.py"

PROJECT = """
import pytest

@pytest.mark.slow
@pytest.mark.parametrize("number", range(40))
def test_slow(number): ...

@pytest.mark.parametrize("number", range(5))
def test_quick(number): ...
"""
SLOW = {f"test_it.py::test_slow[{number}]" for number in range(40)}
QUICK = {f"test_it.py::test_quick[{number}]" for number in range(5)}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_it.py").write_text(PROJECT)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow: takes long\n")
    return tmp_path


def run(project: Path, *options: str) -> str:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio", "-v", *options]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


def tried(shown: str) -> list[str]:
    return re.findall(r"^(test_it\.py::\S+) PASSED", shown, re.MULTILINE)


def test_every_slow_test_is_in_exactly_one_share_and_every_other_in_each(project: Path) -> None:
    slow: list[str] = []
    for share in range(3):
        shown = tried(run(project, f"--share={share}/3"))
        assert set(shown) - SLOW == QUICK
        assert SLOW & set(shown)
        slow.extend(SLOW & set(shown))
    assert len(slow) == len(SLOW)
    assert set(slow) == SLOW


def test_all_tests_can_be_dealt_out(project: Path) -> None:
    every = [test for share in range(2) for test in tried(run(project, f"--share={share}/2", "--share-all"))]
    assert sorted(every) == sorted(SLOW | QUICK)


def test_without_a_share_everything_is_tried(project: Path) -> None:
    assert set(tried(run(project))) == SLOW | QUICK


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["alone", "in parallel"])
def test_the_share_is_shown_and_what_is_deselected_is_counted(processes: tuple[str, ...], project: Path) -> None:
    shown = run(project, "--share=1", *processes)
    assert re.search(r"^share 1 of \d+ of the slow tests \(given\)", shown, re.MULTILINE)
    counted = re.search(r"(\d+) passed, (\d+) deselected", shown.splitlines()[-1])
    assert counted is not None, shown
    assert int(counted[1]) + int(counted[2]) == len(SLOW | QUICK)


def test_the_commit_chooses_the_share(project: Path) -> None:
    def git(*words: str) -> str:
        who = ("-c", "user.name=tests", "-c", "user.email=tests@example.com")
        return subprocess.run(("git", *who, *words), cwd=project, capture_output=True, text=True, check=True).stdout

    assert "share 0 of 3 of the slow tests (there is no commit to choose it" in run(project, "--share=commit/3")
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message=one")
    commit = git("rev-parse", "HEAD").strip()
    shown = run(project, "--share=commit/3")
    minor = sys.version_info.minor
    share = (int(commit, 16) + minor) % 3
    assert f"share {share} of 3 of the slow tests (chosen by commit {commit[:12]} and Python 3.{minor})" in shown


@pytest.mark.parametrize("given", ["4/4", "some"])
def test_a_share_that_is_none_is_refused(given: str, project: Path) -> None:
    shown = run(project, f"--share={given}")
    assert f"--share={given}: write K or K/N" in shown
    assert tried(shown) == []
