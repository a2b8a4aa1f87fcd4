"""Dependencies point one way, and `import threadkeep` loads nothing that its user did not ask for."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from threadkeep.port import installed_schemes, registry

ROOT = Path(__file__).parents[3]
CORE = ROOT / "core" / "threadkeep"
ADAPTERS = ROOT / "adapters" / "threadkeep_adapters"
CONTRACT = ROOT / "contract_tests" / "threadkeep_contract"

DRIVERS = {"asyncpg", "boto3", "botocore", "bson", "hiredis", "pymongo", "redis", "sqlalchemy", "sqlite3"}
OPTIONAL_MODULES = {"pydantic_ai", "openai", "opentelemetry", "prompt_toolkit"}
HEAVY = {"sqlalchemy", "sqlite3", "pytest", "_pytest", "hypothesis", "click", "rich", "pydantic", "pluggy", "asyncio"}

OPTIONAL = {
    ("formats", "pydantic_ai.py"): ("pydantic_ai", "at once"),
    ("models", "choose.py"): ("pydantic_ai", "later"),
    ("models", "providers.py"): ("pydantic_ai", "later"),
    ("telemetry.py",): ("opentelemetry", "later"),
}
"""What comes with an extra, and the modules that may use it: only when it is called for, but for the one about it."""


EXAMPLE_STORE = ("cli", "new_store", "sqlite", "acme_store.py")
"""A text that `threadkeep new-store` writes for an author. Core never imports it."""


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Each module imported, by its top-level name, and whether that happens "at once" or "later", in a function.

    What only a type checker sees counts as later.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    later = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is a relative import"
            names = [node.module or ""]
        for name in names:
            yield name.partition(".")[0], "later" if node in later else "at once"


def modules(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*.py"))
    assert found, f"no modules in {folder}"
    return found


def strangers(path: Path, allowed: set[str]) -> set[str]:
    """What a module imports beside the standard library and what it may."""
    return {name for name, _ in imported(path)} - set(sys.stdlib_module_names) - allowed


@pytest.mark.parametrize("path", modules(CORE), ids=lambda path: str(path.relative_to(CORE)))
def test_core_knows_no_database_and_no_test(path: Path) -> None:
    parts = path.relative_to(CORE).parts
    allowed = {"threadkeep", "pydantic", "pydantic_core", "pluggy"}
    if parts[0] in ("cli", "__main__.py"):
        allowed |= {"click", "rich"}
    if parts[:2] == ("cli", "chat"):
        allowed |= {"prompt_toolkit"}
    if parts in OPTIONAL:
        wanted, when_loaded = OPTIONAL[parts]
        assert {when for name, when in imported(path) if name == wanted} == {when_loaded}
        allowed |= {wanted}
    if parts == ("cli", "contract.py"):
        loaded = {name for name, when in imported(path) if when == "at once"}
        assert "threadkeep_contract" not in loaded, "the contract is an extra: import it when the command runs"
        allowed |= {"threadkeep_contract"}
    assert strangers(path, allowed) == set()
    if parts != EXAMPLE_STORE:
        assert {name for name, _ in imported(path)} & DRIVERS == set()


@pytest.mark.parametrize("path", modules(ADAPTERS), ids=lambda path: str(path.relative_to(ADAPTERS)))
def test_adapters_use_what_a_stranger_can_use(path: Path) -> None:
    assert strangers(path, {"threadkeep", "threadkeep_adapters", *DRIVERS}) == set()


DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ROOMS = {
    scheme: ROOT / "adapters" / module.replace(".", "/")
    for scheme, module in DECLARED["entry-points"]["threadkeep"].items()
}


def brought(requirements: Sequence[str]) -> set[str]:
    """The top-level modules of the distributions that requirements name, and of those that these need."""
    wanted = [Requirement(line) for line in requirements]
    for requirement in tuple(wanted):
        for line in requires(requirement.name) or []:
            needed = Requirement(line)
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                wanted.append(needed)
    folded = {canonicalize_name(requirement.name) for requirement in wanted}
    return {
        module
        for module, distributions in packages_distributions().items()
        if folded & {canonicalize_name(distribution) for distribution in distributions}
    }


@pytest.mark.parametrize("scheme", ROOMS)
def test_what_a_store_imports_is_brought_by_the_extra_that_its_error_names(scheme: str) -> None:
    ours = {"threadkeep", "threadkeep_adapters"}
    found = set[str]().union(*(strangers(path, ours) for path in modules(ROOMS[scheme])))
    missing = found - brought(DECLARED["dependencies"])
    extra = registry._EXTRAS.get(scheme)
    if extra is None:
        assert missing == set()
    else:
        assert missing, f"{scheme}:// needs nothing of the extra {extra}"
        assert missing <= brought(DECLARED["optional-dependencies"][extra])


def test_every_scheme_with_an_extra_is_a_store_of_this_distribution() -> None:
    assert set(registry._EXTRAS) <= set(ROOMS) <= set(installed_schemes())


@pytest.mark.parametrize("path", modules(CONTRACT), ids=lambda path: str(path.relative_to(CONTRACT)))
def test_the_contract_knows_no_adapter(path: Path) -> None:
    assert (
        strangers(
            path, {"threadkeep", "threadkeep_contract", "pydantic", "pytest", "hypothesis", "rich", "time_machine"}
        )
        == set()
    )


def test_the_pytest_plugin_loads_neither_the_suite_nor_hypothesis() -> None:
    plugin = CONTRACT / "plugin.py"
    assert {name for name, when in imported(plugin) if when == "at once"} <= {*sys.stdlib_module_names, "pytest"}


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after a statement, beyond those that it begins with."""
    program = f"import sys; before = set(sys.modules)\n{statement}\nprint(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_importing_threadkeep_loads_next_to_nothing() -> None:
    loaded = loaded_by("import threadkeep")
    assert "threadkeep" in loaded
    assert loaded & HEAVY == set()


def test_importing_memory_loads_no_driver_and_no_tests() -> None:
    loaded = loaded_by("from threadkeep import Agent, Memory")
    assert {"pydantic", "pluggy"} <= loaded
    assert loaded & {"sqlalchemy", "sqlite3", "pytest", "_pytest", "hypothesis", "click", "rich"} == set()
    assert loaded & OPTIONAL_MODULES == set()


def test_the_door_of_formats_loads_pydantic_ai_for_its_own_functions_only() -> None:
    assert "pydantic_ai" not in loaded_by("from threadkeep.formats import from_openai, from_ui")
    assert "pydantic_ai" in loaded_by("from threadkeep.formats import from_pydantic_ai")


def test_a_store_in_the_process_loads_no_other_store() -> None:
    loaded = loaded_by("from threadkeep import Memory; Memory('memory://only')")
    assert "threadkeep_adapters" in loaded
    assert loaded & DRIVERS == set()
