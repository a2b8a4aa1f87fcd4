"""`threadkeep threads`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from threadkeep.cli.options import existing_memory, json_option, store_option
from threadkeep.cli.output import notice, shown_time, visible_id, write_json_line, write_table

if TYPE_CHECKING:
    from threadkeep.handles import Memory, ThreadInfo
    from threadkeep.port import Order

_COLUMNS = ("resource", "thread", "title", "position", "created", "last active", "archived")


@click.command
@store_option
@click.option("--resource", "resource_id", metavar="ID", help="Only the threads of this resource.")
@click.option(
    "--order",
    type=click.Choice(["created", "active"]),
    default="created",
    show_default=True,
    help="The oldest first, or the last touched first; resource by resource.",
)
@click.option("--archived/--not-archived", default=None, help="Only archived threads, or only others.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="At most N threads; all unless given.")
@json_option
def command(
    url: str, resource_id: str | None, order: Order, archived: bool | None, limit: int | None, as_json: bool
) -> None:
    """List threads, of one resource or of all.

    Position is that of a thread's newest message. Each JSON line has resource_id, thread_id, title, metadata,
    archived, forked_from, incomplete, created_at, updated_at, epoch and position.
    """
    asyncio.run(_list(existing_memory(url), resource_id, order, archived, limit, as_json))


async def _list(
    memory: Memory, resource_id: str | None, order: Order, archived: bool | None, limit: int | None, as_json: bool
) -> None:
    rows: list[tuple[str, ...]] = []
    count = 0
    async with memory, aclosing(_threads(memory, resource_id, order, archived)) as threads:
        async for info in threads:
            if count == limit:
                notice(f"there are more than {count}; raise --limit to see them")
                break
            count += 1
            if as_json:
                write_json_line(info.model_dump(mode="json"))
            else:
                rows.append(_row(info))
    if rows:
        write_table(_COLUMNS, rows)
    if not count:
        notice("no threads")


async def _threads(
    memory: Memory, resource_id: str | None, order: Order, archived: bool | None
) -> AsyncGenerator[ThreadInfo]:
    if resource_id is not None:
        async for info in memory.resource(resource_id, read_only=True).threads(order=order, archived=archived):
            yield info
        return
    async for found in memory.admin.resources():
        async for info in memory.admin.resource(found, read_only=True).threads(order=order, archived=archived):
            yield info


def _row(info: ThreadInfo) -> tuple[str, ...]:
    return (
        visible_id(info.resource_id),
        visible_id(info.thread_id),
        "" if info.title is None else visible_id(info.title),
        str(info.position),
        shown_time(info.created_at),
        shown_time(info.updated_at),
        "yes" if info.archived else "",
    )
