"""`threadkeep export`."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from threadkeep.cli.options import existing_memory, store_option
from threadkeep.cli.output import notice, write_json_line

if TYPE_CHECKING:
    from threadkeep.handles import Memory


@click.command
@store_option
@click.option("--resource", "resource_id", metavar="ID", help="Only this resource; the whole store unless given.")
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Write to this file instead of stdout. It is replaced when all is written, and not before.",
)
def command(url: str, resource_id: str | None, output: Path | None) -> None:
    """Write a resource, or the whole store, as JSON lines.

    The first line of a resource has kind "resource", then comes a line of kind "thread" for each thread, followed by
    one of kind "message" for each of its messages.
    """
    memory = existing_memory(url)
    if output is None or str(output) == "-":
        asyncio.run(_export(memory, resource_id, None))
        return
    with _replaced(output) as file:
        asyncio.run(_export(memory, resource_id, file))


async def _export(memory: Memory, resource_id: str | None, file: IO[bytes] | None) -> None:
    counts = {"resource": 0, "thread": 0, "message": 0}
    async with memory:
        async for found in _resources(memory, resource_id):
            async for line in memory.resource(found, read_only=True).export():
                write_json_line(line, file)
                counts[line["kind"]] += 1
    notice(f"exported {counts['resource']} resources, {counts['thread']} threads, {counts['message']} messages")


async def _resources(memory: Memory, resource_id: str | None) -> AsyncIterator[str]:
    if resource_id is not None:
        yield resource_id
        return
    async for found in memory.admin.resources():
        yield found


@contextmanager
def _replaced(output: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `output` when all went well, and is removed when not."""
    output = output.resolve()
    # A device or a pipe is written to, and never replaced.
    special = output.exists() and not output.is_file()
    new = output if special else output.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        with new.open("wb" if special else "xb") as file:
            yield file
            if not special:
                file.flush()
                os.fsync(file.fileno())
        if not special:
            new.replace(output)
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.ClickException(f"cannot write {output}: {reason}; choose another place") from error
    finally:
        if not special:
            new.unlink(missing_ok=True)
