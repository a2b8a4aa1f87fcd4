"""`ContractSuite`: the laws as one pytest class, to be taken whole.

from threadkeep_contract import ContractSuite

class TestAcme(ContractSuite):
    url = "acme://anywhere"
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Final

import pytest

from threadkeep_contract.harness import Harness, Law
from threadkeep_contract.laws import NUMBERS, checks
from threadkeep_contract.laws import law as law_of
from threadkeep_contract.profiles import DEFAULT, PROFILES

LAWS: Final[tuple[type[Law], ...]] = tuple(law_of(number) for number in NUMBERS)
"""Every law, in order."""

LAW_OF: Final[dict[str, type[Law]]] = {name: law for law in LAWS for name in checks(law)}
"""Check -> its law."""


class LawsAreFinal(TypeError):
    """A subclass of ContractSuite took a law away, or put another in its place."""


# The bases stand backwards because pytest runs the checks of the last base first.
class ContractSuite(*reversed(LAWS)):  # type: ignore[misc] # mypy follows no list of bases
    """Subclass it with a `url`; every law is then checked.

    Laws are final: LawsAreFinal, when the subclass is made or collected, for one that redefines or skips any of them.
    """

    url: str = ""
    """The store under judgement. Where it is empty, `--store-url` has to be given."""

    profile: str = DEFAULT.name
    """How much is tried, where `--contract-profile` does not say: "quick" for a store whose server is slow."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        verify(cls)

    @pytest.fixture
    def harness(self, request: pytest.FixtureRequest) -> Iterator[Harness]:
        """What each check is given; made for it alone."""
        config = request.config
        profile = config.getoption("contract_profile") or self.profile
        harness = Harness(
            self.url or config.getoption("store_url"),
            PROFILES[profile],
            config.getoption("contract_seed"),
            check=request.node.originalname,
            database=True,
        )
        try:
            yield harness
        finally:
            harness.close()


_REMEDY: Final = "Laws are final: remove it, and name what the store cannot keep in its `not_offered`, with the reason"
_ALL: Final = f"laws 1 to {len(LAWS)}"
_FORBIDDEN_MARKS: Final = frozenset({"skip", "skipif", "xfail"})


def verify(suite: type[ContractSuite]) -> None:
    """LawsAreFinal where a subclass of ContractSuite, by itself or through a mixin, changes what is judged."""
    for name, law in LAW_OF.items():
        if inspect.getattr_static(suite, name, None) is not inspect.getattr_static(law, name):
            raise LawsAreFinal(f"{suite.__name__}.{name} replaces a check of law {law.number} ({law.title}). {_REMEDY}")
    if inspect.getattr_static(suite, "harness") is not vars(ContractSuite)["harness"]:
        raise LawsAreFinal(f"{suite.__name__}.harness replaces what {_ALL} are checked with; remove it")
    if inspect.getattr_static(suite, "__test__", True) is not True:
        raise LawsAreFinal(f"{suite.__name__}.__test__ takes {_ALL} out of the run; remove it")
    marks = inspect.getattr_static(suite, "pytestmark", [])
    if not isinstance(marks, list | tuple):
        marks = [marks]
    for mark in marks:
        verify_mark(suite.__name__, getattr(mark, "name", str(mark)), _ALL, "pytestmark")


def verify_mark(where: str, mark: str, laws: str, attribute: str) -> None:
    """LawsAreFinal for a mark that skips."""
    if mark in _FORBIDDEN_MARKS:
        raise LawsAreFinal(f"{where}: the mark {mark!r} ({attribute}) takes {laws} out of the run. {_REMEDY}")
