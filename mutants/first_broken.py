"""Judge one store until the first broken check: `python first_broken.py URL PROFILE FOLDER PACKAGE [CHECKS]`.

Prints lines of JSON: `{"opened": true}`; then for each check its law, its name and the status `begun`, and when it has
ended its status, its seconds and what was promised. A check that fails is the last. CHECKS names checks in the order in
which they run, separated by commas; without it all run as they are written, and those that are not judged stop nothing.
PACKAGE has to come from FOLDER, so that what is judged is the mutant and not what is installed.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from threadkeep.port import open_store
from threadkeep_contract.harness import Harness
from threadkeep_contract.laws import NUMBERS, checks
from threadkeep_contract.laws import law as law_of
from threadkeep_contract.profiles import PROFILES
from threadkeep_contract.report.judging import find
from threadkeep_contract.report.verdicts import FAILING

TIMES: Final = 3
"""How often a check is tried that was not judged: on a busy machine, a race may not have come about."""


def until_broken(url: str, profile_name: str, order: list[str]) -> None:
    """Run the checks in an order, and print what comes of each."""
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
        _print(
            law=law.number,
            check=check,
            status=finding.status,
            promise=finding.promise,
            seconds=round(finding.seconds, 3),
        )
        if finding.status == "broken" or (finding.status in FAILING and order):
            return


async def _open(url: str) -> None:
    store = open_store(url)
    try:
        await store.open()
    finally:
        await store.close()


def _print(**line: object) -> None:
    print(json.dumps(line), flush=True)


def main(url: str, profile: str, folder: str, package: str, order: str = "") -> None:
    origin = importlib.import_module(package).__file__
    if origin is None or not Path(origin).resolve().is_relative_to(Path(folder).resolve()):
        raise SystemExit(f"{package} comes from {origin}, and not from {folder}")
    until_broken(url, profile, [check for check in order.split(",") if check])


if __name__ == "__main__":
    # The suite starts worker processes that import this file again.
    main(*sys.argv[1:])
