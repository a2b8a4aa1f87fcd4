"""Write the reference pages in docs/ from the code: `python scripts/generate_docs.py [--check]`.

Errors, limits, hooks, commands, laws and the options of stores are described where they are defined; these pages carry
that over.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Final

import click
from docs_of_options import PAGES as PAGES_WITH_OPTIONS
from docs_of_options import with_options

from threadkeep import cli, errors
from threadkeep.port import canonical, hooks, limits
from threadkeep_contract import laws, saboteurs
from threadkeep_contract.evidence import least_of

DOCS: Final = Path(__file__).parent.parent / "docs"
WIDTH: Final = 110
"""Columns of the commands' help text."""


def attribute_docs(source: str, name: str) -> dict[str, str]:
    """The docstrings under the attributes of a class, or of a module where `name` is empty."""
    body: list[ast.stmt] = ast.parse(source).body
    if name:
        body = next(node.body for node in body if isinstance(node, ast.ClassDef) and node.name == name)
    found = {}
    for node, after in pairwise(body):
        match node:
            case ast.AnnAssign(target=target) | ast.Assign(targets=[target]):
                pass
            case _:
                continue
        if isinstance(target, ast.Name) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[target.id] = inspect.cleandoc(str(after.value.value))
    return found


def error_classes() -> list[type[errors.ThreadkeepError]]:
    """Every error, parents first, in the order of the module."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return [kind for kind in kinds if issubclass(kind, errors.ThreadkeepError)]


def errors_page() -> Iterator[str]:
    """docs/errors.md."""
    tree = re.search(r"^ *ThreadkeepError$.*?(?=\n\n)", errors.__doc__ or "", re.MULTILINE | re.DOTALL)
    if tree is None:
        raise SystemExit("the docstring of errors.py has no tree that begins with ThreadkeepError")
    yield "# Errors"
    yield (
        "All errors of threadkeep are in `threadkeep.errors`. Only these leave a store; the driver's own error is "
        "their `__cause__`."
    )
    yield f"```\n{inspect.cleandoc(tree.group(0))}\n```"
    yield "What to do next is `error.action`, and `error.retryable` says whether the same call may simply be repeated:"
    docs = attribute_docs(inspect.getsource(errors), "Action")
    yield "\n".join(f"- `Action.{action.name}`: {docs[action.name]}" for action in errors.Action)
    for kind in error_classes():
        parents = [base.__name__ for base in kind.__bases__ if base is not Exception]
        above = f"A kind of {' and '.join(f'`{parent}`' for parent in parents)}. " if parents else ""
        yield f"## {kind.__name__}"
        yield inspect.cleandoc(kind.__doc__ or "")
        yield f"{above}Next: `Action.{kind.action.name}`."


def limits_page() -> Iterator[str]:
    """docs/limits.md."""
    yield "# Limits"
    yield (
        "Each store declares its limits as `store.limits`; a memory shows those of its store as `memory.store.limits`. "
        "The values here are the least that any store may declare (law 11). At the limit a call works; above it, it "
        "raises [LimitExceeded](errors.md#limitexceeded), which names the limit, and nothing is written."
    )
    docs = attribute_docs(inspect.getsource(limits), "Limits")
    for limit in fields(limits.Limits):
        yield f"## {limit.name}"
        yield f"{docs[limit.name]} At least {limit.default:,}."
    yield "# Bounds that no store widens"
    docs = attribute_docs(inspect.getsource(canonical), "")
    for name in ("MAX_DEPTH", "MAX_INT_DIGITS"):
        yield f"## {name}"
        yield f"{getattr(canonical, name):,}. {docs[name]}"


def hook_names() -> list[str]:
    """Every hook that a plugin may implement."""
    return [name for name, value in vars(hooks).items() if hasattr(value, "threadkeep_spec")]


def hooks_page() -> Iterator[str]:
    """docs/hooks.md."""
    yield "# Hooks"
    yield inspect.cleandoc(hooks.__doc__ or "")
    yield "An implementation is marked with `threadkeep.port.hookimpl`; [here](write-a-store.md) is a whole plugin."
    for name in hook_names():
        hook = getattr(hooks, name)
        yield f"## {name}"
        yield f"```\ndef {name}{inspect.signature(hook)}\n```".replace("'", "")
        yield inspect.cleandoc(hook.__doc__ or "")


def commands_page() -> Iterator[str]:
    """docs/commands.md."""
    yield "# Commands"
    yield f"```\n{help_text(cli.main, 'threadkeep', None)}\n```"
    parent = click.Context(cli.main, info_name="threadkeep", **cli.main.context_settings)
    for name in cli.main.list_commands(parent):
        command = cli.main.get_command(parent, name)
        if command is None:
            raise SystemExit(f"the command {name} is listed and is not there")
        yield f"## threadkeep {name}"
        yield f"```\n{help_text(command, name, parent)}\n```"


def help_text(command: click.Command, name: str, parent: click.Context | None) -> str:
    """What `--help` prints, at a width of its own."""
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    with click.Context(command, info_name=name, parent=parent, **settings) as ctx:
        return command.get_help(ctx)


LAW_PAGES: Final = {number: f"{number:02}-{laws.NAMES[number - 1].replace('_', '-')}.md" for number in laws.NUMBERS}
"""Number -> page of each law, in docs/laws."""


def law_modules(number: int) -> tuple[ModuleType, ModuleType]:
    """The module of a law, and that of its saboteurs."""
    name = laws.NAMES[number - 1]
    return import_module(f"{laws.__name__}.{name}"), import_module(f"{saboteurs.__name__}.{name}")


def law_page(number: int) -> Iterator[str]:
    """A page of docs/laws: the prose, the checks, and the saboteurs that the law must catch."""
    law = laws.law(number)
    module, broken = law_modules(number)
    title, _, prose = inspect.cleandoc(module.__doc__ or "").partition("\n\n")
    if title != f"Law {number}: {law.title.lower()}.":
        raise SystemExit(f"the docstring of {module.__name__} does not begin with the law's number and title")
    yield f"# {title.removesuffix('.')}"
    yield linked(prose, number)
    yield "## What is checked"
    checks = [(name, f"{getattr(law, name).__doc__} {counts_if(getattr(law, name))}") for name in laws.checks(law)]
    yield "\n".join(linked(bullet(name, text), number) for name, text in checks)
    yield "## How stores break it"
    found = list(saboteurs.of_module(broken))
    yield "Each of these is a store that the suite has to reject by this law."
    yield "\n".join(told_of(kind) for kind in found if not kind.slips)
    if any(kind.slips for kind in found):
        yield "Of these, the suite does not reject each in every try yet:"
        yield "\n".join(told_of(kind) for kind in found if kind.slips)


def told_of(kind: type[saboteurs.Saboteur]) -> str:
    """A saboteur as a line of a law's page."""
    slips = f" It slips: {kind.slips}." if kind.slips else ""
    return bullet(kind.fault, f"{kind.__doc__} Seen in: {kind.seen_in}.{slips}")


def counts_if(check: Callable[..., object]) -> str:
    """What a check must have seen to count, as a sentence."""
    stated = str(least_of(check))
    return f"*Counts from: {stated}.*" if stated else "*Needs no call.*"


def linked(text: str, own: int) -> str:
    """The text, with each mention of another law as a link to its page."""

    def link(found: re.Match[str]) -> str:
        number = int(found.group(1))
        return found.group() if number == own else f"[{found.group()}]({LAW_PAGES[number]})"

    return re.sub(r"\blaw (\d+)\b", link, text)


def bullet(name: str, text: str | None) -> str:
    """An entry of a list in Markdown, from a docstring of one paragraph."""
    if not text or "\n\n" in text.strip():
        raise SystemExit(f"the docstring of {name} is not one paragraph")
    lines = textwrap.wrap(" ".join(text.split()), 116, break_long_words=False, break_on_hyphens=False)
    if any(re.match(r"([-+*#]|\d+[.)])( |$)|>", line) for line in lines):
        raise SystemExit(f"a line of {name} would begin with a mark of Markdown: say it in other words")
    return "\n  ".join([f"- `{name}`:", *lines])


PAGES: Final[dict[str, tuple[Callable[[], Iterator[str]], tuple[ModuleType, ...]]]] = {
    "errors.md": (errors_page, (errors,)),
    "limits.md": (limits_page, (limits,)),
    "hooks.md": (hooks_page, (hooks,)),
    "commands.md": (commands_page, (cli,)),
    **{f"laws/{LAW_PAGES[number]}": (partial(law_page, number), law_modules(number)) for number in laws.NUMBERS},
}
"""Each page, what writes it, and the modules that it is written from."""


def page_text(name: str) -> str:
    """The page as it should be."""
    if name in PAGES_WITH_OPTIONS:
        return with_options(name, (DOCS / name).read_text(encoding="utf-8"))
    write, modules = PAGES[name]
    sources = " and ".join(module.__name__ for module in modules)
    note = f"<!-- Written by scripts/generate_docs.py from {sources}; change that. -->"
    first, *rest = write()
    return "\n\n".join([first, note, *rest]) + "\n"


def main() -> None:
    """Write the pages; with --check, exit with an error where one is not what would be written."""
    for name in (*PAGES, *PAGES_WITH_OPTIONS):
        text = page_text(name)
        if "--check" not in sys.argv[1:]:
            (DOCS / name).write_text(text, encoding="utf-8")
        elif (DOCS / name).read_text(encoding="utf-8") != text:
            raise SystemExit(f"docs/{name} is out of date; run python scripts/generate_docs.py")


if __name__ == "__main__":
    main()
