"""Connections that are cut under calls, at a place that is counted, never timed.

The store is opened once more through a TCP proxy, by the plugin's hook `proxied`. A cut is made in one turn of a call:
a request after which the client waits for its answer. Before the request has arrived, in the middle of it, when the
server has answered and nobody has been told, or in the middle of the answer. A handle that goes straight to the server
then sees what became of the call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from threadkeep.errors import OutcomeUnknown, StoreUnavailable, ThreadkeepError
from threadkeep.port import proxied
from threadkeep_contract.faults.cases import IDS, SLOTS, Case, Make, case, prepare
from threadkeep_contract.faults.proxy import Cut, Proxy
from threadkeep_contract.harness import Harness
from threadkeep_contract.history import Recorded, source
from threadkeep_contract.reference.beside import Given, Look, differing, look
from threadkeep_contract.reference.machine import Outcome, outcome

T = TypeVar("T")

LOST = (OutcomeUnknown, StoreUnavailable)
"""What a call may end with whose connection is lost."""


class Wire:
    """The way to a place through proxies, with a handle there and one that goes straight to the server."""

    def __init__(self, harness: Harness, url: str, proxies: list[Proxy]) -> None:
        self.harness = harness
        self.url = url
        self.handle = harness.handle(url)
        """The handle whose connections are cut."""
        self.watcher = harness.handle()
        self._proxies = proxies

    @property
    def turns(self) -> int:
        """Requests so far after which a client waited for an answer."""
        return sum(proxy.turns for proxy in self._proxies)

    @property
    def bytes(self) -> int:
        """Bytes so far, both ways."""
        return sum(proxy.bytes for proxy in self._proxies)

    def cut_all(self) -> None:
        """Cut every connection there is."""
        for proxy in self._proxies:
            proxy.drop_all()
        self.harness.seen.cut()

    def forget_all(self) -> None:
        """Cut every connection there is when it is next used."""
        for proxy in self._proxies:
            proxy.forget_all()
        self.harness.seen.cut()

    async def cutting(self, where: Cut, turn: int, call: Callable[[], Awaitable[T]]) -> tuple[bool, T]:
        """Whether a connection was cut in that turn of a call, counted from 0, and what the call gave."""
        cuts = [proxy.cut_next(where, turn) for proxy in self._proxies]
        try:
            result = await call()
        finally:
            for proxy in self._proxies:
                proxy.disarm()
            reached = any(cut.done() for cut in cuts)
            if reached:
                self.harness.seen.cut()
        return reached, result


@contextmanager
def through_proxy(harness: Harness) -> Iterator[Wire | None]:
    """The way to the store through a proxy, or None where there is none: the report then says why."""
    with ExitStack() as opened:
        proxies: list[Proxy] = []

        def proxy(host: str, port: int) -> tuple[str, int]:
            made = opened.enter_context(Proxy(host, port))
            proxies.append(made)
            return "127.0.0.1", made.port

        what = "a proxy before the server"
        try:
            url = proxied(harness.url, proxy)
        except NotImplementedError as error:
            harness.decline(what, str(error))
            yield None
            return
        if url is None:
            harness.decline(what, "the plugin has no proxied hook, so no connection was cut and nothing was metered")
            yield None
            return
        wire = Wire(harness, url, proxies)
        try:
            yield wire
        finally:
            # Closed while there is a way to the server.
            harness.run(wire.handle.close)


async def patiently(wire: Wire, call: Given) -> Outcome:
    """What a call on the handle gives in the end. It may be lost as often as a pool has connections, and some more."""
    tries = wire.harness.profile.calls
    for _ in range(tries):
        ended = await end_of(wire.handle, call)
        if not isinstance(ended.error, LOST):
            return ended.outcome
    raise wire.harness.broken(
        "a handle whose connections were cut works again", f"an answer in one of {tries} tries", source(ended.error)
    )


@dataclass(frozen=True, slots=True)
class End:
    """How a call ended."""

    outcome: Outcome
    error: ThreadkeepError | None = None


async def end_of(handle: Recorded, call: Given) -> End:
    """Make a call; whatever of the library's errors it raises is part of its end."""
    try:
        return End(outcome(await getattr(handle, call.verb)(*call.args), None))
    except ThreadkeepError as error:
        return End(outcome(None, error), error)


@dataclass(slots=True)
class Attempt:
    """One call of a case, whose connection was cut."""

    wire: Wire
    what: str
    """The call and the cut, in words."""
    one: Case
    end: End
    times: set[int] = field(default_factory=set)
    """How often the call may have been done, as far as its caller can know."""

    def looks(self, times: set[int]) -> list[Look]:
        """What is seen after the call was done so many times."""
        return [self.one.imagine(*[self.one.call] * count)[1] for count in sorted(times)]

    async def see(self, promise: str, times: set[int]) -> set[int]:
        """How often the call was done, which has to be one of these; LawBroken where what is seen is none of them."""
        looks = self.looks(times)
        # What is still on its way may come between two views of the first look, and not between those of another.
        for _ in range(2):
            found = await look(self.wire.watcher, self.one.room, self.one.resource, IDS, SLOTS)
            if found in looks:
                return {count for count in times if self.looks({count}) == [found]}
        raise self.wire.harness.broken(promise, *differing(looks, found))

    async def repeat(self, promise: str) -> None:
        """Make the call again until it is answered; LawBroken where the answer fits nothing that may have been done."""
        harness = self.wire.harness
        for _ in range(harness.profile.calls):
            end = await end_of(self.wire.handle, self.one.call)
            if isinstance(end.error, StoreUnavailable):
                continue
            if isinstance(end.error, OutcomeUnknown):
                self.times |= {count + 1 for count in self.times}
                continue
            answers = {count: self.one.imagine(*[self.one.call] * (count + 1))[0][-1] for count in self.times}
            fitting = {count + 1 for count, answer in answers.items() if answer == end.outcome}
            if not fitting:
                raise harness.broken(promise, list(answers.values()), end.outcome)
            self.times = fitting
            return
        raise harness.broken(promise, f"an answer in one of {harness.profile.calls} tries", source(end.error))


def at_each_cut(wire: Wire, calls: Mapping[str, Make], judge: Callable[[Attempt], Awaitable[None]]) -> None:
    """Cut the connection of each call at each place of each of its turns, or of a share of them, and judge what became
    of it. Each call is made in a clean room of its own.
    """
    harness = wire.harness

    async def attempt(what: str, where: Cut, turn: int) -> bool:
        harness.history.clear()
        one = case(harness, calls[what])
        await prepare(wire.watcher, one)
        # The call itself is to be cut, and not the making of a connection or of a statement. The commit is a repeat.
        for warming in (Given("load", (one.resource,)), one.before[1]):
            await patiently(wire, warming)
        reached, end = await wire.cutting(where, turn, lambda: end_of(wire.handle, one.call))
        await judge(Attempt(wire, f"{what} whose connection was cut {where}", one, end, _times(end)))
        return reached

    entries = [(what, where) for what in calls for where in Cut]
    for what, where in harness.some(entries):
        for turn in range(harness.profile.moments):
            if not harness.run(attempt, what, where, turn):
                break


def _times(end: End) -> set[int]:
    """How often a call was done that ended so."""
    if isinstance(end.error, OutcomeUnknown):
        return {0, 1}
    return {0} if end.error is not None else {1}
