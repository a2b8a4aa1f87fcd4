"""What the commands share: the option `--store`, and opening what it names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from threadkeep.port import DEFAULT_URL, URL_VARIABLE, store_exists

if TYPE_CHECKING:
    from threadkeep.handles import Memory

store_option = click.option(
    "--store",
    "url",
    metavar="URL",
    envvar=URL_VARIABLE,
    default=DEFAULT_URL,
    show_default=True,
    show_envvar=True,
    help="The store.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON lines, for programs.")


def existing_memory(url: str, hint: str = f"name one with --store URL or {URL_VARIABLE}") -> Memory:
    """A Memory over a store that is there already: a look, or an erasure, must not make one.

    `hint` is what to do where there is none.

    Raises ClickException where its plugin knows that there is none, and as `Memory`.
    """
    from threadkeep.handles import Memory

    if store_exists(url) is False:
        raise click.ClickException(f"there is no store at {without_secrets(url)}, and this command makes none; {hint}")
    return Memory(url)


def without_secrets(url: str) -> str:
    """A store URL without user, password and options, to be shown."""
    return re.sub(r"://[^/].*@", "://", url.partition("?")[0])
