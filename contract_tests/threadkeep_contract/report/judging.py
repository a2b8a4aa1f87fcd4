"""Run the checks of laws on a store, and find the programs that show what is broken."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

from threadkeep.errors import InvalidInput
from threadkeep.port import Refusal, open_store
from threadkeep_contract.harness import Harness, Law, LawBroken, NotJudged
from threadkeep_contract.laws import NUMBERS, checks
from threadkeep_contract.laws import law as law_of
from threadkeep_contract.profiles import DEFAULT, PROFILES
from threadkeep_contract.programs.printed import Case, without_password
from threadkeep_contract.programs.program import Program, program_of
from threadkeep_contract.replay import absent, present
from threadkeep_contract.report.verdicts import FAILING, Finding, Report, Status, Verdict
from threadkeep_contract.source import shortened

AGAIN: Final = 10
"""How often a printed program runs a check that is kept."""

FAILURE_SECONDS: Final = 3.0
"""How long the program of one broken check is looked for where each check stands alone, as under pytest."""

IMPATIENCE: Final = 10
"""A store that has hung once has a part of the time from then on: one in so many."""

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
    refuses = {what.value: reason for what, reason in _probe(url).items()}
    plan = [(law, check) for law in map(law_of, numbers) for check in checks(law)]
    findings: dict[int, list[Finding]] = {number: [] for number in numbers}
    cases: dict[str, Case] = {}
    given = PROFILES[profile]
    for done, (law, check) in enumerate(plan):
        if until_broken and any(finding.status == "broken" for finding in findings[law.number]):
            continue
        if progress is not None:
            progress(done, len(plan), law, check)
        harness = Harness(url, given, seed, check=check, database=database)
        finding, case = find(law, check, harness)
        findings[law.number].append(finding)
        if harness.hung:
            # Somebody waits for the report, and the store has broken the contract already.
            given = replace(PROFILES[profile], seconds=PROFILES[profile].seconds / IMPATIENCE)
        if case is not None:
            cases[check] = case
    programs = _programs(cases, PROFILES[profile].shrink_seconds)
    verdicts = [
        Verdict(number, law_of(number).title, tuple(replace(one, program=programs.get(one.check)) for one in found))
        for number, found in findings.items()
    ]
    return Report(without_password(url), profile, seed, tuple(verdicts), refuses)


def _programs(cases: Mapping[str, Case], seconds: float) -> dict[str, Program]:
    """The program of each broken check, by the check's name. They share the time: short histories come first."""
    end = time.monotonic() + 4 * seconds
    programs = {}
    for check, case in sorted(cases.items(), key=lambda item: (not item[1].calls, len(item[1].calls))):
        programs[check] = program_of(case, min(seconds, end - time.monotonic()))
    return programs


def check_again(url: str, law: int, check: str, *, profile: str, seed: int) -> None:
    """Run one check; end the program with status 1 and the promise where it is broken, else say that it is not.

    It is run some times: a process that is killed, or a race, does not meet the fault each time.
    """
    for _turn in range(AGAIN):
        finding, _ = find(law_of(law), check, Harness(url, PROFILES[profile], seed, check=check))
        if finding.status in FAILING:
            break
    if finding.status in FAILING:
        present(finding.promise, f"expected: {finding.expected}", f"seen:     {finding.seen}")
    else:
        absent(f"{check} is {finding.status}")


def _probe(url: str) -> Mapping[Refusal, str]:
    """What the store refuses. It is opened once: one that cannot be is not judged, and raises what it raises."""

    async def probe() -> Mapping[Refusal, str]:
        store = open_store(url)
        try:
            await store.open()
            return store.refuses
        finally:
            await store.close()

    return asyncio.run(probe())


def failure(law: type[Law], check: str, harness: Harness, broken: LawBroken) -> str:
    """A broken check in words: the promise, what was expected and seen, shortened, and the program that shows it."""
    program = program_of(case_of(law, check, harness, broken), FAILURE_SECONDS)
    said = [
        broken.promise,
        f"  expected: {shortened(broken.expected, 400)}",
        f"  seen:     {shortened(broken.seen, 400)}",
    ]
    return "\n".join([*said, "", program.text])


def find(law: type[Law], check: str, harness: Harness) -> tuple[Finding, Case | None]:
    """Run one check, and close its harness: what it came to, and of a broken one the case to find a program for."""
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
    tried = harness.seen.tally()
    if failure is None:
        status: Status = "not offered" if declined else "kept"
        return Finding(check, status, seconds, not_offered=declined, tried=tried), None
    if isinstance(failure, NotJudged):
        why = f"{failure.why}. {failure.remedy}" if failure.remedy else failure.why
        finding = Finding(
            check, "not judged", seconds, why, failure.least, failure.seen, not_offered=declined, tried=tried
        )
        return finding, None
    broken = failure if isinstance(failure, LawBroken) else no_verdict(failure, harness)
    finding = Finding(
        check,
        "broken",
        seconds,
        broken.promise,
        broken.expected,
        broken.seen,
        broken.history,
        violation=broken is failure,
        not_offered=declined,
        tried=tried,
    )
    return finding, case_of(law, check, harness, broken)


def no_verdict(failure: Exception, harness: Harness) -> LawBroken:
    """The error of a check that ended in an error that is no verdict, told as a broken promise."""
    calls = harness.history.calls
    return LawBroken(
        "the check runs to its end",
        "a verdict",
        "".join(traceback.format_exception(failure)),
        harness.history.source() if calls else "",
        calls,
    )


def case_of(law: type[Law], check: str, harness: Harness, broken: LawBroken) -> Case:
    """What a program for a broken check is made of."""
    return Case(
        harness.url,
        law.number,
        law.title,
        check,
        harness.profile,
        harness.seed,
        broken.promise,
        broken.calls,
        harness.token,
        broken.turns,
    )
