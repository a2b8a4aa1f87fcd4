"""The documentation: what has to have a heading has one, examples run and print what they say, links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import click
import pytest

from threadkeep import cli, errors
from threadkeep.agent import MemoryOptions
from threadkeep.agent import hooks as agent_hooks
from threadkeep.cli.new_store.package import Names, files_of
from threadkeep.port import hooks, installed_schemes, limits, store
from threadkeep_contract.laws import NUMBERS
from threadkeep_contract.profiles import PROFILES
from threadkeep_contract.suite import LAWS

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])

EXAMPLE = files_of(Names.of("acme"), "sqlite")
"""The files of the example store, by their paths."""

FENCE = re.compile(r"^```(\S*)(?: +(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def headings(page: Path) -> list[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [line.lstrip("#").strip() for line in text.splitlines() if line.startswith("#")]


def anchor(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_error_has_its_heading() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert {kind.__name__ for kind in kinds} <= set(headings(DOCS / "errors.md"))


def test_every_limit_has_its_heading() -> None:
    assert {limit.name for limit in fields(limits.Limits)} <= set(headings(DOCS / "limits.md"))


def test_every_hook_has_its_heading() -> None:
    specified = {name for name, value in vars(hooks).items() if hasattr(value, "threadkeep_spec")}
    assert "open_store" in specified
    assert specified <= set(headings(DOCS / "hooks.md"))


def test_every_memory_option_and_every_hook_of_processors_is_explained() -> None:
    text = (DOCS / "agent-memory.md").read_text(encoding="utf-8")
    names = {option.name for option in fields(MemoryOptions)}
    names |= {name for name, value in vars(agent_hooks).items() if hasattr(value, "threadkeep_spec")}
    assert {"tokens", "before_commit"} <= names
    assert {name for name in names if name not in text} == set()


def test_every_command_has_its_heading() -> None:
    commands = cli.main.list_commands(click.Context(cli.main))
    assert {f"threadkeep {command}" for command in commands} <= set(headings(DOCS / "commands.md"))


def test_every_law_has_its_page_with_its_title() -> None:
    for law in LAWS:
        (page,) = (DOCS / "laws").glob(f"{law.number:02}-*.md")
        assert headings(page)[0].lower() == f"law {law.number}: {law.title.lower()}", page.name
    assert [law.number for law in LAWS] == list(NUMBERS)
    assert len(list((DOCS / "laws").iterdir())) == len(LAWS), "a page of no law"


def test_every_profile_of_the_contract_is_in_the_authors_page() -> None:
    text = (DOCS / "write-a-store.md").read_text(encoding="utf-8")
    assert [name for name in PROFILES if f"`{name}`" not in text] == []


def test_a_page_that_says_how_many_laws_there_are_says_the_right_number() -> None:
    words = {"eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15}
    said = [
        (name_of(page), words[word])
        for page in PAGES
        for word in re.findall(rf"\b({'|'.join(words)})\s+laws\b", page.read_text(encoding="utf-8"))
    ]
    assert "README.md" in dict(said)
    assert [(name, count) for name, count in said if count != len(LAWS)] == []


def test_every_store_has_its_page_and_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ours: dict[str, list[str]] = {}
    for scheme, entries in installed_schemes().items():
        if any(entry.dist is not None and entry.dist.name == "threadkeep" for entry in entries):
            ours.setdefault(entries[0].value, []).append(scheme)
    for schemes in ours.values():
        # Several schemes of one module may share the page of one of them, which then names the others.
        pages = [page for scheme in schemes if (page := DOCS / "stores" / f"{scheme}.md").is_file()]
        assert pages, f"docs/stores/{schemes[0]}.md is missing"
        for scheme in schemes:
            assert f"{scheme}://" in pages[0].read_text(encoding="utf-8"), f"{pages[0]} does not name {scheme}://"
        assert any(f"`{scheme}://" in readme for scheme in schemes), f"{schemes} is not among the README's stores"


def test_every_verb_of_the_port_is_in_the_authors_page() -> None:
    text = (DOCS / "write-a-store.md").read_text(encoding="utf-8").lower()
    for verb in store.Store.__abstractmethods__:
        assert verb in text, f"{verb} is not explained"


def test_reference_pages_are_what_the_code_says() -> None:
    generate = script("generate_docs")
    for name in (*generate.PAGES, *generate.PAGES_WITH_OPTIONS):
        assert (DOCS / name).read_text(encoding="utf-8") == generate.page_text(name), (
            "run python scripts/generate_docs.py"
        )


def test_the_ci_script_runs_the_readmes_test_command() -> None:
    commands = re.findall(r"^    (python3 -m venv .*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("threadkeep demo")
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert commands[1] in lines
    assert "export CI=true" in lines


def test_every_page_is_reached_from_the_readme() -> None:
    seen, queue = set(), [ROOT / "README.md"]
    while queue:
        page = queue.pop()
        if page in seen:
            continue
        seen.add(page)
        targets = [page.parent / link.partition("#")[0] for link in links(page)]
        for target in targets:
            found = sorted(target.glob("*.md")) if target.is_dir() else [target] if target.suffix == ".md" else []
            queue.extend(path.resolve() for path in found if path.is_file())
    assert {name_of(page) for page in PAGES} - {name_of(page) for page in seen} == set()


def links(page: Path) -> list[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, place = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        if place:
            assert place in [anchor(heading) for heading in headings(target)], f"{link} has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_examples_run_and_print_what_they_say(page: Path, tmp_path: Path) -> None:
    """The python blocks of a page are one program. What it prints is what its lines "# -> ..." say."""
    blocks = [
        text
        for language, source, text in FENCE.findall(page.read_text(encoding="utf-8"))
        if language == "python" and not source
    ]
    if not blocks:
        return
    program = tmp_path / "example.py"
    program.write_text("\n".join(blocks), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = [line[5:] for line in program.read_text(encoding="utf-8").splitlines() if line.startswith("# -> ")]
    assert done.stdout.splitlines() == expected
    assert done.stderr == ""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_excerpts_are_in_the_file_that_they_name(page: Path) -> None:
    for _, source, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if source:
            folder, _, path = source.partition("/")
            assert folder == "acme-store", f"{source} is not of the example that `threadkeep new-store` writes"
            assert text in EXAMPLE[path], f"not in {source}:\n{text}"


def test_the_readmes_example_is_ten_lines() -> None:
    first = next(
        text
        for language, _, text in FENCE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
        if language == "python"
    )
    assert len([line for line in first.splitlines() if line.strip() and not line.startswith("# -> ")]) == 10
