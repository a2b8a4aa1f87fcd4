"""What there is to copy, and whether there are two stores at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import click

from threadkeep.cli.copy.compare import name_of
from threadkeep.handles import WORKING_MEMORY, Memory
from threadkeep.port import MAX_PAGE, After, Changes, Guard, Put, Resource, Scope, Thread, new_id


async def scopes_of(memory: Memory, resource_id: str | None) -> list[Scope]:
    """Every resource of a store, or the one given, each followed by its threads, the oldest first.

    Raises ClickException where the store has nothing of the resource given.
    """
    scopes: list[Scope] = []
    if resource_id is None:
        async for found in memory.admin.resources():
            scopes.append(Resource(found))
            scopes += [thread async for thread in threads_of(memory.store, found)]
        return scopes
    resource = Resource(resource_id)
    scopes = [resource, *[thread async for thread in threads_of(memory.store, resource_id)]]
    if len(scopes) == 1 and not (await memory.store.load(resource)).resource_docs:
        raise click.ClickException(f"FROM has nothing of {name_of(resource)}; `threadkeep threads` lists what there is")
    return scopes


async def threads_of(store: Guard, resource_id: str) -> AsyncIterator[Thread]:
    """The threads of a resource, the oldest first."""
    after: After | None = None
    while True:
        rows = await store.threads(Resource(resource_id), after, MAX_PAGE)
        for row in rows:
            yield Thread(resource_id, row.thread_id)
        if len(rows) < MAX_PAGE:
            return
        after = After(rows[-1].created, rows[-1].thread_id)


async def is_same_store(source: Guard, target: Guard, scopes: Sequence[Scope], at: int) -> bool:
    """Whether two URLs, which need not look alike, lead to one store.

    Epochs are random and not copied: a thread that has one epoch on both sides is either one thread, or the stores
    are copies of each other's files. A document put into the target for a moment, at the time `at`, tells which.
    """
    thread = next((scope for scope in scopes if isinstance(scope, Thread)), None)
    if thread is not None:
        epochs = [(await store.load(thread)).tail.epoch for store in (source, target)]
        if epochs[0] != epochs[1]:
            return False
    probe = Resource(f"threadkeep-copy-{new_id()}")
    try:
        await target.commit(probe, Changes(at=at, puts=(Put(WORKING_MEMORY, '"Is this one store?"'),)))
        return bool((await source.load(probe)).resource_docs)
    finally:
        await target.delete(probe)
