"""The rooms of core and what they may know: no file imports itself through others, and no room one that is above it."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import pytest

ROOT: Final = Path(__file__).parents[3]
CORE: Final = ROOT / "core" / "threadkeep"
OTHERS: Final = {
    "threadkeep_adapters": ROOT / "adapters" / "threadkeep_adapters",
    "threadkeep_contract": ROOT / "contract_tests" / "threadkeep_contract",
}
"""The packages that stand on core."""

USERS: Final = [*OTHERS.values(), CORE / "cli", ROOT / "benchmarks", ROOT / "mutants"]
"""What uses core as anybody can: by the names at its doors."""

FLOORS: Final = (
    ("errors",),
    ("port", "portal"),
    ("messages",),
    ("formats", "handles"),
    ("models",),
    ("telemetry",),
    ("agent",),
    ("blocking", "cli"),
    ("__init__", "__main__"),
)
"""The rooms, folders and single files, from the ground up. A room imports itself and what is on floors below it."""

EXCEPTIONS: Final = {("cli.contract", "threadkeep_contract")}
"""Who may import what is above it: the command `contract` runs the suite, which is an extra."""

SHARED_NAMES: Final = {"command", "T"}
"""What may stand in several files of a room: each command's module holds it as `command`, and T is any type."""


@dataclass(frozen=True)
class Arrow:
    """One file imports names of another. Files are called as modules are, without the package's name in front."""

    source: str
    target: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.source} -> {self.target} ({', '.join(self.names)})"


Trees: TypeAlias = Mapping[str, ast.Module]


def read(folder: Path) -> dict[str, ast.Module]:
    """The parsed files of a package, by their names."""
    trees = {}
    for path in sorted(folder.rglob("*.py")):
        name = ".".join(path.relative_to(folder).with_suffix("").parts)
        trees[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    assert trees, f"no modules in {folder}"
    return trees


def file_of(module: str, trees: Trees) -> str | None:
    """The file of a module of the package, by the module's name within it; None where there is none."""
    if module in trees:
        return module
    door = f"{module}.__init__" if module else "__init__"
    return door if door in trees else None


def arrows(trees: Trees, package: str = "threadkeep") -> list[Arrow]:
    """All imports among the files, also those in functions and under TYPE_CHECKING.

    A name that a room's door only passes on counts as imported from the file that defines it. What is imported from
    the packages above has their name as its target.
    """
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for source, tree in trees.items():
        for module, name in imports(tree):
            top, _, inner = module.partition(".")
            if top == package:
                target = home_of(inner, name, trees)
                if target != source:
                    found[source, target].append(name or module)
            elif top in OTHERS:
                found[source, top].append(name or module)
    return [Arrow(source, target, tuple(names)) for (source, target), names in found.items()]


def imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What a file imports, wherever that stands in it: modules, and names of modules (empty for a whole module)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno} is a relative import"
            yield from ((node.module or "", alias.name) for alias in node.names)


def home_of(module: str, name: str, trees: Trees) -> str:
    """The file that a name imported from a module comes from."""
    if name:
        inner = file_of(f"{module}.{name}" if module else name, trees)
        if inner is not None:
            return inner
    file = file_of(module, trees)
    assert file is not None, f"there is no module {module!r}"
    if file.endswith("__init__"):
        for passed_on, original in imports(trees[file]):
            if original == name and passed_on.partition(".")[0] == "threadkeep":
                return home_of(passed_on.partition(".")[2], name, trees)
    return file


def circles(found: list[Arrow]) -> list[set[str]]:
    """The sets of files of which each imports all others, directly or through others."""
    reached: dict[str, set[str]] = defaultdict(set)
    for arrow in found:
        reached[arrow.source].add(arrow.target)
    grown = True
    while grown:
        grown = False
        for targets in reached.values():
            further = {far for near in targets for far in reached.get(near, ())} - targets
            targets |= further
            grown = grown or bool(further)
    tied = {
        frozenset({name, *(other for other in reached[name] if name in reached.get(other, ()))}) for name in reached
    }
    return [set(circle) for circle in tied if len(circle) > 1]


def told(circle: set[str], found: list[Arrow]) -> str:
    """A circle, by the arrows that tie it."""
    return "\n".join(f"  {arrow}" for arrow in found if {arrow.source, arrow.target} <= circle)


def room_of(file: str) -> str:
    return file.partition(".")[0]


def upward(found: list[Arrow]) -> list[Arrow]:
    """The arrows that do not go to a floor below, but for those within a room and the exceptions."""
    floors = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    floors.update(dict.fromkeys(OTHERS, len(FLOORS)))
    return [
        arrow
        for arrow in found
        if room_of(arrow.source) != room_of(arrow.target)
        and floors[room_of(arrow.target)] >= floors[room_of(arrow.source)]
        and (arrow.source, arrow.target) not in EXCEPTIONS
    ]


def public_names(tree: ast.Module) -> set[str]:
    """The names that a file defines at its top level, but for those with an underscore in front.

    A hook's specification is left out: it has the name of the function that asks the hook.
    """
    names: set[str] = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef(decorator_list=[ast.Call(func=ast.Name(id="hookspec"))]):
                continue
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Assign(targets=targets):
                names.update(target.id for target in targets if isinstance(target, ast.Name))
    return {name for name in names if not name.startswith("_")}


def shared(trees: Trees) -> list[str]:
    """The names that stand for two things in one folder: defined in two files, or a file's name and defined in it."""
    homes: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for file, tree in trees.items():
        room, _, leaf = file.rpartition(".")
        if not room:
            # The files beside the rooms are in none.
            continue
        homes[room, leaf].append(file)
        for name in public_names(tree) - SHARED_NAMES:
            homes[room, name].append(f"{file}.{name}")
    return [f"{room}: {' and '.join(places)}" for (room, _), places in homes.items() if len(places) > 1]


TREES: Final = read(CORE)


def test_every_room_has_its_floor() -> None:
    assert sorted(room for rooms in FLOORS for room in rooms) == sorted({room_of(file) for file in TREES})


def test_no_file_imports_itself_through_others() -> None:
    found = arrows(TREES)
    assert len(found) > len(TREES)
    assert [told(circle, found) for circle in circles(found)] == []


def test_no_room_imports_what_is_not_below_it() -> None:
    assert [str(arrow) for arrow in upward(arrows(TREES))] == []


def test_the_exceptions_are_needed() -> None:
    assert {(arrow.source, arrow.target) for arrow in arrows(TREES)} >= EXCEPTIONS


def test_a_name_stands_for_one_thing_in_its_room() -> None:
    assert shared(TREES) == []


@pytest.mark.parametrize("package", OTHERS)
def test_the_packages_on_core_have_no_circles_and_one_meaning_for_a_name(package: str) -> None:
    trees = read(OTHERS[package])
    found = arrows(trees, package)
    assert len(found) > len(trees)
    assert [told(circle, found) for circle in circles(found)] == []
    assert shared(trees) == []


@pytest.mark.parametrize("folder", USERS, ids=lambda folder: folder.name)
def test_others_come_in_by_the_doors(folder: Path) -> None:
    inside = [
        f"{file}: {module}"
        for file, tree in read(folder).items()
        for module, _ in imports(tree)
        if module.startswith("threadkeep.") and module.count(".") > 1 and not module.startswith("threadkeep.cli.")
    ]
    assert inside == []


@pytest.fixture
def crooked(tmp_path: Path) -> Path:
    """A package in which handles and agent import each other, once in a function and once for type checkers only."""
    files = {
        "errors.py": "class Wrong(Exception): ...",
        "handles/__init__.py": "from threadkeep.handles.memory import Memory as Memory",
        "handles/memory.py": (
            "from threadkeep.errors import Wrong\n"
            "class Memory:\n"
            "    def agent(self):\n"
            "        from threadkeep.agent import Agent, run\n"
        ),
        "handles/thread.py": "class Memory: ...",
        "agent/__init__.py": (
            "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n"
            "    from threadkeep.agent.loop import Agent\n"
            "def __getattr__(name): ...\n"
        ),
        "agent/loop.py": (
            "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n"
            "    from threadkeep.handles import Memory\n"
            "import threadkeep_contract.report\n"
            "class Agent: ...\n"
        ),
        "agent/run.py": "import threadkeep.errors\nrun = 1",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_a_circle_is_found_wherever_its_imports_stand(crooked: Path) -> None:
    found = arrows(read(crooked))
    (circle,) = circles(found)
    assert circle == {"handles.memory", "agent.loop"}
    assert told(circle, found).split("\n") == [
        "  agent.loop -> handles.memory (Memory)",
        "  handles.memory -> agent.loop (Agent)",
    ]


def test_an_import_from_above_is_found(crooked: Path) -> None:
    assert {str(arrow) for arrow in upward(arrows(read(crooked)))} == {
        "agent.loop -> threadkeep_contract (threadkeep_contract.report)",
        "handles.memory -> agent.loop (Agent)",
        "handles.memory -> agent.run (run)",
    }


def test_a_name_for_two_things_is_found(crooked: Path) -> None:
    assert sorted(shared(read(crooked))) == [
        "agent: agent.run and agent.run.run",
        "handles: handles.memory.Memory and handles.thread.Memory",
    ]
