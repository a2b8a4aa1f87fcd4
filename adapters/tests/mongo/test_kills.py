"""A client that dies before each of its requests in turn: all of a call is there, or nothing (laws 4, 6, 10)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
from killed_calls import BODY, SCENARIOS, Victims, count_down, killed_at_each_request, left_in, prepare
from mongodb_server import FERRETDB, MONGO_JAVA_SERVER
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
    register,
)

pytestmark = pytest.mark.slow


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
    with Victims(Path(__file__)) as victims:
        yield victims


@pytest.mark.parametrize("kind", [FERRETDB, MONGO_JAVA_SERVER], ids=lambda kind: kind.name)
@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_a_client_killed_before_any_of_its_requests_leaves_all_of_a_call_or_nothing(
    kind: servers.Kind, scenario: str, victims: Victims
) -> None:
    url = servers.shared(kind).url
    kind.tidy(url)
    outcomes, users = asyncio.run(killed_at_each_request(url, victims, scenario, SCENARIOS[scenario], prepare))
    # What is left to do when a call has had its effect takes requests too.
    assert (False, True) in outcomes
    assert not left_in(url, *users, "secret-thread", BODY)
