"""`threadkeep erase`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from threadkeep.cli.options import existing_memory, store_option
from threadkeep.cli.output import notice, shown_time, visible_id

if TYPE_CHECKING:
    from threadkeep.handles import Memory


@click.command
@store_option
@click.option("--resource", "resource_id", metavar="ID", required=True, help="Whose threads and working memory.")
@click.option("--thread", "thread_id", metavar="ID", help="Only this thread of the resource.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(url: str, resource_id: str, thread_id: str | None, yes: bool) -> None:
    """Remove a thread, or everything of a resource: threads, messages and working memory.

    What is removed cannot be brought back. Removing what is not there is no error.
    """
    if not yes and not at_terminal():
        raise click.UsageError("there is no terminal to ask at; give --yes to erase without being asked")
    asyncio.run(_erase(existing_memory(url), resource_id, thread_id, yes))


def at_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty()


async def _erase(memory: Memory, resource_id: str, thread_id: str | None, yes: bool) -> None:
    async with memory:
        what = await _what(memory, resource_id, thread_id)
        if not yes:
            click.confirm(f"Erase {what}?", abort=True, err=True)
        resource = memory.resource(resource_id)
        if thread_id is None:
            await resource.erase()
        else:
            await resource.thread(thread_id).delete()
    notice(f"erased {what}")


async def _what(memory: Memory, resource_id: str, thread_id: str | None) -> str:
    """What is about to go, in words."""
    from threadkeep.errors import ThreadNotFound

    resource = memory.resource(resource_id, read_only=True)
    if thread_id is None:
        count = 0
        async for _ in resource.threads():
            count += 1
        kept = " and a working memory" if (await resource.working_memory.get()).version else ""
        return f"resource {visible_id(resource_id)}: {count} {'thread' if count == 1 else 'threads'}{kept}"
    thread = f"thread {visible_id(thread_id)} of resource {visible_id(resource_id)}"
    try:
        info = await resource.thread(thread_id).info()
    except ThreadNotFound:
        return f"{thread}: nothing, it is not there"
    return f"{thread}, last active {shown_time(info.updated_at)}"
