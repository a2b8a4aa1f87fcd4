"""What is asked of a server or cluster: scripts and commands, by the connections of the event loop that asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from redis.exceptions import NoScriptError, RedisError

from threadkeep.errors import StoreError, StoreUnavailable
from threadkeep_adapters.loops import PerLoop
from threadkeep_adapters.redis.cluster import Server
from threadkeep_adapters.redis.errors import GARBLED, LostError, NotSentError
from threadkeep_adapters.redis.layout import index_key
from threadkeep_adapters.redis.scripts import Script
from threadkeep_adapters.redis.url import Place
from threadkeep_adapters.retry import AT_ONCE

T = TypeVar("T")

FAILURES: Final = (NotSentError, LostError, RedisError)
"""What a request may end in."""


class Requests:
    """What a store asks of its place."""

    def __init__(self, place: Place, servers: PerLoop[Server]) -> None:
        self.place = place
        self.index = index_key(place.prefix)
        """The key of the list of resources."""
        self._servers = servers

    async def run(self, script: Script, keys: Sequence[bytes], *given: Any) -> Any:
        """What a script answers. A server that does not know it, since it was restarted, is given it again."""
        server = await self._servers.get()
        try:
            return await server.call(keys[0], "EVALSHA", script.sha, len(keys), *keys, *given)
        except NoScriptError:
            return await server.call(keys[0], "EVAL", script.text, len(keys), *keys, *given)

    async def read(self, key: bytes, *command: Any) -> Any:
        """What a command answers, which concerns a key and only reads. No replica answers it; scripts see to it
        themselves."""
        return await (await self._servers.get()).read(key, *command)

    async def call(self, key: bytes, *command: Any) -> Any:
        """What a command answers, which concerns a key."""
        return await (await self._servers.get()).call(key, *command)

    async def each_key(self, asked: Sequence[tuple[bytes, Sequence[Any]]]) -> list[Any]:
        """What commands answer that concern any keys, in their order."""
        return await (await self._servers.get()).each_key(asked)


async def repeated(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer to what may be asked again where the connection was lost, as after a restart: whatever only reads."""
    pauses = AT_ONCE.begin()
    is_garbled = False
    while True:
        try:
            return await ask()
        except LostError as error:
            if is_garbled and isinstance(error.__cause__, GARBLED):
                raise StoreError(f"{error}, and so it is on a fresh connection") from error
            is_garbled = isinstance(error.__cause__, GARBLED)
            if isinstance(error.__cause__, TimeoutError) or not await pauses.wait():
                raise StoreUnavailable(str(error)) from error
