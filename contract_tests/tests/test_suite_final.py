"""Laws are final: whoever runs the suite cannot override, skip or take away one without being told."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

TAKEN_AWAY = {
    "redefined": "def test_order_never_comes_from_a_clock(self, harness): pass",
    "set to None": "test_order_never_comes_from_a_clock = None",
    "the harness": "harness = pytest.fixture(lambda self: None)",
    "__test__": "__test__ = False",
    "a class mark": "pytestmark = pytest.mark.skip(reason='slow')",
    "marks in a list": "pytestmark = [pytest.mark.timeout(9), pytest.mark.xfail(reason='later')]",
}


@pytest.fixture(autouse=True)
def _quick(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider -p no:asyncio --contract-profile=quick\n")


@pytest.mark.parametrize("body", TAKEN_AWAY.values(), ids=TAKEN_AWAY)
def test_a_subclass_cannot_change_a_law(pytester: pytest.Pytester, body: str) -> None:
    pytester.makepyfile(
        f"""
        import pytest
        from threadkeep_contract import ContractSuite

        class TestAcme(ContractSuite):
            url = "memory://final"
            {body}
        """
    )
    result = pytester.runpytest()
    assert result.ret != 0
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*TestAcme*law*"])
    result.stdout.no_fnmatch_line("*passed*")


def test_a_mixin_cannot_change_a_law(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from threadkeep_contract import ContractSuite

        class Easier:
            def test_order_never_comes_from_a_clock(self, harness): pass

        class TestAcme(Easier, ContractSuite):
            url = "memory://final"
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*TestAcme.test_order_never_comes_from_a_clock replaces a check of law 3 (Order)*"])


CHANGED_LATER = {
    "an attribute set afterwards": "TestAcme.test_order_never_comes_from_a_clock = lambda self, harness: None",
    "a decorator of the class": "TestAcme = pytest.mark.skip(reason='slow')(TestAcme)",
    "a mark on the module": "pytestmark = pytest.mark.skip(reason='slow')",
    "an xfail mark on the module": "pytestmark = pytest.mark.xfail(reason='slow', strict=False)",
}


@pytest.mark.parametrize("line", CHANGED_LATER.values(), ids=CHANGED_LATER)
def test_collection_stops_where_a_law_was_changed_later(pytester: pytest.Pytester, line: str) -> None:
    pytester.makepyfile(
        f"""
        import pytest
        from threadkeep_contract import ContractSuite

        class TestAcme(ContractSuite):
            url = "memory://final"

        {line}
        """
    )
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *TestAcme*law*"])


def test_a_skip_from_a_fixture_is_a_failure(pytester: pytest.Pytester) -> None:
    """What no look at the class can see, the report of the check shows."""
    pytester.makepyfile(
        """
        import pytest
        from threadkeep_contract import ContractSuite

        @pytest.fixture(autouse=True)
        def lazy():
            pytest.skip("not today")

        class TestAcme(ContractSuite):
            url = "memory://final"
        """
    )
    result = pytester.runpytest("-k", "test_order_never_comes_from_a_clock")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*was skipped. Laws are final*", "law  3 Order: BROKEN by 1 of 1 checks"])


def test_tests_of_ones_own_may_stand_beside_the_laws(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from threadkeep_contract import ContractSuite

        class TestAcme(ContractSuite):
            url = "memory://final"

            @pytest.mark.skip(reason="one's own")
            def test_of_our_own(self): pass

            def test_another_of_ours(self): pass
        """
    )
    result = pytester.runpytest("-k", "test_another_of_ours or test_of_our_own or test_order_never_comes_from_a_clock")
    result.assert_outcomes(passed=2, skipped=1, deselected=result.parseoutcomes()["deselected"])
    result.stdout.fnmatch_lines(["law  3 Order: kept (1 of * checks run)*"])
