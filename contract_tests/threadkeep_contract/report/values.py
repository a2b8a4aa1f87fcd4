"""The report as JSON values: the form that other programs read. docs/contract-report.md describes it, and so does
`report.schema.json` beside this module."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Final

from threadkeep_contract.report.verdicts import Finding, Report, Verdict

VERSION: Final = 1
"""Goes up when a field is taken away or means something else; fields may be added without."""


def values_of(report: Report) -> dict[str, Any]:
    """The report as JSON values."""
    shortest = report.faults[0][1].check if report.faults else None
    return {
        "version": VERSION,
        "url": report.url,
        "profile": report.profile,
        "seed": report.seed,
        "kept": report.kept,
        "shortest": shortest,
        "refuses": report.refuses,
        "laws": [_verdict(verdict) for verdict in report.verdicts],
    }


def schema() -> dict[str, Any]:
    """The JSON Schema of `values_of`."""
    text = files("threadkeep_contract.report").joinpath("report.schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "number": verdict.number,
        "title": verdict.title,
        "status": verdict.status,
        "not_offered": verdict.not_offered,
        "tried": verdict.tried,
        "checks": [_finding(finding) for finding in verdict.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    values: dict[str, Any] = {
        "check": finding.check,
        "status": finding.status,
        "seconds": round(finding.seconds, 3),
        "not_offered": finding.not_offered,
        "tried": finding.tried,
    }
    if finding.status == "broken":
        values |= {
            "violation": finding.violation,
            "promise": finding.promise,
            "expected": finding.expected,
            "seen": finding.seen,
            "history": finding.history,
        }
    if finding.status == "not judged":
        values |= {"why": finding.promise, "least": finding.expected, "seen": finding.seen}
    if finding.program is not None:
        program = finding.program
        values["program"] = {"kind": program.kind, "calls": program.calls, "source": program.text}
    return values
