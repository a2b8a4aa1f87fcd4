"""Judge a store without pytest, and say law by law what came of it.

The verdicts are data (`verdicts`), made by `judging`, shown in a terminal by `text`, as JSON by `values` and as a page
by `page`.
"""

from __future__ import annotations

from threadkeep_contract.programs.printed import without_password
from threadkeep_contract.report.judging import Progress, check_again, failure, judge
from threadkeep_contract.report.verdicts import Finding, Report, Status, Verdict

__all__ = ["Finding", "Progress", "Report", "Status", "Verdict", "check_again", "failure", "judge", "without_password"]
