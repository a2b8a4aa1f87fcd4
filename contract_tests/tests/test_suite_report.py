"""`judge` and `threadkeep contract`: every law gets a verdict, and a broken one shows how."""

from __future__ import annotations

import asyncio
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner
from rich.console import Console

from threadkeep.cli import main
from threadkeep.errors import InvalidInput, StoreError, UnknownScheme
from threadkeep.port import (
    SHORT_ID_BYTES,
    After,
    Changes,
    Order,
    Receipt,
    Refusal,
    Resource,
    Scope,
    Snapshot,
    Store,
    Thread,
    ThreadRow,
    Window,
    hookimpl,
    registry,
)
from threadkeep_adapters.memory.store import InProcessStore
from threadkeep_contract.laws import NUMBERS, checks, law
from threadkeep_contract.profiles import PROFILES
from threadkeep_contract.programs.program import Program
from threadkeep_contract.report import Finding, Report, Verdict, judge, judging, text, without_password
from threadkeep_contract.report.page import html_of
from threadkeep_contract.report.values import schema, values_of
from threadkeep_contract.source import visible

NO_LAW = len(NUMBERS) + 1


class OldestFirst(InProcessStore):
    """The last n are the first n."""

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        if window.anchor is None and window.before:
            return await super().load(scope, Window(0, after=window.before))
        return await super().load(scope, window)


class Unreachable(InProcessStore):
    async def open(self) -> None:
        raise StoreError("nobody home")


class Hanging(InProcessStore):
    """Lists never come."""

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        await asyncio.Event().wait()
        return []


def _texts(scope: Scope, changes: Changes) -> Iterator[str]:
    yield from vars_of(scope)
    for record in changes.append:
        yield from (record.id, record.body.replace("\\\\", "").replace("\\u0000", "\x00"))
    for put in (*changes.puts, *changes.resource_puts):
        yield (put.body or "").replace("\\\\", "").replace("\\u0000", "\x00")


def vars_of(scope: Scope) -> tuple[str, ...]:
    return (scope.resource_id, scope.thread_id) if isinstance(scope, Thread) else (scope.resource_id,)


class NoNul(InProcessStore):
    """Sound, but for NUL, on which it would fall over."""

    refuses = {Refusal.NUL_IN_IDS: "its text ends at NUL", Refusal.NUL_IN_TEXT: "its JSON has no NUL"}

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        if any("\x00" in text for text in _texts(scope, changes)):
            raise RuntimeError("NUL has come through")
        return await super().commit(scope, changes)


class ShortIds(InProcessStore):
    """Sound, but for long ids, on which it would fall over."""

    refuses = {Refusal.LONG_IDS: "its keys are short"}

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        ids = [*vars_of(scope), *(record.id for record in changes.append)]
        if any(len(one.encode()) > SHORT_ID_BYTES for one in ids):
            raise RuntimeError("a long id has come through")
        return await super().commit(scope, changes)


class Plugin:
    def __init__(self, kind: type[InProcessStore]) -> None:
        self.kind = kind

    @hookimpl
    def open_store(self, url: str) -> Store:
        return self.kind(url)


registry.register("oldest", Plugin(OldestFirst))
registry.register("nonul", Plugin(NoNul))
registry.register("hanging", Plugin(Hanging))
registry.register("shortids", Plugin(ShortIds))
registry.register("unreachable", Plugin(Unreachable))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def shown(report: Report, width: int = 80, *, everything: bool = False) -> str:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as captured:
        text.show(report, console, everything=everything)
    return captured.get()


def test_a_sound_store_is_accepted() -> None:
    report = judge("memory://report", laws=[2, 3], profile="quick")
    assert report.kept
    assert [(verdict.number, verdict.status) for verdict in report.verdicts] == [(2, "kept"), (3, "kept")]
    assert report.law(2).not_offered == {
        "durability": "memory is gone when the last store of its name is closed, or the process ends"
    }
    assert "NOT OFFERED durability (laws 2 and 3): memory is gone" in shown(report)
    assert "Not offered: durability</b> (laws 2 and 3). memory is gone" in html_of(report)
    with pytest.raises(KeyError):
        report.law(1)


@pytest.fixture(scope="module")
def oldest() -> Report:
    """Of a store that breaks law 8."""
    return judge("oldest://x", laws=[8], profile="quick")


def test_a_broken_law_shows_its_smallest_history(oldest: Report) -> None:
    report = oldest
    assert not report.kept
    verdict = report.law(8)
    assert verdict.status == "broken"
    found = {finding.check: finding for finding in verdict.broken}
    smallest = found["test_windows_answer_as_the_model"]
    assert smallest.violation
    assert smallest.history.count(".commit(") <= 2
    said = shown(report)
    assert re.search(
        "law  8 test_windows_answer_as_the_model .[0-9] calls.: load answers as the port says; expect", said
    )
    assert "URL = 'oldest://x'" in said
    assert report.shortest is not None
    assert report.shortest.text in said
    assert said.count("\n") < 100
    exec(compile(smallest.history, "history", "exec"), {})
    plain = json.loads(json.dumps(values_of(report)))
    assert plain["kept"] is False
    assert plain["laws"][0]["status"] == "broken"
    assert any(check.get("history") == smallest.history for check in plain["laws"][0]["checks"])
    jsonschema.validate(plain, schema())


def test_everything_is_printed_where_it_is_asked_for(oldest: Report) -> None:
    said = shown(oldest, everything=True)
    for _, finding in oldest.faults:
        assert finding.check in said
        assert finding.program is not None
        assert finding.program.text in said


HOSTILE = "</code></pre><script>alert(1)</script><img src=x onerror='alert(2)'>\x1b]0;\u202e \"'"


class _Tags(HTMLParser):
    """Every tag of a page, with its attributes, and whether all that were opened were closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags_of(html: str) -> set[str]:
    """The tags of a page that is whole, and refers to nothing outside itself."""
    parser = _Tags()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    for _, attributes in parser.found:
        assert not {"src", "onclick", "onerror", "style"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert "url(" not in html
    assert "@import" not in html
    return {tag for tag, _ in parser.found}


def test_a_page_needs_nothing_else(oldest: Report) -> None:
    html = html_of(oldest)
    assert "script" not in tags_of(html)
    assert oldest.shortest is not None
    assert "".join(unescape(re.sub("<[^>]*>", "", html)).split()).count("".join(oldest.shortest.text.split())) == 2
    for _, finding in oldest.faults:
        assert html.count(finding.check) >= 2


def test_what_a_store_gives_cannot_inject_anything_into_the_page(oldest: Report) -> None:
    program = f"text = {HOSTILE!r}\n# {visible(HOSTILE)}\n"
    finding = Finding(
        "test_hostile",
        "broken",
        0.1,
        HOSTILE,
        HOSTILE,
        HOSTILE,
        HOSTILE,
        not_offered={HOSTILE: HOSTILE},
        program=Program("calls", 1, program, program),
    )
    unjudged = Finding("test_other", "not judged", 0.1, HOSTILE, HOSTILE, HOSTILE)
    hostile = Report(HOSTILE, HOSTILE, 0, (Verdict(1, HOSTILE, (finding, unjudged)),))
    html = html_of(hostile)
    assert tags_of(html) == tags_of(html_of(oldest)) | {"p"}
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "\x1b" not in shown(hostile).replace("\x1b[", "")


@pytest.mark.parametrize("lines", [10, 35, 60, 400])
@pytest.mark.parametrize("width", [80, 200])
def test_the_report_is_short_whatever_is_broken(lines: int, width: int) -> None:
    again = "again\n" * 14
    program = Program("calls", 3, "line\n" * lines, again)
    reasons = {"durability": "a reason " * 20, "processes": "a reason"}
    verdicts = [
        Verdict(
            number,
            law(number).title,
            (
                *(
                    Finding(f"test_{count}", "broken", 1.0, "p" * 500, "e" * 9000, "s\n" * 900, program=program)
                    for count in range(8)
                ),
                *(Finding(f"test_un{count}", "not judged", 1.0, "why", "least", "seen") for count in range(3)),
                Finding("test_other", "not offered", 1.0, not_offered=reasons if number in (4, 6) else {}),
            ),
        )
        for number in NUMBERS
    ]
    said = shown(Report("acme://x", "quick", 0, tuple(verdicts), {"NUL in ids": "a reason"}), width)
    assert said.count("\n") < 100
    assert "BROKEN: 104 of 156 checks" in said
    assert "and 84 more" in said
    assert ("line\n" * lines if lines == 10 else again) in said


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "refused"), [("nonul", NoNul.refuses), ("shortids", ShortIds.refuses)])
def test_a_sound_store_that_refuses_some_input_is_accepted_and_says_so(
    scheme: str, refused: Mapping[Refusal, str]
) -> None:
    report = judge(f"{scheme}://x", profile="brief")
    assert report.kept, [(finding.check, finding.seen) for _, finding in report.faults]
    values = values_of(report)
    jsonschema.validate(values, schema())
    assert values["refuses"] == {kind.value: reason for kind, reason in refused.items()}
    for kind, reason in refused.items():
        assert f"REFUSES {kind}: {reason}" in shown(report)
        assert f"The store refuses {kind}.</b> {reason}" in html_of(report)


def test_the_page_cuts_digests_and_the_values_keep_them() -> None:
    digest = "0123456789abcdef" * 4
    finding = Finding("test_one", "broken", 1.0, "a promise", "nothing", f"Record('m', '{digest}', '1')")
    report = Report("acme://x", "quick", 0, (Verdict(3, law(3).title, (finding,)),), {})
    assert "01234567…" in html_of(report)
    assert digest not in html_of(report)
    assert digest in json.dumps(values_of(report))


def test_until_broken_stops_at_the_first_broken_check() -> None:
    findings = judge("oldest://x", laws=[8], profile="quick", until_broken=True).law(8).findings
    assert [finding.status for finding in findings].count("broken") == 1
    assert findings[-1].status == "broken"


def test_a_seed_and_a_profile_are_reported() -> None:
    plain = values_of(judge("memory://report", laws=[13], profile="quick", seed=7))
    jsonschema.validate(plain, schema())
    assert (plain["profile"], plain["seed"], plain["url"]) == ("quick", 7, "memory://report")


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(InvalidInput, match="there is no profile 'slow'; take one of brief, quick, default, deep"):
        judge("memory://x", profile="slow")
    with pytest.raises(InvalidInput, match=f"there is no law {NO_LAW}; laws count from 1 to {len(NUMBERS)}"):
        judge("memory://x", laws=[NO_LAW])
    with pytest.raises(UnknownScheme):
        judge("nosuch://x")
    with pytest.raises(StoreError, match="nobody home"):
        judge("unreachable://x")


def test_a_password_is_not_repeated() -> None:
    assert without_password("postgresql://ann:secret@host:5/db?x=1") == "postgresql://ann:***@host:5/db?x=1"
    assert without_password("sqlite:////a/b.db") == "sqlite:////a/b.db"


@pytest.mark.parametrize("number", NUMBERS)
def test_every_law_has_its_prose_and_checks_that_say_what_they_check(number: int) -> None:
    found = law(number)
    module = sys.modules[found.__module__]
    assert found.number == number
    assert (module.__doc__ or "").startswith(f"Law {number}: {found.title.lower()}.\n\n")
    assert checks(found)
    for check in checks(found):
        text = " ".join((getattr(found, check).__doc__ or "").split())
        assert re.fullmatch(r"[A-Z`].* .*\.", text), f"{check} has no docstring of whole sentences"


def test_a_law_that_there_is_none_of_is_a_key_error() -> None:
    for number in (0, NO_LAW):
        with pytest.raises(KeyError):
            law(number)


def test_no_two_laws_have_a_check_of_one_name() -> None:
    names = [check for number in NUMBERS for check in checks(law(number))]
    assert len(set(names)) == len(names)


def invoke(arguments: Sequence[str]) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_the_command_accepts_and_writes_json(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    code, output = invoke(
        ["contract", "memory://command", "--law", "3", "--law", "2", "--profile", "quick", "--json", str(file)]
    )
    assert code == 0
    assert "No duplication" in output
    assert [one["number"] for one in json.loads(file.read_text(encoding="utf-8"))["laws"]] == [2, 3]


def test_the_command_rejects_with_status_1(tmp_path: Path) -> None:
    program, html = tmp_path / "fault.py", tmp_path / "report.html"
    files = ["--program", str(program), "--html", str(html)]
    code, output = invoke(["contract", "oldest://x", "--law", "8", "--profile", "brief", *files])
    assert code == 1
    assert "BROKEN" in output
    assert program.read_text(encoding="utf-8") in output
    assert "Not kept" in html.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch://x"], "no store is installed for nosuch://"),
        (["unreachable://x"], "nobody home"),
        (["memory://x", "--law", str(NO_LAW)], f"1<=x<={len(NUMBERS)}"),
        (["memory://x", "--profile", "slow"], "slow"),
        ([], "URL"),
    ],
)
def test_the_command_refuses_bad_usage_with_status_2(arguments: list[str], said: str) -> None:
    code, output = invoke(["contract", *arguments])
    assert code == 2
    assert said in output


def test_without_the_extra_the_command_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("threadkeep_contract") or name == "hypothesis"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    code, output = invoke(["contract", "memory://x"])
    assert code != 0
    assert 'pip install "threadkeep[contract]"' in output


def test_a_store_that_hangs_is_named_and_the_other_checks_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    brief = PROFILES["brief"]
    monkeypatch.setattr(judging, "PROFILES", {"brief": replace(brief, seconds=3, shrink_seconds=1)})
    report = judge("hanging://x", laws=[8], profile="brief")
    found = report.law(8).findings
    hung = [finding for finding in found if finding.promise == "every call ends" and ".threads" in finding.seen]
    assert len(found) == len(checks(law(8)))
    assert len(hung) > 3
    # Who has hung once is waited for less.
    assert hung[0].expected == "an end within 3 s"
    assert {finding.expected for finding in hung[1:]} <= {"an end within 0.3 s", "an end within 1.5 s"}
