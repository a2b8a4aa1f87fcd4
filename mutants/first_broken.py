"""Judge one store until the first broken check: `python first_broken.py URL PROFILE FOLDER PACKAGE`.

Prints one line of JSON: the law, the check and what was promised, or nothing of these where all laws are kept. PACKAGE
has to come from FOLDER, so that what is judged is the mutant and not what is installed.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from threadkeep.errors import ThreadkeepError
from threadkeep_contract.laws import NUMBERS
from threadkeep_contract.report import judge


def first_broken(url: str, profile: str) -> dict[str, object]:
    """The first broken check of the first broken law; empty where all laws are kept."""
    for number in NUMBERS:
        try:
            report = judge(url, [number], profile, until_broken=True)
        except ThreadkeepError as error:
            return {"law": 0, "check": "the store opens", "promise": f"{type(error).__name__}: {error}"}
        for finding in report.law(number).broken:
            return {"law": number, "check": finding.check, "promise": finding.promise}
    return {}


def main(url: str, profile: str, folder: str, package: str) -> None:
    origin = importlib.import_module(package).__file__
    if origin is None or not Path(origin).resolve().is_relative_to(Path(folder).resolve()):
        raise SystemExit(f"{package} comes from {origin}, and not from {folder}")
    print(json.dumps(first_broken(url, profile)))


if __name__ == "__main__":
    # The suite starts worker processes that import this file again.
    main(*sys.argv[1:])
