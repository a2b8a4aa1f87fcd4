"""The program of a fault runs as printed: it fails with the promise while the fault is there, and says when not."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import threadkeep_contract.saboteurs as plugin
from threadkeep.port import Changes, Put, Receipt, Record, Resource, Snapshot, Stored, Tail, Thread, Window, register
from threadkeep_contract.harness import record
from threadkeep_contract.history import Call
from threadkeep_contract.profiles import PROFILES
from threadkeep_contract.programs.printed import Case
from threadkeep_contract.programs.program import program_of
from threadkeep_contract.replay import explained, moved, renamed
from threadkeep_contract.report import Report, judge, text
from threadkeep_contract.saboteurs import SABOTEURS, FileStore
from threadkeep_contract.source import WIDTH, comments, laid_out, shortened, visible

FAULTS = {
    "calls": [
        *("astral-text-replaced", "erase-by-prefix", "repeat-stored-again", "last-write-wins"),
        *("position-reused-after-truncation", "half-transaction-committed", "tail-compares-epoch-only"),
        *("tail-compared-by-count", "nul-dropped", "floats-rounded", "list-paged-by-offset", "tied-threads-skipped"),
        *("read-from-replica", "if-version-ignored", "delete-by-prefix", "item-over-400-kb-fails", "long-ids-refused"),
    ],
    "race": ["check-then-insert", "create-race-overwrites", "whole-record-rewritten"],
    "check": [
        *("trip-per-record", "list-reads-all-threads", "deleted-kept-aside", "driver-panic-leaks"),
        *("acknowledged-before-written", "written-in-chunks"),
    ],
}
"""Saboteurs by what shows their fault: calls in order, calls that race, or only the check itself."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    register("saboteur", plugin)


def url_of(fault: str, tmp_path: Path) -> str:
    name = f"{tmp_path}/store.db" if issubclass(SABOTEURS[fault], FileStore) else "/judged"
    return f"saboteur://{fault}{name}"


def printed(report: Report) -> str:
    """What a narrow terminal shows."""
    console = Console(width=60, file=io.StringIO())
    with console.capture() as captured:
        text.show(report, console)
    return captured.get()


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "fault.py"
    file.write_text(program, encoding="utf-8")
    return subprocess.run([sys.executable, file], capture_output=True, text=True, cwd=folder, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "fault"), [(kind, fault) for kind, faults in FAULTS.items() for fault in faults])
def test_the_printed_program_fails_with_the_promise(kind: str, fault: str, tmp_path: Path) -> None:
    law = SABOTEURS[fault].caught_by
    report = judge(url_of(fault, tmp_path), laws=[law], profile="quick", seed=1, until_broken=True)
    said = printed(report)
    assert said.count("\n") < 100
    start = re.search(r"^# Law \d+ ", said, re.MULTILINE)
    assert start is not None, said
    program = said[start.start() :]
    ast.parse(program)
    (_, finding) = report.faults[0]
    assert finding.program is not None
    assert finding.program.kind == kind
    done = run(program, tmp_path)
    assert done.returncode == 1, done
    assert done.stderr.startswith("the promise is broken: ")
    # A promise may name ids, which are others in each run.
    digits = re.compile("[0-9]+")
    promise = digits.sub("0", " ".join(finding.promise.split()))
    assert promise in digits.sub("0", " ".join(done.stderr.split()))


@pytest.mark.parametrize("fault", ["last-returns-oldest", "check-then-insert", "trip-per-record"])
def test_a_program_says_when_the_fault_is_not_there(fault: str, tmp_path: Path) -> None:
    law = SABOTEURS[fault].caught_by
    report = judge(url_of(fault, tmp_path), laws=[law], profile="quick", seed=1, until_broken=True)
    assert report.shortest is not None
    mended = re.sub("saboteur://[^/]*/[^']*", f"sqlite:///{tmp_path}/sound.db", report.shortest.text)
    done = run(mended, tmp_path)
    assert done.returncode == 0, done
    assert done.stdout.startswith("the fault is not there: ")


def test_a_password_is_not_printed_and_the_program_says_where_it_goes() -> None:
    url = "sqlite://ann:secret@host/x"
    case = Case(url, 1, "Isolation", "test_x", PROFILES["quick"], 0, "a promise")
    program = program_of(case, 0)
    assert program.kind == "check"
    assert "secret" not in program.text
    assert "URL = os.environ['THREADKEEP_URL']" in program.text
    compile(program.text, "program", "exec")


# What programs are made of


def _call(began: int, ended: int, verb: str, *args: object, result: object = None) -> Call:
    return Call("handle1", verb, args, began, ended, result)


def test_overlapping_calls_are_explained_by_any_order_and_others_by_theirs_alone() -> None:
    thread = Thread("room", "t")
    commit = (thread, Changes(1, "e", (record("m"),)))
    done = Receipt(Tail("e", 1), [1])
    before, after = Snapshot(), Snapshot(Tail("e", 1), 1, 1, [Stored(1, 1, *record("m"))])
    for seen in (before, after):
        assert explained(
            [_call(1, 4, "commit", *commit, result=done), _call(2, 3, "load", thread, Window(before=9), result=seen)],
            "room",
        )
    in_order = [
        _call(1, 2, "commit", *commit, result=done),
        _call(3, 4, "load", thread, Window(before=9), result=before),
    ]
    assert not explained(in_order, "room")


def test_calls_move_to_another_room_with_digests_of_their_own() -> None:
    call = _call(1, 2, "commit", Thread("12a", "t"), Changes(1, "e", (record("m", "in 12"), Record("n", "12", '"12"'))))
    (there,) = moved([call], "12", "99")
    assert there.args == (
        Thread("99a", "t"),
        Changes(1, "e", (record("m", "in 99"), Record("n", "99", '"99"'))),
    )
    assert renamed(Resource("12"), str.upper) == Resource("12")
    assert renamed((Put("12", None), 3), lambda one: one + "!") == (Put("12!", None), 3)


@pytest.mark.parametrize(
    "code",
    [
        "f(" + ", ".join(f"'argument {number}'" for number in range(40)) + ")",
        f"x = {'long text ' * 60!r}",
        f"await answer(handle.commit(Thread('a', {'b' * 300!r}), Changes(at=1, puts=(Put('s', {'é' * 200!r}),))))",
        "x = [" + ", ".join(f"({number},)" for number in range(60)) + "]",
        "f(('" + "a" * 200 + "'))",
        "x = {'key " + "k" * 70 + "': [1, 2], 'b': {}}",
    ],
)
def test_long_code_is_laid_out_and_means_the_same(code: str) -> None:
    lines = laid_out(code)
    assert max(map(len, lines)) <= WIDTH

    def folded(source: str) -> str:
        return ast.dump(ast.parse(source.replace("await ", "")))

    assert folded("\n".join(lines)) == folded(code)


def test_comments_hold_no_character_that_a_file_may_not_hold() -> None:
    lines = comments("a\x00b\x0c\u2028\ud800\n" + "word " * 60 + "x" * 300)
    assert max(map(len, lines)) <= WIDTH
    assert all(line.startswith("#") for line in lines)
    compile("\n".join(lines).encode(), "comments", "exec")


def test_what_is_shortened_keeps_both_ends_and_the_beginning_of_a_digest() -> None:
    assert shortened("begin " + "x" * 200 + " end", 30).startswith("begin xxx")
    assert shortened("begin " + "x" * 200 + " end", 30).endswith("xxx end")
    assert len(shortened("x" * 200, 30)) == 30
    assert shortened(f"d {'0123456789abcdef' * 4} e", 80) == "d 01234567… e"
    assert visible("a\nb\x07") == "a\\nb\\x07"
