"""Judges stores until the first broken check, each in a process that is forked from this one.

Reads requests from its input, one a line of JSON: `url`, `profile`, `folder`, `package`, and `checks` in the order in
which they run, [] for all as they are written. Prints the number of the process that judges, and its exit status when
it has ended. That process has `folder/packages` before all else on its path, where the package has to come from, so
that what is judged is the mutant and not what is installed. It writes `folder/out`, lines of JSON: `{"opened": true}`;
then for each check its law, its name and the status `begun`, and when it has ended its status, its seconds and what was
promised. A check that is broken is the last.

What is imported before the fork saves each mutant the time; nothing of a package that is changed may be among it.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

TIMES: Final = 3
"""How often a check is tried that was not judged: on a busy machine, a race may not have come about."""

_LIBRARIES: Final = ("asyncpg", "hypothesis", "hypothesis.stateful", "pluggy", "redis.asyncio", "sqlalchemy")


def until_broken(url: str, profile_name: str, order: Sequence[str]) -> None:
    """Run the checks in an order, and print what comes of each."""
    # Not before the fork, in which these may come from elsewhere.
    from threadkeep_contract.harness import Harness
    from threadkeep_contract.laws import NUMBERS, checks
    from threadkeep_contract.laws import law as law_of
    from threadkeep_contract.profiles import PROFILES
    from threadkeep_contract.report.judging import find

    asyncio.run(_open(url))
    _print(opened=True)
    # Nobody reads the example that is found: it need not be made smaller.
    profile = replace(PROFILES[profile_name], shrink_seconds=0)
    plan = {check: law for law in map(law_of, NUMBERS) for check in checks(law)}
    for check in order or plan:
        law = plan[check]
        _print(law=law.number, check=check, status="begun")
        for _ in range(TIMES):
            finding, _ = find(law, check, Harness(url, profile, check=check))
            if finding.status != "not judged":
                break
        ended = {"status": finding.status, "promise": finding.promise, "seconds": round(finding.seconds, 3)}
        _print(law=law.number, check=check, **ended)
        if finding.status == "broken":
            return


async def _open(url: str) -> None:
    from threadkeep.port import open_store

    store = open_store(url)
    try:
        await store.open()
    finally:
        await store.close()


def _print(**line: object) -> None:
    print(json.dumps(line), flush=True)


def _judge(request: dict[str, Any]) -> None:
    """Be the process that judges."""
    os.setsid()
    folder = Path(request["folder"])
    for name, stream in (("out", sys.stdout), ("err", sys.stderr)):
        with (folder / name).open("w") as file:
            os.dup2(file.fileno(), stream.fileno())
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    packages = str(folder / "packages")
    sys.path.insert(0, packages)
    importlib.invalidate_caches()
    # For worker processes.
    os.environ.update(PYTHONPATH=packages, TMPDIR=str(folder))
    tempfile.tempdir = str(folder)
    os.chdir(folder)
    origin = importlib.import_module(request["package"]).__file__
    if origin is None or not Path(origin).resolve().is_relative_to(Path(packages).resolve()):
        raise SystemExit(f"{request['package']} comes from {origin}, and not from {packages}")
    until_broken(request["url"], request["profile"], request["checks"])


def serve(changed: str) -> None:
    """Answer requests until there are no more; `changed` is the package that mutants change."""
    sys.dont_write_bytecode = True
    for name in _LIBRARIES:
        importlib.import_module(name)
    if changed != "threadkeep":
        laws = importlib.import_module("threadkeep_contract.laws")
        for number in laws.NUMBERS:
            laws.law(number)
        importlib.import_module("threadkeep_contract.report.judging")
    if changed in sys.modules:
        raise SystemExit(f"{changed} was imported too early")
    for line in sys.stdin:
        process = os.fork()
        if not process:
            status = 1
            try:
                _judge(json.loads(line))
                status = 0
            except BaseException:  # noqa: BLE001 - whatever it is, the process that was forked ends here
                traceback.print_exc()
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    # The suite starts worker processes that import this file again.
    serve(sys.argv[1])
