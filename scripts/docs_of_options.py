"""The tables of options in docs/stores, from the declarations in each store's `url.py`; see generate_docs.py."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import ModuleType
from typing import Final

from threadkeep_adapters.dynamodb import url as dynamodb
from threadkeep_adapters.memory import url as memory
from threadkeep_adapters.mongo import url as mongo
from threadkeep_adapters.options import AnyOption, DriverOption
from threadkeep_adapters.postgresql import url as postgresql
from threadkeep_adapters.redis import url as redis
from threadkeep_adapters.sqlite import url as sqlite

PAGES: Final[dict[str, ModuleType]] = {
    "stores/dynamodb.md": dynamodb,
    "stores/memory.md": memory,
    "stores/mongodb.md": mongo,
    "stores/postgresql.md": postgresql,
    "stores/redis.md": redis,
    "stores/sqlite.md": sqlite,
}
"""Each page with a table of options, and the module that declares them."""

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
