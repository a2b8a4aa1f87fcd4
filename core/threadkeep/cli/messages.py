"""`threadkeep messages`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from threadkeep.cli.options import existing_memory, json_option, store_option
from threadkeep.cli.output import notice, shown_time, visible, visible_id, write_json_line

if TYPE_CHECKING:
    from threadkeep.handles import Memory, ThreadHandle
    from threadkeep.messages import Message, Part


@click.command
@store_option
@click.option("--resource", "resource_id", metavar="ID", required=True, help="Whose thread.")
@click.option("--thread", "thread_id", metavar="ID", required=True, help="Which thread of this resource.")
@click.option("--last", metavar="N", type=click.IntRange(min=1), help="Only the newest N; all unless given.")
@json_option
def command(url: str, resource_id: str, thread_id: str, last: int | None, as_json: bool) -> None:
    """Show the messages of a thread, the oldest first.

    Each JSON line is a message: id, role, parts, position, stored_at, and what else it has.
    """
    asyncio.run(_show(existing_memory(url), resource_id, thread_id, last, as_json))


async def _show(memory: Memory, resource_id: str, thread_id: str, last: int | None, as_json: bool) -> None:
    from threadkeep.messages import dump

    async with memory:
        thread = memory.thread(resource_id, thread_id, read_only=True)
        count = 0
        async with aclosing(_messages(thread, last)) as messages:
            async for message in messages:
                count += 1
                if as_json:
                    write_json_line(dump(message))
                else:
                    click.echo(_shown(message))
    if not count:
        notice("the thread has no messages")


async def _messages(thread: ThreadHandle, last: int | None) -> AsyncGenerator[Message]:
    if last is not None:
        for message in await thread.messages(last=last):
            yield message
        return
    async for message in thread.history():
        yield message


def _shown(message: Message) -> str:
    # The agent loop says in the metadata which agent spoke.
    name = message.name or message.metadata.get("agent")
    who = visible_id(message.role) + (f" {visible_id(name)}" if isinstance(name, str) else "")
    when = "" if message.stored_at is None else shown_time(message.stored_at)
    head = click.style(f"{message.position}  {who}", bold=True) + f"  {when}  {visible_id(message.id)}"
    lines = [line for part in message.parts for line in visible(_part(part)).split("\n")]
    return "\n".join([head, *[f"    {line}" for line in lines]])


def _part(part: Part) -> str:
    from threadkeep.messages import FilePart, ReasoningPart, TextPart, ToolCallPart, ToolResultPart

    match part:
        case TextPart():
            return part.text
        case ReasoningPart():
            return f"(reasoning) {part.text}"
        case ToolCallPart():
            return f"(calls {part.name}) {_json(part.arguments)}"
        case ToolResultPart():
            return (
                f"({'error' if part.is_error else 'result'} of {part.name or part.tool_call_id}) {_json(part.result)}"
            )
        case FilePart():
            where = part.url if part.url is not None else f"{len(part.data or '')} characters of base64"
            return f"(file {part.filename or part.media_type or ''}) {where}"
        case _:
            return f"({part.type}) {_json(part.model_dump(mode='json', exclude={'type'}, exclude_none=True))}"


def _json(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
