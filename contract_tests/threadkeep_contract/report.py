"""Judge a store without pytest, and say law by law what came of it."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from threadkeep.errors import InvalidInput
from threadkeep.port import open_store
from threadkeep_contract.harness import Harness, Law, LawBroken, NotJudged
from threadkeep_contract.laws import NUMBERS, checks
from threadkeep_contract.laws import law as law_of
from threadkeep_contract.profiles import DEFAULT, PROFILES

Status: TypeAlias = Literal["kept", "broken", "not judged", "not offered"]

FAILING: Final = ("broken", "not judged")
"""With one of these, a store is not accepted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check came to."""

    check: str
    status: Status
    seconds: float
    promise: str = ""
    """The promise that was broken, in words; of a check that is not judged, why it is not."""
    expected: str = ""
    """Of a check that is not judged, the least that it must have seen."""
    seen: str = ""
    history: str = ""
    """The smallest failing history, as Python that runs."""
    violation: bool = False
    """Whether a broken check found a broken promise; False where it ended in an error that is no verdict."""
    not_offered: dict[str, str] = field(default_factory=dict)
    """What the store does not offer of what was asked, with the reason."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checks of one law came to."""

    number: int
    title: str
    findings: tuple[Finding, ...]

    @property
    def status(self) -> Status:
        """Broken if a check is, or else not judged if one is; not offered if the store offers no check's clause."""
        states = {finding.status for finding in self.findings}
        if "broken" in states:
            return "broken"
        if "not judged" in states:
            return "not judged"
        return "not offered" if states == {"not offered"} else "kept"

    @property
    def not_offered(self) -> dict[str, str]:
        """What of this law the store does not offer, with the reason."""
        return {what: reason for finding in self.findings for what, reason in finding.not_offered.items()}

    @property
    def broken(self) -> list[Finding]:
        """The checks that found the law broken."""
        return [finding for finding in self.findings if finding.status == "broken"]

    @property
    def not_judged(self) -> list[Finding]:
        """The checks that found nothing broken, and have not seen enough to say that the law is kept."""
        return [finding for finding in self.findings if finding.status == "not judged"]


@dataclass(frozen=True, slots=True)
class Report:
    """The judgement of one store. It renders itself on a rich console."""

    url: str
    """Without the password."""
    profile: str
    seed: int
    verdicts: tuple[Verdict, ...]

    @property
    def kept(self) -> bool:
        """Whether every law was judged and none is broken. What the store does not offer is no matter."""
        return all(verdict.status not in FAILING for verdict in self.verdicts)

    def law(self, number: int) -> Verdict:
        """The verdict on one law, or KeyError where it was not judged."""
        for verdict in self.verdicts:
            if verdict.number == number:
                return verdict
        raise KeyError(number)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "url": self.url,
            "profile": self.profile,
            "seed": self.seed,
            "kept": self.kept,
            "laws": [
                {
                    "number": verdict.number,
                    "title": verdict.title,
                    "status": verdict.status,
                    "not_offered": verdict.not_offered,
                    "checks": [_finding_json(finding) for finding in verdict.findings],
                }
                for verdict in self.verdicts
            ],
        }

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(title=f"The contract: {escape(self.url)} (profile {self.profile}, seed {self.seed})")
        for column in ("law", "title", "verdict", "checks", "seconds"):
            table.add_column(column, justify="right" if column in ("law", "checks", "seconds") else "left")
        for verdict in self.verdicts:
            seconds = sum(finding.seconds for finding in verdict.findings)
            table.add_row(
                str(verdict.number),
                verdict.title,
                f"[{_STYLES[verdict.status]}]{verdict.status}[/]",
                _count(verdict),
                f"{seconds:.1f}",
            )
        yield table
        for verdict in self.verdicts:
            for what, reason in sorted(verdict.not_offered.items()):
                yield f"[bold yellow]law {verdict.number} NOT OFFERED[/] {escape(what)}: {escape(reason)}"
        for verdict in self.verdicts:
            for finding in verdict.broken:
                yield f"\n[bold red]law {verdict.number} BROKEN[/] {finding.check}: {escape(finding.promise)}"
                yield f"  expected: {escape(finding.expected)}"
                yield f"  seen:     {escape(finding.seen)}"
                if finding.history:
                    yield Syntax(finding.history, "python", background_color="default", word_wrap=True)
        for verdict in self.verdicts:
            for finding in verdict.not_judged:
                yield f"\n[bold red]law {verdict.number} NOT JUDGED[/] {finding.check}: {escape(finding.promise)}"
                yield f"  least: {escape(finding.expected)}"
                yield f"  seen:  {escape(finding.seen)}"


_STYLES: Final[dict[Status, str]] = {
    "kept": "green",
    "broken": "bold red",
    "not judged": "bold red",
    "not offered": "bold yellow",
}

Progress: TypeAlias = Callable[[int, int, type[Law], str], None]
"""Told of each check before it begins: how many are done, how many there are, its law and its name."""


def judge(
    url: str,
    laws: Iterable[int] | None = None,
    profile: str = DEFAULT.name,
    seed: int = 0,
    *,
    database: bool = False,
    until_broken: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Run the checks of the given laws (None: all) on the store of a URL, and report.

    `until_broken` leaves a law at the first check that finds it broken. `database` keeps failing examples in
    `.hypothesis/examples` of the working directory and tries them again first.
    Raises InvalidInput for a profile or law that there is none of, InvalidURL and its kinds, PluginError, and
    StoreError where the store cannot be opened at all.
    """
    if profile not in PROFILES:
        raise InvalidInput(f"there is no profile {profile!r}; take one of {', '.join(PROFILES)}")
    numbers = sorted(NUMBERS if laws is None else set(laws))
    for number in numbers:
        if number not in NUMBERS:
            raise InvalidInput(f"there is no law {number}; laws count from 1 to {len(NUMBERS)}")
    _probe(url)
    plan = [(law, check) for law in map(law_of, numbers) for check in checks(law)]
    findings: dict[int, list[Finding]] = {number: [] for number in numbers}
    for done, (law, check) in enumerate(plan):
        if until_broken and any(finding.status == "broken" for finding in findings[law.number]):
            continue
        if progress is not None:
            progress(done, len(plan), law, check)
        harness = Harness(url, PROFILES[profile], seed, check=check, database=database)
        findings[law.number].append(_find(law, check, harness))
    verdicts = [Verdict(number, law_of(number).title, tuple(found)) for number, found in findings.items()]
    return Report(without_password(url), profile, seed, tuple(verdicts))


def _probe(url: str) -> None:
    """Open the store once: one that cannot be opened is not judged, and raises what it raises."""

    async def probe() -> None:
        store = open_store(url)
        try:
            await store.open()
        finally:
            await store.close()

    asyncio.run(probe())


def _find(law: type[Law], check: str, harness: Harness) -> Finding:
    began = time.perf_counter()
    failure: Exception | None = None
    try:
        try:
            getattr(law(), check)(harness)
            harness.settle(getattr(law, check))
        finally:
            harness.close()
    except Exception as error:  # noqa: BLE001 - whatever a check ends in is its finding
        failure = error
    seconds = time.perf_counter() - began
    declined = dict(harness.declined)
    if failure is None:
        return Finding(check, "not offered" if declined else "kept", seconds, not_offered=declined)
    if isinstance(failure, LawBroken):
        return Finding(
            check,
            "broken",
            seconds,
            failure.promise,
            failure.expected,
            failure.seen,
            failure.history,
            violation=True,
            not_offered=declined,
        )
    if isinstance(failure, NotJudged):
        why = f"{failure.why}. {failure.remedy}" if failure.remedy else failure.why
        return Finding(check, "not judged", seconds, why, failure.least, failure.seen, not_offered=declined)
    return Finding(
        check,
        "broken",
        seconds,
        "the check runs to its end",
        "a verdict",
        "".join(traceback.format_exception(failure)),
        harness.history.source() if harness.history.calls else "",
        not_offered=declined,
    )


def _count(verdict: Verdict) -> str:
    parts = [f"{len(verdict.findings)}"]
    for status in ("not judged", "not offered"):
        count = sum(finding.status == status for finding in verdict.findings)
        if count:
            parts.append(f"{count} {status}")
    return ", ".join(parts)


def _finding_json(finding: Finding) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "check": finding.check,
        "status": finding.status,
        "seconds": round(finding.seconds, 3),
    }
    if finding.not_offered:
        plain["not_offered"] = finding.not_offered
    if finding.status == "broken":
        plain |= {
            "violation": finding.violation,
            "promise": finding.promise,
            "expected": finding.expected,
            "seen": finding.seen,
            "history": finding.history,
        }
    if finding.status == "not judged":
        plain |= {"why": finding.promise, "least": finding.expected, "seen": finding.seen}
    return plain


def without_password(url: str) -> str:
    """The URL with its password, where it has one, as ***."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}"))
