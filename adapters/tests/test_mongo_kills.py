"""A client that dies before each of its requests in turn: all of a call is there, or nothing (laws 4, 6, 10)."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from typing import Final

import pytest
import servers
from killed_calls import BODY, SCENARIOS, look, prepare
from mongodb_server import FERRETDB, MONGO_JAVA_SERVER

from threadkeep.registry import open_store, scan_backend
from threadkeep.store import Resource

VICTIM: Final = """
import asyncio, os, signal, sys
from pymongo.monitoring import CommandListener, register
from killed_calls import SCENARIOS
from threadkeep.registry import open_store

class Killer(CommandListener):
    left = int(sys.argv[3])
    def started(self, event):
        if Killer.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        Killer.left -= 1
    def succeeded(self, event): pass
    def failed(self, event): pass

async def main():
    register(Killer())
    store = open_store(sys.argv[1])
    # Opening takes one request.
    Killer.left += 1
    await store.open()
    await SCENARIOS[sys.argv[2]](store, sys.argv[4])

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", [FERRETDB, MONGO_JAVA_SERVER], ids=lambda kind: kind.name)
@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_a_client_killed_before_any_of_its_requests_leaves_all_of_a_call_or_nothing(
    kind: servers.Kind, scenario: str
) -> None:
    url = servers.shared(kind).url

    async def check(user: str) -> tuple[bool, bool]:
        """Whether the victim lived to its end, and whether its call was done."""
        store, model = open_store(url), open_store("memory://kills")
        try:
            await prepare(store, user)
            await prepare(model, user)
            assert await look(store, user) == await look(model, user)
            before = await look(model, user)
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", VICTIM, url, scenario, user.rpartition("-")[2], user],
                env={"PYTHONPATH": ":".join(sys.path)},
                capture_output=True,
                check=False,
                timeout=60,
            )
            assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
            seen = await look(store, user)
            await SCENARIOS[scenario](model, user)
            after = await look(model, user)
            assert seen in (before, after)
            assert done.returncode or seen == after
            # Whoever comes next finds nothing in the way, and what the dead left is passed over.
            await SCENARIOS[scenario](store, user)
            await SCENARIOS[scenario](model, user)
            if seen == before or scenario in ("delete", "erase"):
                assert await look(store, user) == after
            await store.delete(Resource(user))
            await store.delete(Resource(user))
            left = b"".join(scan_backend(url) or ())
            assert not [text for text in (user, "secret-thread", BODY) if text.encode() in left]
            return done.returncode == 0, seen == after
        finally:
            await model.delete(Resource(user))
            await store.close()
            await model.close()

    kind.tidy(url)
    outcomes = []
    for requests in range(40):
        outcomes.append(asyncio.run(check(f"victim-{scenario}-{requests}")))
        if outcomes[-1][0]:
            break
    assert outcomes[-1] == (True, True)
    # It was killed before its effect at first, and after it later.
    assert outcomes[0] == (False, False)
    assert (False, True) in outcomes
