"""What holds for all tests: `--no-skips`, with which a test that does not run is a failure; `--share`, with which slow
tests run in part; `--seed`, with which the suite is judged; and Hypothesis' profile.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A deadline and the check for slow generation time the machine, which other tests are using at the same moment.
settings.register_profile("threadkeep", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("threadkeep")

# A run in the background has interrupts ignored, and hands that on to the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_NOT_RUN = "{} did not run ({}), and with --no-skips everything has to"


SHARES = 8
"""Into how many shares the slow tests are dealt, unless `--share` says it. All shares together are all tests."""
SEEDS = 20
"""Seeds, from 1 on, of which the commit chooses one for the saboteurs, unless `--seed` says it."""
_DESELECTED = "threadkeep_deselected"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a test that is skipped or expected to fail is a failure")
    parser.addoption(
        "--share",
        metavar="K[/N]",
        help=f"of the tests marked slow, run share K (0 to N - 1) of N (default: {SHARES}); "
        "`commit` for K lets the commit choose it",
    )
    parser.addoption(
        "--seed",
        metavar="N",
        default="commit",
        help=f"judge saboteurs and sound stores with seed N; `commit`, the default, chooses one of 1 to {SEEDS}",
    )
    parser.addoption("--share-all", action="store_true", help="deal out all tests, as if each were marked slow")


def share_of(nodeid: str, shares: int) -> int:
    """The share, 0 to `shares` - 1, that a test is in. It is the same on every machine and in every run."""
    return int.from_bytes(hashlib.sha256(nodeid.encode()).digest()[:8]) % shares


def number_of_commit(folder: Path, count: int) -> tuple[int, str]:
    """The number below `count` that the commit of a folder chooses, and the reason in words; 0 without a commit.

    Pythons that follow one another get numbers that follow one another: together they try more of a commit.
    """
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return 0, f"there is no commit to choose it: {error}"
    commit = asked.stdout.strip()
    major, minor = sys.version_info[:2]
    return (int(commit, 16) + minor) % count, f"chosen by commit {commit[:12]} and Python {major}.{minor}"


def chosen_share(config: pytest.Config) -> tuple[int, int, str] | None:
    """What `--share` says: which share, of how many, and who chose it. None without it."""
    given = config.getoption("--share")
    if given is None:
        return None
    parts = re.fullmatch(r"(commit|\d+)(?:/(\d+))?", given)
    shares = int(parts[2] or SHARES) if parts else 0
    if parts and shares > 0:
        if parts[1] == "commit":
            share, reason = number_of_commit(config.rootpath, shares)
            return share, shares, reason
        if int(parts[1]) < shares:
            return int(parts[1]), shares, "given"
    raise pytest.UsageError(
        f"--share={given}: write K or K/N, with K from 0 to N - 1, or commit for K; N is {SHARES} else"
    )


def chosen_seed(config: pytest.Config) -> tuple[int, str]:
    """What `--seed` says, and who chose it."""
    given = config.getoption("--seed")
    if given == "commit":
        number, reason = number_of_commit(config.rootpath, SEEDS)
        return 1 + number, reason
    if re.fullmatch(r"\d+", given):
        return int(given), "given"
    raise pytest.UsageError(f"--seed={given}: write a number, or commit")


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """The seed with which saboteurs and sound stores are judged."""
    return chosen_seed(pytestconfig)[0]


def pytest_report_header(config: pytest.Config) -> list[str]:
    number, reason = chosen_seed(config)
    lines = [f"seed {number} for saboteurs ({reason})"]
    if instead := os.environ.get("THREADKEEP_TEST_SERVERS"):
        lines.append(f"on the newest servers: {instead}")
    if chosen := chosen_share(config):
        share, shares, reason = chosen
        dealt = "all tests" if config.getoption("--share-all") else "the slow tests"
        lines.append(f"share {share} of {shares} of {dealt} ({reason}); tests of the other shares are deselected")
    return lines


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = chosen_share(config)
    if chosen is None:
        return
    share, shares, _ = chosen
    everything = config.getoption("--share-all")
    kept: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        is_dealt = everything or item.get_closest_marker("slow") is not None
        (others if is_dealt and share_of(item.nodeid, shares) != share else kept).append(item)
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = kept


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """A worker of pytest-xdist notes what is deselected, since nobody else reports it."""
    output = getattr(items[0].config, "workeroutput", None) if items else None
    if output is not None:
        output.setdefault(_DESELECTED, []).extend(item.nodeid for item in items)


@dataclass
class _Deselected:
    """In the place of a test that another process deselected: what counts these looks at their attributes."""

    nodeid: str


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """All workers of pytest-xdist deselect the same, and pytest's last line counts it as without them.

    `node` is one of them that has ended; pytest-xdist declares no types.
    """
    deselected = getattr(node, "workeroutput", {}).get(_DESELECTED)
    reporter = node.config.pluginmanager.get_plugin("terminalreporter")
    if deselected and reporter is not None:
        reporter.stats["deselected"] = [_Deselected(nodeid) for nodeid in deselected]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = _NOT_RUN.format(item.nodeid, report.longrepr)
        # pytest counts no failure of a report with this mark.
        vars(report).pop("wasxfail", None)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and collector.config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = _NOT_RUN.format(collector.nodeid, report.longrepr)
    return report
