"""What a judgement comes to: findings of checks, verdicts on laws, and the report on a store."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from threadkeep_contract.programs.program import Program

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
    """The calls of the smallest failing example as they were made, as Python."""
    violation: bool = False
    """Whether a broken check found a broken promise; False where it ended in an error that is no verdict."""
    not_offered: dict[str, str] = field(default_factory=dict)
    """What the store does not offer of what was asked, with the reason."""
    tried: dict[str, int] = field(default_factory=dict)
    """How much was tried, by kind: calls, examples, races, kills."""
    program: Program | None = None
    """Of a broken check: the program that shows the fault."""


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

    @property
    def tried(self) -> dict[str, int]:
        """How much all checks of the law tried, by kind."""
        return dict(sum((Counter(finding.tried) for finding in self.findings), Counter()))

    @property
    def seconds(self) -> float:
        """How long the checks of the law took."""
        return sum(finding.seconds for finding in self.findings)


class NotOffered(NamedTuple):
    """Something that the store does not offer."""

    what: str
    reason: str
    laws: tuple[int, ...]
    """The numbers of the laws that ask for it."""

    @property
    def where(self) -> str:
        """The laws in words."""
        first, *others = map(str, self.laws)
        return f"laws {', '.join([first, *others[:-1]])} and {others[-1]}" if others else f"law {first}"


@dataclass(frozen=True, slots=True)
class Report:
    """The judgement of one store. See `text.show`, `to_json` and `page.html`."""

    url: str
    """Without the password."""
    profile: str
    seed: int
    verdicts: tuple[Verdict, ...]
    refuses: dict[str, str] = field(default_factory=dict)
    """Valid input that the store says it refuses, with the reason."""

    @property
    def kept(self) -> bool:
        """Whether every law was judged and none is broken. What the store does not offer is no matter."""
        return all(verdict.status not in FAILING for verdict in self.verdicts)

    @property
    def tried(self) -> dict[str, int]:
        """How much was tried in all, by kind."""
        return dict(sum((Counter(verdict.tried) for verdict in self.verdicts), Counter()))

    @property
    def not_offered(self) -> list[NotOffered]:
        """What the store does not offer, each with all laws that ask for it; by the first of them."""
        laws: dict[tuple[str, str], list[int]] = {}
        for verdict in self.verdicts:
            for what, reason in sorted(verdict.not_offered.items()):
                laws.setdefault((what, reason), []).append(verdict.number)
        return [NotOffered(what, reason, tuple(numbers)) for (what, reason), numbers in laws.items()]

    def law(self, number: int) -> Verdict:
        """The verdict on one law, or KeyError where it was not judged."""
        for verdict in self.verdicts:
            if verdict.number == number:
                return verdict
        raise KeyError(number)

    @property
    def faults(self) -> list[tuple[Verdict, Finding]]:
        """Every broken check with its law, the one with the shortest program first."""
        faults = [(verdict, finding) for verdict in self.verdicts for finding in verdict.broken]
        return sorted(faults, key=lambda fault: fault[1].program.length if fault[1].program else (9, 0, 0))

    @property
    def shortest(self) -> Program | None:
        """The shortest program that shows a fault, or None where nothing is broken."""
        return next((finding.program for _, finding in self.faults), None)
