"""A client that dies before each of its requests in turn: all of a call is there, or nothing (laws 4, 6, 10)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
from killed_calls import BODY, SCENARIOS, Victims, count_down, left_in, look, opened, prepare
from mongodb_server import FERRETDB, MONGO_JAVA_SERVER
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
    register,
)

from threadkeep.guard import Guard
from threadkeep.store import Resource


class Requests(CommandListener):
    """Tells of each request before it is sent."""

    def started(self, event: CommandStartedEvent) -> None:
        count_down()

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


def watch() -> None:
    """In the process of `Victims`: count the requests of every child."""
    register(Requests())


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    with Victims(Path(__file__).stem) as victims:
        yield victims


@pytest.mark.parametrize("kind", [FERRETDB, MONGO_JAVA_SERVER], ids=lambda kind: kind.name)
@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_a_client_killed_before_any_of_its_requests_leaves_all_of_a_call_or_nothing(
    kind: servers.Kind, scenario: str, victims: Victims
) -> None:
    url = servers.shared(kind).url

    async def check(store: Guard, model: Guard, requests: int, user: str) -> tuple[bool, bool]:
        """Whether the victim lived to its end, and whether its call was done."""
        await prepare(store, user)
        await prepare(model, user)
        before = await look(model, user)
        assert await look(store, user) == before
        ended = await victims.call(url, scenario, requests, user)
        seen = await look(store, user)
        await SCENARIOS[scenario](model, user)
        after = await look(model, user)
        assert seen in (before, after)
        assert not ended or seen == after
        # Whoever comes next finds nothing in the way, and what the dead left is passed over.
        await SCENARIOS[scenario](store, user)
        if seen == before or scenario in ("delete", "erase"):
            assert await look(store, user) == after
        await store.delete(Resource(user))
        await store.delete(Resource(user))
        await model.delete(Resource(user))
        return ended, seen == after

    async def main() -> None:
        outcomes, users = [], []
        async with opened(url) as store, opened("memory://kills") as model:
            for requests in range(40):
                users.append(f"victim-{scenario}-{requests}")
                outcomes.append(await check(store, model, requests, users[-1]))
                if outcomes[-1][0]:
                    break
        assert outcomes[-1] == (True, True)
        # It was killed before its effect at first, and after it later.
        assert outcomes[0] == (False, False)
        assert (False, True) in outcomes
        assert not left_in(url, *users, "secret-thread", BODY)

    kind.tidy(url)
    asyncio.run(main())
