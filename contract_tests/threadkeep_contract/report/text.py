"""The report in a terminal: short, so that the fault is seen, or all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from threadkeep_contract.evidence import TRIED
from threadkeep_contract.programs.program import Program
from threadkeep_contract.report.verdicts import Finding, Report, Status, Verdict
from threadkeep_contract.source import shortened, visible

STYLES: Final[dict[Status, str]] = {
    "kept": "green",
    "broken": "bold red",
    "not judged": "bold red",
    "not offered": "bold yellow",
}

LISTED: Final = 20
"""Broken checks that the short report has a line for, and checks that are not judged."""

HEAD: Final = 12
"""Lines of the short report beside those that stand for a law, a check or the program's own."""

LINES: Final = 98
"""Lines of the short report, at most, as long as there is a program that fits."""


def show(report: Report, console: Console, *, everything: bool = False) -> None:
    """Print the report: the table of laws, a line for each broken check, and the shortest program; or all of each.

    No line is broken to the console's width, but for the table: a program that is copied or sent into a file runs.
    """
    console.print(_table(report))
    for what, reason in sorted(report.refuses.items()):
        _line(console, "REFUSES ", "bold yellow", f"{what}: {reason}")
    for absent in report.not_offered:
        _line(console, "NOT OFFERED ", "bold yellow", f"{absent.what} ({absent.where}): {absent.reason}")
    unjudged = [(verdict, finding) for verdict in report.verdicts for finding in verdict.not_judged]
    for verdict, finding in unjudged if everything else unjudged[:LISTED]:
        least, seen = shortened(finding.expected, 60), shortened(finding.seen, 60)
        why = f"{finding.check}: least {least}, seen {seen}. {finding.promise}"
        _line(console, f"law {verdict.number:2} NOT JUDGED ", "bold red", why if everything else shortened(why, 250))
    if len(unjudged) > LISTED and not everything:
        _line(console, "", "", f"and {len(unjudged) - LISTED} more that are not judged")
    faults = report.faults
    if not faults:
        return
    checks = sum(len(verdict.findings) for verdict in report.verdicts)
    said = ", the one that is shown by the shortest program first" if len(faults) > 1 else ""
    _line(console, f"\nBROKEN: {len(faults)} of {checks} checks", "bold red", said)
    for verdict, finding in faults if everything else faults[:LISTED]:
        _line(console, f"law {verdict.number:2} ", "bold red", line_of(finding))
        if everything:
            _show_whole(console, finding)
    if everything:
        return
    if len(faults) > LISTED:
        _line(console, "", "", f"and {len(faults) - LISTED} more")
    declined = len(report.refuses) + len(report.not_offered)
    program = _fitting(
        faults, LINES - HEAD - len(report.verdicts) - declined - min(len(faults), LISTED) - min(len(unjudged), LISTED)
    )
    _line(console, f"\n{told(program)}\n", "bold", "")
    _show_code(console, program)


def _line(console: Console, lead: str, style: str, rest: str) -> None:
    text = Text("\n".join(map(visible, lead.split("\n"))), style=style)
    console.print(text.append(visible(rest), style="default"), soft_wrap=True)


def _show_code(console: Console, program: Program) -> None:
    console.print(Syntax("", "python", background_color="default").highlight(program.text), soft_wrap=True)


def _fitting(faults: Sequence[tuple[Verdict, Finding]], lines: int) -> Program:
    """The shortest program that is no longer than that; where none is, the one that runs the first broken check."""
    programs = [finding.program for _, finding in faults if finding.program is not None]
    for program in programs:
        if program.text.count("\n") <= lines:
            return program
    return programs[0].again


def told(program: Program) -> str:
    """What a program does, in a line."""
    match program.kind:
        case "calls":
            calls = "1 call" if program.calls == 1 else f"{program.calls} calls"
            return f"The shortest program that shows it, with {calls}; it fails while the fault is there:"
        case "schedule":
            return f"A schedule of {program.calls} calls of tasks that shows it; it fails while the fault is there:"
        case "race":
            return f"A race of {program.calls} calls that shows it; it fails while the fault is there:"
        case "check":
            return "The program that shows it; it fails while the fault is there:"


def line_of(finding: Finding) -> str:
    """A broken check on one line: its name, the promise, what was expected and what was seen."""
    program = finding.program
    shown = f" [{program.calls} calls]" if program is not None and program.calls else ""
    expected, seen = shortened(finding.expected, 50), shortened(finding.seen, 50)
    return f"{finding.check}{shown}: {shortened(finding.promise, 80)}; expected {expected}, seen {seen}"


def tried(counts: Mapping[str, int]) -> str:
    """Counts in words, as in "80 examples, 912 calls"."""
    return ", ".join(f"{counts[kind]:,} {kind}" for kind in TRIED if counts.get(kind))


def _table(report: Report) -> Table:
    title = f"The contract: {_safe(report.url)} (profile {_safe(report.profile)}, seed {report.seed})"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("law", "title", "verdict", "checks", *TRIED, "seconds"):
        # Where the terminal is narrow, the title gives way: a number that is cut says something else.
        justify: JustifyMethod = "left" if column in ("title", "verdict") else "right"
        table.add_column(column, justify=justify, no_wrap=column != "title", min_width=8 if column == "title" else None)
    for verdict in report.verdicts:
        table.add_row(
            str(verdict.number),
            _safe(verdict.title),
            f"[{STYLES[verdict.status]}]{verdict.status}[/]",
            count(verdict),
            *(f"{verdict.tried[kind]:,}" if verdict.tried.get(kind) else "" for kind in TRIED),
            f"{verdict.seconds:.1f}",
        )
    return table


def count(verdict: Verdict) -> str:
    """How many checks a law has, and of how many of them its verdict is where it is not of all."""
    whole = len(verdict.findings)
    part = sum(finding.status == verdict.status for finding in verdict.findings)
    return f"{whole}" if part == whole else f"{part} of {whole}"


def _show_whole(console: Console, finding: Finding) -> None:
    for name, value in (("promise", finding.promise), ("expected", finding.expected), ("seen", finding.seen)):
        for number, line in enumerate(value.split("\n")):
            _line(console, "", "", f"  {'' if number else name + ':':<10}{line}")
    if finding.program is not None:
        _line(console, "", "", "")
        _show_code(console, finding.program)


def _safe(text: str) -> str:
    return escape(visible(text))
