"""Judging a mutant by the contract, and by its store's own tests."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Timer
from typing import Any, Final

from mutant import Mutant
from places import PLACES
from target import Target

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent
SECONDS: Final = 600
"""How long judging one mutant may take, in checks or in tests. The suite itself names a call that does not end, long
before."""
_ENVIRONMENT: Final = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
REJECTED: Final = ("broken", "does not open")
"""The verdicts of mutants that a store's author is told about."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one mutant."""

    number: int
    file: str
    change: str
    """As `Mutant.shown`."""
    verdict: str
    """`broken`; `does not open` (or the server does not load it); `kept`; `not judged`: nothing was broken, and a check
    has not seen enough, which a busy machine may be the reason of; `hangs` or `ends`: the process that judges did not
    end in time, or in an error, without naming what is broken; `tests` where those reject it."""
    law: int = 0
    check: str = ""
    """Of a mutant that hangs or ends, the check that was running; of one that tests reject, the first such test."""
    promise: str = ""

    @property
    def rejected(self) -> bool:
        """Whether the contract rejects the mutant."""
        return self.verdict in REJECTED

    def __str__(self) -> str:
        by = f" by law {self.law}, {self.check}" if self.law else f" {self.check} {self.promise}".rstrip()
        return f"{self.verdict}{by}: mutant {self.number}, {self.file}:{self.change}"


class Judge:
    """Judges copies of one package, on a server of its own where the store needs one."""

    def __init__(self, target: Target, profile: str) -> None:
        self._target = target
        self._profile = profile
        self._places = PLACES[target.judged]()
        self._order: Sequence[str] = ()
        self._forks = _Forks(target.package.name)

    def close(self) -> None:
        """End the process that forks. A server ends with this process."""
        self._forks.close()

    def measure(self, known: Path | None = None) -> None:
        """Judge the store without any change. Whatever is judged afterwards is asked the fastest checks first.

        The order is written to the file, and taken from it where it has one. Raises SystemExit where the store is not
        kept.
        """
        if known is not None and known.exists():
            self._order = known.read_text().split()
            return
        with self._copied("unchanged") as (folder, _):
            code, lines, err = self._checked(folder)
        ended = [line for line in lines if line.get("status", "begun") != "begun"]
        if code != 0 or not ended or ended[-1]["status"] == "broken":
            raise SystemExit(f"without any change the store is not kept: {ended[-1:]} {err}")
        for line in ended:
            if line["status"] == "not judged":
                print(f"not judged on the unchanged store, and left out: {line['check']}")
        judged = [line for line in ended if line["status"] != "not judged"]
        self._order = [str(line["check"]) for line in sorted(judged, key=lambda line: float(line["seconds"]))]
        if known is not None:
            known.write_text("\n".join(self._order))

    def judge(self, file: Path, mutant: Mutant, number: int = 0) -> Outcome:
        """What comes of the package with this change."""
        source = (ROOT / self._target.package / file).read_text(encoding="utf-8")
        outcome = Outcome(number, str(file), mutant.shown(source), "kept")
        refused = self._places.refuses(mutant.apply(source)) if file.suffix != ".py" else ""
        if refused:
            return replace(outcome, verdict="does not open", promise=" ".join(refused.split()))
        with self._copied("mutant") as (folder, copy):
            (copy / file).write_text(mutant.apply(source), encoding="utf-8")
            code, lines, err = self._checked(folder)
        last = lines[-1] if lines else {}
        if not lines:
            return replace(outcome, verdict="does not open" if code else "hangs", promise=_last_line(err))
        found: dict[str, Any] = {key: last[key] for key in ("law", "check", "promise") if key in last}
        if code is None or code:
            return replace(
                outcome, verdict="hangs" if code is None else "ends", **{**found, "promise": _last_line(err)}
            )
        unjudged = [line for line in lines if line.get("status") == "not judged"]
        if last["status"] != "broken" and unjudged:
            return replace(outcome, verdict="not judged", check=str(unjudged[0]["check"]))
        return replace(outcome, verdict="broken", **found) if last["status"] == "broken" else outcome

    def tested(self, file: Path, mutant: Mutant, outcome: Outcome) -> Outcome:
        """What comes of it when the store's own tests run with this change: `tests`, or the same outcome."""
        with self._copied("mutant") as (folder, copy):
            path = copy / file
            path.write_text(mutant.apply(path.read_text(encoding="utf-8")), encoding="utf-8")
            command = ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *self._target.tests]
            code, out = self._ran(folder, command)
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", out, re.MULTILINE)
        if code == 0 and " skipped" in _last_line(out):
            raise SystemExit(f"the store's own tests need what is missing here: {_last_line(out)}")
        if code == 0:
            return outcome
        return replace(outcome, verdict="tests", law=0, check=failed[1] if failed else _last_line(out), promise="")

    @contextmanager
    def _copied(self, name: str) -> Iterator[tuple[Path, Path]]:
        """A folder for one judgement, and the copy of the package in it. Nothing of either is left."""
        with tempfile.TemporaryDirectory(prefix=f"{name}-") as made:
            folder = Path(made)
            copy = folder / "packages" / self._target.package.name
            shutil.copytree(ROOT / self._target.package, copy, ignore=shutil.ignore_patterns("__pycache__"))
            try:
                yield folder, copy
            finally:
                self._places.clear()

    def _checked(self, folder: Path) -> tuple[int | None, list[dict[str, Any]], str]:
        """The exit status, None if it took too long, what first_broken.py has printed, and its errors."""
        asked = {
            "url": self._places.url(folder),
            "profile": self._profile,
            "folder": str(folder),
            "package": self._target.package.name,
            "checks": self._order,
        }
        code = self._forks.run(asked)
        out, err = _said(folder)
        return code, [json.loads(line) for line in out.splitlines() if line.startswith("{")], err

    def _ran(self, folder: Path, command: Sequence[str]) -> tuple[int | None, str]:
        """Run Python with the folder's packages: the exit status, None if it took too long, and what it has printed."""
        # The judged package shadows the installed one, in worker processes too. Servers have their folders elsewhere,
        # since some run as another user, who may not enter this one.
        environment = {**_ENVIRONMENT, "PYTHONPATH": str(folder / "packages")}
        with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=environment, stdout=out, stderr=err, start_new_session=True
            )
            try:
                code = process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end_group(process.pid)
                process.wait()
        return code, _said(folder)[0]


class _Forks:
    """The process that forks those that judge."""

    def __init__(self, package: str) -> None:
        command = [sys.executable, str(HERE / "first_broken.py"), package]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_ENVIRONMENT
        )

    def run(self, asked: Mapping[str, Any]) -> int | None:
        """The exit status of the process that was forked for this, None if it took too long."""
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None:
            raise TypeError("the process was started without pipes")
        requests.write(json.dumps(asked) + "\n")
        requests.flush()
        group = int(answers.readline())
        late = Event()

        def end() -> None:
            late.set()
            _end_group(group)

        timer = Timer(SECONDS, end)
        timer.start()
        code = int(answers.readline())
        timer.cancel()
        _end_group(group)
        return None if late.is_set() else code

    def close(self) -> None:
        """No more is asked for."""
        self._process.communicate()


def _end_group(group: int) -> None:
    """End what is left of a mutant, its worker processes as well."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _said(folder: Path) -> tuple[str, str]:
    out, err = ((folder / name).read_text(errors="replace") for name in ("out", "err"))
    return out, err


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
