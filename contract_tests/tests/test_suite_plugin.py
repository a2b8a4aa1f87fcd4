"""The pytest plugin: it harms nobody who does not use it, and says law by law what was found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _without_asyncio(pytester: pytest.Pytester) -> None:
    """pytest-asyncio warns where a project does not configure it."""
    pytester.makeini("[pytest]\naddopts = -p no:asyncio\n")


def test_the_plugin_imports_nothing_heavy(tmp_path: Path) -> None:
    """pytest loads it in every environment with threadkeep: no hypothesis, no part of threadkeep or of the suite."""
    code = (
        "import sys; import threadkeep_contract.plugin, threadkeep_contract; "
        "heavy = [name for name in sys.modules if name.partition('.')[0] in "
        "('hypothesis', 'threadkeep', 'threadkeep_adapters', 'rich', 'pydantic', 'sqlalchemy')"
        " or name.startswith('threadkeep_contract.') and name != 'threadkeep_contract.plugin']; "
        "print(heavy); sys.exit(bool(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_project_without_hypothesis_is_not_harmed(tmp_path: Path) -> None:
    """A bare install beside pytest: other tests run, warnings as errors, and nothing of ours is said or loaded."""
    tmp_path.joinpath("test_theirs.py").write_text(
        "import sys\n"
        "def test_theirs():\n"
        "    assert 'threadkeep_contract.plugin' in sys.modules\n"
        "    assert 'threadkeep' not in sys.modules\n",
        encoding="utf-8",
    )
    blocked = (
        "import sys, pytest\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('hypothesis', '_hypothesis_pytestplugin', 'pytest_timeout'):\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "sys.exit(pytest.main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", blocked, "-q", "-p", "threadkeep_contract.plugin"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "contract" not in done.stdout


def test_pyargs_without_a_store_says_what_to_give(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest("-p", "no:cacheprovider", "--pyargs", "threadkeep_contract")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: TestStoreURL has no store to judge: give --store-url=URL*"])


def test_a_wrong_url_is_said_once(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest("-p", "no:cacheprovider", "--pyargs", "threadkeep_contract", "--store-url=nosuch://x")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *no store is installed for nosuch://*"])


def test_pyargs_judges_the_store_of_the_option(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest(
        "-p",
        "no:cacheprovider",
        "--pyargs",
        "threadkeep_contract",
        "--store-url=memory://pyargs",
        "--contract-profile=quick",
        "-k",
        "equal_contents or repeated_append or reopening or order_never",
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*the contract: TestStoreURL*",
            "law  2 No duplication: kept (3 of * checks run, 1 not offered), tried * calls",
            "*NOT OFFERED: durability (*",
            "law  3 Order: kept (1 of * checks run), tried * calls*",
        ]
    )


SLOW = """
from threadkeep_contract import ContractSuite

class TestSlow(ContractSuite):
    url = "memory://slow"
    profile = {profile!r}
"""


@pytest.mark.parametrize(("option", "profile"), [((), "quick"), (("--contract-profile=default",), "default")])
def test_a_suite_says_how_much_is_tried_unless_the_command_does(
    pytester: pytest.Pytester, option: tuple[str, ...], profile: str
) -> None:
    pytester.makepyfile(SLOW.format(profile="quick"))
    result = pytester.runpytest("-p", "no:cacheprovider", "-k", "equal_contents", *option)
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"*the contract: TestSlow (profile {profile})*"])


def test_a_profile_that_there_is_none_of_is_said_once(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SLOW.format(profile="hasty"))
    result = pytester.runpytest("-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: TestSlow.profile: there is no profile 'hasty'; take one of brief, quick, *"])


BROKEN_STORE = """
import pytest
from threadkeep.port import registry
from threadkeep.port import hookimpl
from threadkeep_adapters.memory.store import InProcessStore
from threadkeep_contract import ContractSuite


class Forgetful(InProcessStore):
    async def load(self, scope, window):
        found = await super().load(scope, window)
        return type(found)(found.tail, found.created, found.active, found.records[:1], found.docs, found.resource_docs)


class Plugin:
    @hookimpl
    def open_store(self, url):
        return Forgetful("forgetful")


registry.register("forgetful", Plugin())


class TestForgetful(ContractSuite):
    url = "forgetful://x"
"""


def test_a_broken_law_fails_with_its_history(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(BROKEN_STORE)
    result = pytester.runpytest("-p", "no:cacheprovider", "-k", "equal_contents or another_body")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "equal contents, all kept",
            "  expected: [[]'twin0', 'twin1', 'yes0', 'yes1', 'twin2', 'yes2'[]]",
            "  seen:     [[]'twin0'[]]",
            "# The store of forgetful:// was registered by hand*",
            "URL = 'forgetful://x'",
            "    handle1 = open_store(URL)",
            "    verdict(PROMISE, expected, seen)",
            "law  2 No duplication: BROKEN by 1 of 2 checks*",
            "*::test_equal_contents_are_two_messages*",
        ]
    )


REFUSING_STORE = BROKEN_STORE.replace(
    """    async def load(self, scope, window):
        found = await super().load(scope, window)
        return type(found)(found.tail, found.created, found.active, found.records[:1], found.docs, found.resource_docs)
""",
    """    async def commit(self, scope, changes):
        raise StoreUnavailable("read replica")
""",
).replace("import pytest\n", "import pytest\nfrom threadkeep.errors import StoreUnavailable\n")


def test_a_check_that_has_not_seen_enough_fails(pytester: pytest.Pytester) -> None:
    """Law 1: where every commit is refused, nothing can meet, and nothing is found."""
    pytester.makepyfile(REFUSING_STORE)
    result = pytester.runpytest("-p", "no:cacheprovider", "-k", "confusable_scopes_do_not_meet or no_default_resource")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "NOT JUDGED: the check found nothing broken, and has not seen enough of the store to count",
            "  least: commits acknowledged: at least 40; *calls refused: none",
            "  seen:  commits acknowledged: 0; *calls refused: * with StoreUnavailable",
            "law  1 Isolation: NOT JUDGED by 1 of 2 checks*",
            "*::test_confusable_scopes_do_not_meet (not judged)*",
        ]
    )
