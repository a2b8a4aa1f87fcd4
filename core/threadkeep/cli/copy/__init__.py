"""`threadkeep copy`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from threadkeep.cli.options import existing_memory
from threadkeep.cli.output import notice, progress_bar
from threadkeep.cli.tasks import share_out

if TYPE_CHECKING:
    from threadkeep.handles import Memory
    from threadkeep.port import Scope

AT_ONCE: Final = 4
"""Threads that are copied at the same time; each is held in memory as a whole."""

SHOWN: Final = 20
"""Faults that are shown; of more only their number."""


@click.command
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--resource", "resource_id", metavar="ID", help="Only this resource; the whole store unless given.")
@click.option("--verify", is_flag=True, help="Read both stores afterwards and compare all that a copy keeps.")
def command(source: str, target: str, resource_id: str | None, verify: bool) -> None:
    """Bring a resource, or the whole store, into another store.

    FROM and TO are store URLs. FROM is only read; TO is made where there is none. Threads keep their ids, titles,
    metadata and flags, working memory, times, and messages with their ids, positions and times. Epochs and the
    versions of working memories are new: tails and cursors of FROM are refused in TO, and have to be read anew there.

    What TO has already, equal, is not written again, so that a copy that was interrupted is completed by running it
    again, and a later run brings the messages that have come since. A thread that TO has with another content is named
    and left as it is, as is one with something too large for TO; the others are copied, and the exit status is 1.

    Each thread is copied as it is at one moment. What is written to FROM after that moment is not in the copy, and
    --verify tells of it. To move to another store, stop what writes, copy once more, and verify.
    """
    memory = existing_memory(source, "give the URL of one as FROM")
    asyncio.run(_copy(memory, target, resource_id, verify))


async def _copy(memory: Memory, url: str, resource_id: str | None, verify: bool) -> None:
    from threadkeep.cli.copy.walk import is_same_store, scopes_of
    from threadkeep.errors import StoreError
    from threadkeep.handles import Memory as Target

    async with memory:
        scopes = await scopes_of(memory, resource_id)
        async with Target(url) as target:
            if await is_same_store(memory.store, target.store, scopes, target.now()):
                raise click.ClickException("FROM and TO are the same store; name another one as TO")
            try:
                faults = await _transfer(memory, target, scopes)
            except StoreError as error:
                raise click.ClickException(f"{error}; run the same copy again to complete it") from error
            different = await _differences(memory, target, resource_id) if verify else []
    for kind, found in (("refused", faults), ("different", different)):
        for fault in found[:SHOWN]:
            notice(f"{kind}: {fault}")
        if len(found) > SHOWN:
            notice(f"{kind}: {len(found) - SHOWN} more")
    if faults or different:
        told = f", {len(different)} differ" if verify else ""
        raise click.ClickException(f"{len(faults)} threads or resources were refused{told}; they are named above")


async def _transfer(memory: Memory, target: Memory, scopes: Sequence[Scope]) -> list[str]:
    """Copy everything, and say what was done; what was refused, in words."""
    from threadkeep.cli.copy.transfer import Count, Refused, copy_resource, copy_thread
    from threadkeep.port import Resource, Thread

    count = Count()
    faults: list[str] = []
    threads = len([scope for scope in scopes if isinstance(scope, Thread)])
    with progress_bar("threads") as bar:
        task = bar.add_task("threads", total=threads)

        async def bring(scope: Scope) -> None:
            try:
                if isinstance(scope, Resource):
                    await copy_resource(memory.store, target.store, scope, target.now())
                else:
                    count.add(await copy_thread(memory.store, target.store, scope))
            except Refused as refused:
                faults.append(str(refused))
            if isinstance(scope, Thread):
                bar.advance(task)

        await share_out(scopes, bring, AT_ONCE)
    click.echo(f"resources        {len(scopes) - threads}")
    click.echo(f"threads          {threads}, {count.threads} of them written")
    click.echo(f"messages copied  {count.messages}")
    return faults


async def _differences(memory: Memory, target: Memory, resource_id: str | None) -> list[str]:
    """Compare what both stores hold now: the differences, in words, one for a thread or resource at most."""
    from threadkeep.cli.copy.compare import difference, docs_difference, name_of
    from threadkeep.cli.copy.transfer import WHOLE
    from threadkeep.cli.copy.walk import scopes_of, threads_of
    from threadkeep.port import Resource, Thread

    found: list[str] = []
    messages = 0
    scopes = await scopes_of(memory, resource_id)
    with progress_bar("threads compared") as bar:
        task = bar.add_task("threads", total=len([scope for scope in scopes if isinstance(scope, Thread)]))

        async def compare(scope: Scope) -> None:
            nonlocal messages
            theirs, ours = await memory.store.load(scope, WHOLE), await target.store.load(scope, WHOLE)
            if isinstance(scope, Resource):
                fault = docs_difference(theirs.resource_docs, ours.resource_docs)
            else:
                fault = difference(theirs, ours)
                messages += len(theirs.records)
                bar.advance(task)
            if fault:
                found.append(f"{name_of(scope)}: {fault}")

        await share_out(scopes, compare, AT_ONCE)
    known = set(scopes)
    resources = {scope.resource_id for scope in scopes}
    others = 0
    for each in resources:
        others += len([thread async for thread in threads_of(target.store, each) if thread not in known])
    if others:
        notice(f"TO has {others} threads of these resources that are not in FROM; they were not compared")
    if not found:
        click.echo(f"verified: {len(scopes) - len(resources)} threads, {messages} messages, equal in FROM and TO")
    return found
