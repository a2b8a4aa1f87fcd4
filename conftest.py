"""What holds for all tests: `--no-skips`, with which a test that does not run is a failure, and Hypothesis' profile."""

from __future__ import annotations

import signal
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# A deadline and the check for slow generation time the machine, which other tests are using at the same moment.
settings.register_profile("threadkeep", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("threadkeep")

# A run in the background has interrupts ignored, and hands that on to the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_NOT_RUN = "{} did not run ({}), and with --no-skips everything has to"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a test that is skipped or expected to fail is a failure")


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
