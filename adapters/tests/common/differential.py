"""Several stores under one random script: every call goes to all of them, and all have to answer alike.

    differ = Differential({"sqlite": "sqlite:///a.db", "redis": "redis://..."})
    differ.explore(20, seconds=60)      # LawBroken at the first answer that is another's, shrunk
    differ.close()

The model of the contract answers too, behind a guard with the limits that all stores declare, so that where two stores
differ it is seen which of them is wrong. A call that is over these limits is played only if all declare the same:
what some stores may take more of is no difference. Round trips and clauses that are not offered are not looked at.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, NamedTuple

from hypothesis import strategies as st

from threadkeep.errors import LimitExceeded, ThreadkeepError
from threadkeep.port import (
    After,
    Changes,
    Limits,
    Order,
    Put,
    Receipt,
    Resource,
    Scope,
    Snapshot,
    Store,
    ThreadRow,
    Window,
    open_store,
)
from threadkeep_contract.harness import Harness, record
from threadkeep_contract.history import History, Recorded, source
from threadkeep_contract.inputs.operations import EVERYTHING, List, Load, Operation, Program, programs
from threadkeep_contract.profiles import PROFILES
from threadkeep_contract.reference.machine import START, Outcome, Player, Step, compare_resources, outcome
from threadkeep_contract.reference.model import Model

HANDLES: Final = 2
"""Handles of each store, as operations number them."""

STEPS: Final = 25
"""Operations of a script, at most."""

ROUND: Final = 40
"""Scripts that Hypothesis draws at a time: it goes by their number, and not by the clock."""

SIZES: Final = ("id_bytes", "commit_messages", "working_memory_bytes")
"""Limits that scripts go up to, and past."""


@dataclass(frozen=True, slots=True)
class Sized(Operation):
    """A commit to the spot's thread with something as large as the limits that all stores declare, or larger."""

    limit: str
    over: int

    def step(self, player: Player, limits: Limits) -> Step:
        """The commit, with ids and contents of its own."""
        size = getattr(limits, self.limit) + self.over
        changes = Changes(at=START, epoch=f"{player.prefix}sized")
        match self.limit:
            case "id_bytes":
                changes = replace(changes, append=(record("x" * size),))
            case "commit_messages":
                changes = replace(changes, append=tuple(record(f"sized {number}") for number in range(size)))
            case "working_memory_bytes":
                changes = replace(changes, puts=(Put("working_memory", f'"{"x" * (size - 2)}"'),))
        return Step("commit", (player.threads[self.spot], changes))


class Script(NamedTuple):
    """A program, and commits of certain sizes with the places in the program before which they come."""

    program: Program
    sized: tuple[tuple[int, Sized], ...]

    def operations(self) -> list[tuple[int, Operation]]:
        """All operations in order, each with a number of its own."""
        found = list(self.program.operations)
        for place, operation in sorted(self.sized, key=lambda pair: pair[0], reverse=True):
            found.insert(place, operation)
        return list(enumerate(found))


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """Programs of all kinds of operations, now and then with commits at the limits or just over them."""
    program = draw(programs(EVERYTHING, STEPS))
    places = st.integers(0, len(program.operations))
    spots = st.integers(0, len(program.pool) - 1)
    sized = st.builds(Sized, spots, st.just(0), st.sampled_from(SIZES), st.integers(0, 1))
    return Script(program, tuple(draw(st.lists(st.tuples(places, sized), max_size=2))))


class _Reference(Store):
    """The contract's model as a store, so that it gets the same guard as the others."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.limits = limits
        self.model = Model()

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        return self.model.load(scope, window)

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        return self.model.commit(scope, changes)

    async def delete(self, scope: Scope) -> None:
        self.model.delete(scope)

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        return self.model.threads(resource, after, limit, order, slots)

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        return self.model.resources(after, limit)


class _Answer(NamedTuple):
    result: object
    error: ThreadkeepError | None
    outcome: Outcome


async def _ask(handle: Recorded, step: Step) -> _Answer:
    try:
        result = await getattr(handle, step.verb)(*step.args)
    except ThreadkeepError as error:
        return _Answer(None, error, outcome(None, error))
    return _Answer(result, None, outcome(result, None))


class Differential:
    """The stores of some URLs, by name, all open."""

    def __init__(self, urls: Mapping[str, str], seed: int = 0, shrink_seconds: float = 20) -> None:
        profile = replace(PROFILES["default"], name="differential", examples=ROUND, shrink_seconds=shrink_seconds)
        self._harness = Harness("memory://model", profile, seed, check="differential", database=True)
        self._handles: dict[str, list[Recorded]] = {}
        for name, url in urls.items():
            history = History(url)
            stores = [open_store(url).store for _ in range(HANDLES)]
            self._handles[name] = [Recorded(store, history, f"handle{n}") for n, store in enumerate(stores, 1)]
        declared = [handles[0].limits for handles in self._handles.values()]
        least = {limit.name: min(getattr(each, limit.name) for each in declared) for limit in fields(Limits)}
        self._limits = Limits(**least)
        self._unlike = {name for name in least if len({getattr(each, name) for each in declared}) > 1}
        self.scripts = 0
        """Scripts played."""
        self.calls = 0
        """Calls that every store has answered."""

    def explore(self, scripts_at_least: int, seconds: float = 0) -> None:
        """Play at least so many random scripts, and more until so much time is over.

        Raises LawBroken with the smallest failing script found.
        """
        end = time.monotonic() + seconds

        def goes_on() -> bool:
            return self.scripts < scripts_at_least or time.monotonic() < end

        async def check(script: Script) -> None:
            if goes_on():
                await self.play(script)

        while goes_on():
            self._harness.explore(scripts(), check)
            self._harness.seed += 1

    async def play(self, script: Script) -> None:
        """Play a script on all stores in a clean room, then read all that it could have touched."""
        for handles in self._handles.values():
            handles[0].history.clear()
        reference = _Reference(self._limits)
        # The harness takes the script with the fewest calls in its own history for the smallest.
        model = Recorded(reference, self._harness.history, "model")
        player = Player(script.program.pool, self._harness.fresh())
        numbered = script.operations()
        for number, operation in numbered:
            await self._step(model, player, number, operation)
        for spot in range(len(player.pool)):
            readings = (
                Load(spot, 1, before=1000),
                Load(spot, 0, before=2),
                Load(spot, 1, back=1, before=1, after=1),
                List(spot, 0),
                List(spot, 1, order="active"),
            )
            for reading in readings:
                await self._step(model, player, len(numbered), reading)
        for handles in self._handles.values():
            await compare_resources(self._harness, handles[0], player, reference.model)
        self.scripts += 1

    async def _step(self, model: Recorded, player: Player, number: int, operation: Operation) -> None:
        step = operation.step(player, self._limits) if isinstance(operation, Sized) else player.step(number, operation)
        expected = await _ask(model, step)
        if isinstance(expected.error, LimitExceeded) and expected.error.limit in self._unlike:
            return
        handles = {name: every[operation.handle % HANDLES] for name, every in self._handles.items()}
        answers = {name: await _ask(handle, step) for name, handle in handles.items()}
        wrong = [name for name, answer in answers.items() if answer.outcome != expected.outcome]
        if wrong:
            agree = [name for name in answers if name not in wrong]
            raise self._broken(step, wrong[0], answers[wrong[0]], expected, agree)
        self.calls += 1
        if not isinstance(operation, Sized):
            player.observe(operation, step, expected.result, expected.error)

    def _broken(self, step: Step, name: str, answer: _Answer, expected: _Answer, agree: Sequence[str]) -> Exception:
        promise = f"{step.verb} is answered by {name} as by {', '.join(['the model', *agree])}"
        history = self._handles[name][0].history
        should = source(expected.result if expected.error is None else expected.error)
        seen = source(answer.result if answer.error is None else answer.error)
        broken = self._harness.broken(promise, should, seen)
        broken.history = history.source(f"{promise}\nexpected: {should}\nseen:     {seen}")
        return broken

    def close(self) -> None:
        """Close every store. Safe to repeat."""
        handles = [handle for every in self._handles.values() for handle in every]
        self._handles = {}
        try:
            for handle in handles:
                self._harness.run(handle.close)
        finally:
            self._harness.close()
