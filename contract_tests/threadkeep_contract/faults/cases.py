"""Calls to interrupt, and what may be seen afterwards.

Each call is made in a clean room of its own, in which two threads and a document are. A commit follows it. The model
says what that commit answers and what is seen then, for a call that was not done, for one that was done, and for one
that was done after that commit, as a request may be that was on its way to a server when its caller went away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from threadkeep.errors import ThreadkeepError
from threadkeep.port import After, Changes, Put, Resource, Tail, Thread, Window
from threadkeep_contract.faults.cancelling import Moment, cancel_at
from threadkeep_contract.faults.driving import Ending
from threadkeep_contract.harness import ALL, Harness, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.reference.beside import Given, Look, by_model, by_store, differing, imagined, look
from threadkeep_contract.reference.machine import START, Outcome, outcome
from threadkeep_contract.reference.model import Model

IDS: Final = ("t", "neighbour", "new")
SLOTS: Final = ("info", "work")
MANY: Final = 60
"""Messages in a large commit: more than a backend writes at once."""


@dataclass(frozen=True, slots=True)
class Case:
    """A call to interrupt: what is there before it, and the commit that follows it."""

    room: str
    before: tuple[Given, ...]
    call: Given
    after: Given

    @property
    def resource(self) -> Resource:
        """What it is all about."""
        return Resource(self.room + "r")

    def imagine(self, *calls: Given) -> tuple[list[Outcome], Look]:
        """What the model answers to these calls after what was before, and what is seen then."""
        model = Model()
        for call in self.before:
            by_model(model, call)
        outcomes = [by_model(model, call) for call in calls]
        return outcomes, imagined(model, self.room, self.resource, IDS, SLOTS)


Make = Callable[[Thread, str], Given]
"""Makes a call on a thread that is there and whose epoch is given."""


def _commit(scope: Thread, **fields: Any) -> Given:
    return Given("commit", (scope, Changes(START + 1, f"{scope.resource_id} later", **fields)))


def _new(scope: Thread, epoch: str) -> Given:
    fresh = Thread(scope.resource_id, "new")
    return _commit(
        fresh, append=(record("a"), record("b")), puts=(Put("work", "1"),), resource_puts=(Put("info", "2"),)
    )


def _append(scope: Thread, epoch: str) -> Given:
    append = (record("a"), record("b"))
    return _commit(scope, append=append, puts=(Put("info", "1"), Put("work", "1")), resource_puts=(Put("work", "1"),))


def _conditional(scope: Thread, epoch: str) -> Given:
    puts, resource_puts = (Put("work", "1", 0),), (Put("work", "1", 1),)
    fields: dict[str, Any] = {"if_tail": Tail(epoch, 3), "if_epoch": epoch}
    return _commit(scope, append=(record("a"),), puts=puts, resource_puts=resource_puts, **fields)


def _of_resource(scope: Thread, epoch: str) -> Given:
    puts = (Put("work", "1"), Put("info", "1"))
    return Given("commit", (Resource(scope.resource_id), Changes(START + 1, puts=puts)))


COMMITS: Final[Mapping[str, Make]] = {
    "a commit to a new thread": _new,
    "an append with documents": _append,
    "a conditional append": _conditional,
    "a truncation": lambda scope, epoch: _commit(scope, drop_after=1, append=(record("a"), record("b"))),
    "a large append": lambda scope, epoch: _commit(scope, append=tuple(record(f"a{n}") for n in range(MANY))),
    "a commit of nothing": lambda scope, epoch: _commit(scope),
    "a commit to a resource": _of_resource,
}

DELETIONS: Final[Mapping[str, Make]] = {
    "the deletion of a thread": lambda scope, epoch: Given("delete", (scope,)),
    "the deletion of a resource": lambda scope, epoch: Given("delete", (Resource(scope.resource_id),)),
    "the deletion of what is not there": lambda scope, epoch: Given("delete", (Thread(scope.resource_id, "new"),)),
}

READINGS: Final[Mapping[str, Make]] = {
    "a load": lambda scope, epoch: Given("load", (scope, ALL)),
    "a load around a message": lambda scope, epoch: Given("load", (scope, Window("m1", 1, 1))),
    "a load of a resource": lambda scope, epoch: Given("load", (Resource(scope.resource_id), Window())),
    "a list of threads": lambda scope, epoch: Given("threads", (Resource(scope.resource_id), None, 9, "active", SLOTS)),
    "a list of resources": lambda scope, epoch: Given("resources", (scope.resource_id[:-1], 1)),
}

CASES: Final[Mapping[str, Make]] = {**COMMITS, **DELETIONS, **READINGS}


def case(harness: Harness, make: Make) -> Case:
    """A case in a clean room of its own."""
    room = harness.fresh()
    scope, epoch = Thread(room + "r", "t"), harness.epoch()
    three = tuple(record(f"m{number}") for number in range(3))
    before = (
        Given("commit", (scope, Changes(START, epoch, three, (Put("info", "0"),), (Put("work", "0"),)))),
        Given("commit", (Thread(scope.resource_id, "neighbour"), Changes(START, harness.epoch(), three))),
    )
    call = make(scope, epoch)
    changed = call.args[0] if call.verb == "commit" and isinstance(call.args[0], Thread) else scope
    next_one = Changes(START + 2, harness.epoch(), (record("next"),), (Put("info", "3"),), (Put("work", "3"),))
    return Case(room, before, call, Given("commit", (changed, next_one)))


async def prepare(handle: Recorded, one: Case) -> None:
    """Make what is there before the call."""
    for call in one.before:
        await by_store(handle, call)


async def cancel(harness: Harness, handle: Recorded, one: Case, moment: Moment) -> Ending:
    """Make the call and cancel it; LawBroken where it ends otherwise than cancelled, refused or answered."""
    ending = await cancel_at(lambda: getattr(handle, one.call.verb)(*one.call.args), moment)
    own = ending.error is None or isinstance(ending.error, ThreadkeepError)
    harness.require("a cancelled call is cancelled, or ends", own, "CancelledError, or an answer", ending.error)
    if not ending.cancelled and ending.error is None:
        (expected,), _ = one.imagine(one.call)
        harness.expect("a call that ends before it is cancelled is answered", expected, outcome(ending.result, None))
    return ending


async def see(harness: Harness, handle: Recorded, promise: str, one: Case, looks: Sequence[Look]) -> Look:
    """What is seen, which has to be one of these."""
    # What is still on its way may come between two views of the first look, and not between those of another.
    for _ in range(2):
        found = await look(handle, one.room, one.resource, IDS, SLOTS)
        if found in looks:
            return found
    raise harness.broken(promise, *differing(looks, found))


async def look_afterwards(
    harness: Harness, handle: Recorded, watcher: Recorded, what: str, one: Case, ending: Ending
) -> None:
    """Look, make the commit that follows, and look again; LawBroken where anything does not fit a call that was done,
    or one that was not. Once it was seen done, it stays so.
    """
    promise = f"{what} that was cancelled is done or not done, and the next commit goes on from there"
    (_, answer), then = one.imagine(one.call, one.after)
    done = (answer, [then])
    (answer,), then = one.imagine(one.after)
    not_done = (answer, [then, one.imagine(one.after, one.call)[1]])
    possible = [not_done, done]
    untouched, changed = one.imagine()[1], one.imagine(one.call)[1]
    if not ending.cancelled and ending.error is None:
        untouched, possible = changed, [done]
    if await see(harness, handle, promise, one, [untouched, changed]) != untouched:
        possible = [done]
    seen = await by_store(handle, one.after)
    looks = [each for answer, several in possible if answer == seen for each in several]
    if not looks:
        raise harness.broken(promise, [answer for answer, _ in possible], seen)
    for other in (handle, watcher):
        found = await see(harness, other, promise, one, looks)
        looks = looks if found == looks[0] else [found]


class Probes:
    """Calls that each have a different answer, so that whatever an interrupted call left behind shows."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._room = harness.fresh()
        self._resource = Resource(self._room + "r")
        self._model = Model()
        self._calls: list[Given] = []

    async def prepare(self, handle: Recorded) -> None:
        """Make what the calls ask for, one thread for each."""
        for number in range(self._harness.profile.calls):
            scope = Thread(self._resource.resource_id, f"t{number:03}")
            append = tuple(record(f"m{number}/{place}") for place in range(1 + number % 3))
            puts = (Put("info", f"{number}"),)
            commit = Given("commit", (scope, Changes(START + number, self._harness.epoch(), append, puts)))
            await by_store(handle, commit)
            by_model(self._model, commit)
            repeated = Given("commit", (scope, Changes(START, self._harness.epoch(), append[:1])))
            place = After(START + number - 1, "x")
            row = Given("threads", (self._resource, place, 1, "created", ("info",)))
            self._calls.append((Given("load", (scope, ALL)), row, Given("load", (scope, ALL)), repeated)[number % 4])
        self._expected = [by_model(self._model, call) for call in self._calls]

    async def ask(
        self,
        what: str,
        handle: Recorded,
        count: int | None = None,
        make: Callable[[Recorded, Given], Awaitable[Outcome]] = by_store,
    ) -> None:
        """Make the calls at once, all of them or the first so many; LawBroken where one has another's answer."""
        calls = self._calls[:count]
        answers = await asyncio.gather(*(make(handle, call) for call in calls))
        for call, expected, seen in zip(calls, self._expected, answers, strict=False):
            if expected != seen:
                promise = f"after {what}, each call gets its own answer ({call.verb})"
                raise self._harness.broken(promise, expected, seen)
