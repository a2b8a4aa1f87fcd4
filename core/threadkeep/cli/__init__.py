"""The command `threadkeep`: one module for each subcommand, imported when it is called."""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import Any, Final

import click

from threadkeep.errors import ThreadkeepError

COMMANDS: Final = {
    "demo": "See two users, several threads and two agents kept apart, offline and in seconds.",
    "chat": "Talk with a model in the terminal, in threads that the store keeps.",
    "threads": "List threads, of one resource or of all.",
    "messages": "Show the messages of a thread.",
    "export": "Write a resource, or the whole store, as JSON lines.",
    "copy": "Bring a resource, or the whole store, into another store.",
    "erase": "Remove a thread, or everything of a resource.",
    "replay": "Send recorded conversations through an agent into a store.",
    "contract": "Judge a store by the laws of the contract.",
    "new-store": "Begin a store of your own: a package to fill in, with its test.",
}
"""Each command and its line in the list of commands, in that order.

`cli/NAME.py` holds it as `command`, with `_` in the module's name for `-`.
"""

_EXTRAS: Final = {"hypothesis": "contract", "pytest": "contract", "pytest_timeout": "contract"}
"""Module that may be missing -> the extra that brings it."""


class _LazyGroup(click.Group):
    """A group whose list of commands is written without importing any of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"threadkeep.cli.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ThreadkeepError as error:
            raise click.ClickException(" ".join(str(error).split())) from error
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            raise click.ClickException(
                f"this command needs the module {error.name!r}, which is not installed; "
                f'install it with: pip install "threadkeep[{extra}]"'
            ) from error


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="threadkeep")
def main() -> None:
    """Conversation memory for agents that keeps threads apart.

    A store is named by a URL such as sqlite:///support.db, given with --store or in THREADKEEP_URL.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets its code instead of a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
