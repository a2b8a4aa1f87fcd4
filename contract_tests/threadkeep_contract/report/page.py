"""The report as one HTML page that needs nothing else: no other file, no network, no script.

Everything that a store or its URL gave is escaped here, in one place: `_text`. The page's own words and tags are all
that is not.
"""

from __future__ import annotations

import io
import keyword
import tokenize
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Final

from threadkeep_contract.programs.program import Program
from threadkeep_contract.report.text import count, tried
from threadkeep_contract.report.verdicts import FAILING, Finding, Report, Verdict
from threadkeep_contract.source import visible, without_digests

SHOWN: Final = 4_000
"""Characters of an expected or seen value that the page shows."""


def html_of(report: Report) -> str:
    """The whole page."""
    template = files("threadkeep_contract.report").joinpath("page.html").read_text(encoding="utf-8")
    seconds = sum(verdict.seconds for verdict in report.verdicts)
    facts = f"profile {report.profile}, seed {report.seed}, {tried(report.tried)}, {seconds:.0f} s"
    return Template(template).substitute(
        title=_text(f"{'kept' if report.kept else 'not kept'}: the contract on {report.url}"),
        url=_text(report.url),
        answer=_answer(report),
        facts=_text(facts),
        strip="".join(_cell(verdict) for verdict in report.verdicts),
        loud=_refusals(report) + _absences(report),
        fault=_first_fault(report),
        laws="".join(_law(verdict) for verdict in report.verdicts),
        footer=_text("Written by threadkeep contract. The same as data: threadkeep contract URL --json FILE."),
    )


def _text(text: str) -> str:
    """Text of any origin, for any place between tags or in a quoted attribute. What does not print is shown escaped."""
    return escape("\n".join(visible(line) for line in text.split("\n")))


def _answer(report: Report) -> str:
    laws = len(report.verdicts)
    failing = [verdict for verdict in report.verdicts if verdict.status in FAILING]
    if not failing:
        declined = sum(bool(verdict.not_offered) for verdict in report.verdicts)
        more = f"; in {_laws(declined)}, something is not offered" if declined else ""
        return f'<div class="answer kept"><strong>Kept</strong><span>{_laws(laws)} judged{more}</span></div>'
    broken = sum(verdict.status == "broken" for verdict in failing)
    told = [f"{broken} of {_laws(laws)} broken"] if broken else []
    if len(failing) > broken:
        told.append(f"{len(failing) - broken} not judged")
    checks = len(report.faults)
    if checks:
        told.append(f"{checks} check{'s' if checks > 1 else ''} found it")
    return f'<div class="answer broken"><strong>Not kept</strong><span>{", ".join(told)}</span></div>'


def _laws(number: int) -> str:
    return "1 law" if number == 1 else f"{number} laws"


def _class(status: str) -> str:
    return f"{status.replace(' ', '-')}-cell"


def _cell(verdict: Verdict) -> str:
    label = _text(f"law {verdict.number}, {verdict.title}: {verdict.status}")
    return (
        f'<li><a class="{_class(verdict.status)}" href="#law{verdict.number}" title="{label}">'
        f"<b>{verdict.number}</b>{_text(verdict.status)}</a></li>"
    )


def _refusals(report: Report) -> str:
    said = [
        f'<p class="loud"><b>The store refuses {_text(what)}.</b> {_text(reason)}</p>'
        for what, reason in sorted(report.refuses.items())
    ]
    return "".join(said)


def _absences(report: Report) -> str:
    said = [
        f'<p class="loud"><b>Not offered: {_text(absent.what)}</b> ({absent.where}). {_text(absent.reason)}</p>'
        for absent in report.not_offered
    ]
    return "".join(said)


def _first_fault(report: Report) -> str:
    if not report.faults:
        return ""
    verdict, finding = report.faults[0]
    return (
        f"<h2>The fault that is shown by the shortest program</h2>"
        f"<p>Law {verdict.number}, {_text(verdict.title)}: <code>{_text(finding.check)}</code></p>"
        f"{_broken(finding)}"
    )


def _law(verdict: Verdict) -> str:
    summary = (
        f'<summary><span class="name">{verdict.number}. {_text(verdict.title)}</span>{_badge(verdict.status)}'
        f'<span class="much">{_text(_much(verdict))}</span></summary>'
    )
    rows = "".join(_row(finding) for finding in verdict.findings)
    head = '<tr><th>check</th><th>verdict</th><th>tried</th><th class="n">seconds</th></tr>'
    faults = "".join(
        f'<details><summary><span class="name">{_text(finding.check)}</span>'
        f"<span>{_text(_cut(finding.promise, 120))}</span></summary>{_broken(finding)}</details>"
        for finding in verdict.broken
    )
    unjudged = "".join(_unjudged(finding) for finding in verdict.not_judged)
    opened = " open" if verdict.status in FAILING else ""
    return f'<details id="law{verdict.number}"{opened}>{summary}<table>{head}{rows}</table>{unjudged}{faults}</details>'


def _much(verdict: Verdict) -> str:
    """How many checks the verdict is of, and what they tried."""
    checks = count(verdict)
    part = f" {verdict.status}" if " of " in checks else ""
    return f"{checks} checks{part}, {tried(verdict.tried)}".removesuffix(", ")


def _badge(status: str) -> str:
    return f'<span class="badge {_class(status)}">{_text(status)}</span>'


def _row(finding: Finding) -> str:
    return (
        f'<tr><td class="check">{_text(finding.check)}</td><td>{_badge(finding.status)}</td>'
        f'<td>{_text(tried(finding.tried))}</td><td class="n">{finding.seconds:.1f}</td></tr>'
    )


def _unjudged(finding: Finding) -> str:
    return _pairs(
        [("check", finding.check), ("not judged", finding.promise), ("least", finding.expected), ("seen", finding.seen)]
    )


def _broken(finding: Finding) -> str:
    pairs = _pairs([("promise", finding.promise), ("expected", finding.expected), ("seen", finding.seen)])
    if finding.program is None:
        return pairs
    told = {
        "calls": "These calls show it.",
        "schedule": "These calls of tasks show it when they go on in this order.",
        "race": "These calls show it when they overlap.",
        "check": "The check itself shows it.",
    }[finding.program.kind]
    return (
        f'{pairs}<p class="said">{told} The program ends with status 1 while the fault is there.</p>'
        f"<pre><code>{_coloured(finding.program)}</code></pre>"
    )


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    rows = ""
    for name, value in pairs:
        kind = "promise" if name == "promise" else "value"
        rows += f'<dt>{_text(name)}</dt><dd class="{kind}">{_text(_cut(value, SHOWN))}</dd>'
    return f"<dl>{rows}</dl>"


def _cut(text: str, width: int) -> str:
    text = without_digests(text)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _coloured(program: Program) -> str:
    """The source of a program, each of its tokens escaped and in its colour."""
    lines = program.text.splitlines(keepends=True)
    pieces: list[str] = []
    row, column = 1, 0
    for token in tokenize.generate_tokens(io.StringIO(program.text).readline):
        pieces.append(escape(_between(lines, (row, column), token.start)))
        kind = _KINDS.get(token.type, "")
        if token.type == tokenize.NAME and keyword.iskeyword(token.string):
            kind = "keyword"
        text = escape(token.string)
        pieces.append(f'<span class="{kind}">{text}</span>' if kind else text)
        row, column = token.end
    return "".join(pieces)


_KINDS: Final = {tokenize.COMMENT: "comment", tokenize.STRING: "string", tokenize.NUMBER: "number"}


def _between(lines: Sequence[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """What stands between two places of a text that only white space separates."""
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]] if start[0] <= len(lines) else ""
    middle = lines[start[0] : end[0] - 1]
    last = lines[end[0] - 1][: end[1]] if end[0] <= len(lines) else ""
    return "".join([lines[start[0] - 1][start[1] :], *middle, last])
