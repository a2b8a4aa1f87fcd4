"""Which verbs of a store are not written yet: those that raise NotImplementedError, as an author's draft does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from threadkeep.errors import ThreadkeepError
from threadkeep.port import Changes, Put, Resource, open_store
from threadkeep_contract.harness import Harness, LawBroken
from threadkeep_contract.profiles import BRIEF


def unwritten(url: str) -> dict[str, str]:
    """Verb -> what its NotImplementedError says, for each verb that raises one. Empty for a store that is written.

    Each verb is called once, for a resource of its own. Whatever else a verb does is left to the laws. Raises
    InvalidURL and its kinds, and PluginError.
    """
    harness = Harness(url, BRIEF)
    store = open_store(url)
    scope = Resource(harness.fresh())
    calls: Mapping[str, Callable[[], Awaitable[object]]] = {
        "load": lambda: store.load(scope),
        "commit": lambda: store.commit(scope, Changes(at=0, puts=(Put("slot", "1"),))),
        "delete": lambda: store.delete(scope),
        "threads": lambda: store.threads(scope),
        "resources": lambda: store.resources(),
    }
    found: dict[str, str] = {}

    async def call_each() -> None:
        for verb, call in calls.items():
            try:
                await call()
            except ThreadkeepError as error:
                if isinstance(error.__cause__, NotImplementedError):
                    found[verb] = str(error.__cause__) or f"{verb} is not written yet"
        await store.close()

    # A store that hangs, or does not close, is for the laws too.
    with suppress(LawBroken):
        harness.run(call_each)
    harness.close()
    return found
