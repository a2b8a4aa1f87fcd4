"""The tables of options in docs/stores, from the declarations in each store's `url.py`; see generate_docs.py."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

from threadkeep.port import installed_schemes
from threadkeep_adapters.options import AnyOption, DriverOption

DOCS: Final = Path(__file__).parent.parent / "docs"


def _pages() -> dict[str, ModuleType]:
    """The page of each store, which is named like a scheme of it, and the module that declares its options."""
    schemes = installed_schemes()
    names = sorted(page.stem for page in (DOCS / "stores").glob("*.md"))
    return {f"stores/{name}.md": import_module(f"{schemes[name][0].value}.url") for name in names}


PAGES: Final = _pages()

_BLOCK: Final = re.compile(r"<!-- options: .*? -->\n.*?<!-- end of options -->", re.DOTALL)


def with_options(page: str, text: str) -> str:
    """The text of a page with its table as it should be. The page marks the place by two comments."""
    module = PAGES[page]
    table = options_table(module.OPTIONS) or "It takes no options."
    block = (
        f"<!-- options: written by scripts/generate_docs.py from {module.__name__}; change that. -->\n\n"
        f"{table}\n\n<!-- end of options -->"
    )
    parts = _BLOCK.split(text)
    if len(parts) != 2:
        raise SystemExit(f"docs/{page} must have one place for its options, and has {len(parts) - 1}")
    return block.join(parts)


def options_table(options: Sequence[AnyOption]) -> str:
    """A row for each option, empty where there is none."""
    if not options:
        return ""
    rows = [f"| `{each.name}` | {each.column} | {_default(each)} | {each.meaning} |" for each in options]
    return "\n".join(["| option | values | default | meaning |", "|---|---|---|---|", *rows])


def _default(option: AnyOption) -> str:
    if option.unset:
        return option.unset
    match option.default:
        case int() | float():
            return f"{option.default:,g}"
        case None if isinstance(option, DriverOption):
            return "the driver's"
        case other:
            return f"`{other}`"
