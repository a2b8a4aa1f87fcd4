"""The pytest side of the contract: options, finality, and a summary law by law.

pytest loads this module in every environment that has threadkeep, so it imports neither the suite nor hypothesis nor
threadkeep, and does nothing until a contract suite has been collected.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from threadkeep_contract.harness import Law

_PROPERTY: Final = "threadkeep_contract"
_ATTRIBUTE: Final = "_threadkeep_contract"


def pytest_addoption(parser: pytest.Parser) -> None:
    # Imported here, as all of the suite: the module needs nothing but the standard library.
    from threadkeep_contract.profiles import PROFILES

    group = parser.getgroup("threadkeep contract")
    group.addoption("--store-url", default=None, help="the store that threadkeep_contract's own suite judges")
    group.addoption(
        "--contract-profile",
        choices=list(PROFILES),
        default=None,
        help="how much a contract suite tries (default: what the suite says in `profile`)",
    )
    group.addoption("--contract-seed", type=int, default=0, help="the seed of a contract suite's examples (default: 0)")


def pytest_itemcollected(item: pytest.Item) -> None:
    suite = getattr(item, "cls", None)
    if isinstance(suite, type) and any(base.__module__ == "threadkeep_contract.suite" for base in suite.__mro__):
        setattr(item, _ATTRIBUTE, suite)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    judged: dict[Any, list[pytest.Item]] = {}
    for item in items:
        suite = getattr(item, _ATTRIBUTE, None)
        if suite is not None:
            judged.setdefault(suite, []).append(item)
    for suite, checks in judged.items():
        _verify(config, suite, checks)


def _verify(config: pytest.Config, suite: Any, items: list[pytest.Item]) -> None:
    """Refuse a suite that cannot judge, or not by all the laws; let go of tests that are no checks."""
    from threadkeep.errors import ThreadkeepError
    from threadkeep.port import open_store
    from threadkeep_contract.profiles import PROFILES
    from threadkeep_contract.suite import LAW_OF, LawsAreFinal, verify, verify_mark

    checks: list[tuple[pytest.Item, type[Law]]] = []
    for item in items:
        law = LAW_OF.get(getattr(item, "originalname", item.name))
        if law is None:
            delattr(item, _ATTRIBUTE)
        else:
            checks.append((item, law))
    if not checks:
        return
    url = suite.url or config.getoption("store_url")
    if not url:
        raise pytest.UsageError(
            f"{suite.__name__} has no store to judge: give --store-url=URL, as in --store-url=memory://contract, "
            "or set `url` in your subclass of ContractSuite"
        )
    if suite.profile not in PROFILES:
        raise pytest.UsageError(
            f"{suite.__name__}.profile: there is no profile {suite.profile!r}; take one of {', '.join(PROFILES)}"
        )
    try:
        open_store(url)
        verify(suite)
        for item, law in checks:
            for mark in item.iter_markers():
                verify_mark(item.nodeid, mark.name, f"law {law.number} ({law.title})", "a mark")
    except (LawsAreFinal, ThreadkeepError) as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A check that has ended without an error counts only if it has seen enough of the store."""
    result = yield
    if getattr(pyfuncitem, _ATTRIBUTE, None) is not None:
        harness: Any = pyfuncitem.funcargs["harness"]
        harness.settle(pyfuncitem.obj)
    return result


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
    elif call.excinfo is not None and call.excinfo.typename == "LawBroken":
        # What was promised and seen, and a program that shows it, say it all; a traceback would bury them.
        report.longrepr = _told(item, call.excinfo.value)
    elif call.excinfo is not None and call.excinfo.typename == "NotJudged":
        report.longrepr = str(call.excinfo.value)
    from threadkeep_contract.suite import LAW_OF

    law = LAW_OF[getattr(item, "originalname", item.name)]
    harness = getattr(item, "funcargs", {}).get("harness")
    note = {
        "suite": suite.__name__,
        "law": law.number,
        "title": law.title,
        "profile": item.config.getoption("contract_profile") or suite.profile,
        "checks": list(LAW_OF.values()).count(law),
        "declined": dict(harness.declined) if harness is not None else {},
        "refuses": {what.value: reason for what, reason in harness.refuses.items()} if harness is not None else {},
        "tried": harness.seen.tally() if harness is not None else {},
        "judged": call.excinfo is None or call.excinfo.typename != "NotJudged",
    }
    report.user_properties = [*report.user_properties, (_PROPERTY, note)]
    return report


def _told(item: pytest.Item, broken: Any) -> str:
    """A broken law in words, with the program that shows the fault."""
    from threadkeep_contract.report import failure
    from threadkeep_contract.suite import LAW_OF

    check = getattr(item, "originalname", item.name)
    harness = getattr(item, "funcargs", {}).get("harness")
    return str(broken) if harness is None else failure(LAW_OF[check], check, harness, broken)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    laws: dict[tuple[str, int], list[Any]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, note in getattr(report, "user_properties", ()):
                if name == _PROPERTY:
                    laws.setdefault((note["suite"], note["law"]), []).append((report, note))
    for suite in sorted({suite for suite, _ in laws}):
        judged = sorted(item for item in laws.items() if item[0][0] == suite)
        terminalreporter.section(f"the contract: {suite} (profile {judged[0][1][0][1]['profile']})")
        refuses = {what: reason for _, found in judged for _, note in found for what, reason in note["refuses"].items()}
        for what, reason in sorted(refuses.items()):
            terminalreporter.write_line(f"REFUSES: {what} ({reason})", yellow=True, bold=True)
        for (_, number), found in judged:
            _write_law(terminalreporter, number, found)


def _write_law(terminalreporter: Any, number: int, found: list[tuple[Any, dict[str, Any]]]) -> None:
    """The verdict on a law, from the reports of its checks and their notes."""
    note = found[0][1]
    run = {report.nodeid for report, _ in found}
    failed = sorted({report.nodeid for report, _ in found if report.failed})
    not_judged = sorted({report.nodeid for report, note in found if report.failed and not note["judged"]})
    broken = [nodeid for nodeid in failed if nodeid not in not_judged]
    declining = {report.nodeid for report, note in found if note["declined"]} - set(failed)
    if broken:
        verdict, colour = f"BROKEN by {len(broken)} of {len(run)} checks", "red"
    elif not_judged:
        verdict, colour = f"NOT JUDGED by {len(not_judged)} of {len(run)} checks", "red"
    elif run == declining:
        verdict, colour = "NOT OFFERED", "yellow"
    else:
        checks = f"{len(run)} checks" if len(run) == note["checks"] else f"{len(run)} of {note['checks']} checks run"
        not_offered = f", {len(declining)} not offered" if declining else ""
        verdict, colour = f"kept ({checks}{not_offered})", "green"
    counts = _tried(found)
    verdict = f"{verdict}, tried {counts}" if counts else verdict
    terminalreporter.write_line(f"law {number:2} {note['title']}: {verdict}", **{colour: True})
    for nodeid in failed:
        terminalreporter.write_line(f"       {nodeid}{' (not judged)' if nodeid in not_judged else ''}", red=True)
    declined = {what: reason for _, note in found for what, reason in note["declined"].items()}
    for what, reason in sorted(declined.items()):
        terminalreporter.write_line(f"       NOT OFFERED: {what} ({reason})", yellow=True, bold=True)


def _tried(found: list[tuple[Any, dict[str, Any]]]) -> str:
    """How much the checks of a law tried, in words."""
    from threadkeep_contract.evidence import TRIED
    from threadkeep_contract.report.text import tried

    # A test has a report of its setting up, one of its call and one of its end; the last counts for all.
    last = {report.nodeid: note["tried"] for report, note in found}
    return tried({kind: sum(counts.get(kind, 0) for counts in last.values()) for kind in TRIED})
