"""The pytest side of the contract: options, finality, and a summary law by law.

pytest loads this module in every environment that has threadkeep, so it imports neither the suite nor hypothesis nor
threadkeep, and does nothing until a contract suite has been collected.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

import pytest

_PROPERTY: Final = "threadkeep_contract"
_ATTRIBUTE: Final = "_threadkeep_contract"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("threadkeep contract")
    group.addoption("--store-url", default=None, help="the store that threadkeep_contract's own suite judges")
    group.addoption(
        "--contract-profile",
        choices=["quick", "default", "deep"],
        default="default",
        help="how much a contract suite tries (default: default)",
    )
    group.addoption("--contract-seed", type=int, default=0, help="the seed of a contract suite's examples (default: 0)")


def pytest_itemcollected(item: pytest.Item) -> None:
    suite = getattr(item, "cls", None)
    if isinstance(suite, type) and any(base.__module__ == "threadkeep_contract.suite" for base in suite.__mro__):
        setattr(item, _ATTRIBUTE, suite)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        suite = getattr(item, _ATTRIBUTE, None)
        if suite is not None:
            _verify(config, item, suite)


def _verify(config: pytest.Config, item: pytest.Item, suite: Any) -> None:
    from threadkeep_contract.suite import LAW_OF, LawsAreFinal, verify, verify_mark

    name = getattr(item, "originalname", item.name)
    law = LAW_OF.get(name)
    if law is None:
        delattr(item, _ATTRIBUTE)
        return
    if not (suite.url or config.getoption("store_url")):
        raise pytest.UsageError(
            f"{suite.__name__} has no store to judge: give --store-url=URL, as in --store-url=memory://contract, "
            "or set `url` in your subclass of ContractSuite"
        )
    try:
        verify(suite)
        for mark in item.iter_markers():
            verify_mark(item.nodeid, mark.name, f"law {law.number} ({law.title})", "a mark")
    except LawsAreFinal as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    suite = getattr(item, _ATTRIBUTE, None)
    if suite is None:
        return report
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped. Laws are final: nothing in the contract may be skipped."
    from threadkeep_contract.suite import LAW_OF

    law = LAW_OF[getattr(item, "originalname", item.name)]
    harness = getattr(item, "funcargs", {}).get("harness")
    note = {
        "suite": suite.__name__,
        "law": law.number,
        "title": law.title,
        "declined": dict(harness.declined) if harness is not None else {},
    }
    report.user_properties = [*report.user_properties, (_PROPERTY, note)]
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    laws: dict[tuple[str, int, str], list[Any]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, note in getattr(report, "user_properties", ()):
                if name == _PROPERTY:
                    key = (note["suite"], note["law"], note["title"])
                    laws.setdefault(key, []).append((report, note["declined"]))
    suites = sorted({suite for suite, _, _ in laws})
    for suite in suites:
        terminalreporter.section(f"the contract: {suite}")
        for (_, number, title), found in sorted(item for item in laws.items() if item[0][0] == suite):
            broken = sorted({report.nodeid for report, _ in found if report.failed})
            declining = {report.nodeid for report, reasons in found if reasons} - set(broken)
            kept = {report.nodeid for report, _ in found} - set(broken) - declining
            verdict = f"kept ({len(kept)} checks)"
            if broken:
                verdict = f"BROKEN by {len(broken)} of {len(broken) + len(kept) + len(declining)} checks"
            elif not kept:
                verdict = "NOT OFFERED"
            terminalreporter.write_line(
                f"law {number:2} {title}: {verdict}", red=bool(broken), green=not broken and bool(kept)
            )
            for nodeid in broken:
                terminalreporter.write_line(f"       {nodeid}", red=True)
            declined = {what: reason for _, part in found for what, reason in part.items()}
            for what, reason in sorted(declined.items()):
                terminalreporter.write_line(f"       NOT OFFERED: {what} ({reason})", yellow=True, bold=True)
