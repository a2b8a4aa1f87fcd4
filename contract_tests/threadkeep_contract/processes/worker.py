"""A process of its own that works on a store as it is told: `python -m threadkeep_contract.processes.worker`.

It reads JSON lines: first its place, with the store's URL (which may hold a password, and so is no argument), then
orders. It writes one JSON line for every outcome, flushed before the next step begins, so that what was acknowledged is
known to the parent even if the worker is killed at once.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any, Final, Literal, TypeAlias

from pydantic import TypeAdapter

from threadkeep import errors
from threadkeep.errors import StoreUnavailable, TailMoved, ThreadkeepError, VersionMoved
from threadkeep.port import (
    After,
    Changes,
    Guard,
    Put,
    Receipt,
    Record,
    Resource,
    Snapshot,
    Thread,
    ThreadRow,
    Window,
    load_plugin,
    open_store,
    register,
    scheme_of,
)
from threadkeep.port import Order as ListOrder
from threadkeep_contract.processes.dying import Moments
from threadkeep_contract.processes.forking import fork_off

READY: Final = "ready"
UNREADY: Final = "unready: "
"""With the reason after it, what a process says that cannot import the module of its place."""
DONE: Final = "done"

_REPEAT_SECONDS: Final = 10.0
"""Seconds for which a verb that was answered with StoreUnavailable is repeated."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to work."""

    url: str
    module: str = ""
    """A module that answers to the URL's scheme because somebody registered it; else the entry point's does."""
    path: tuple[str, ...] = ()
    """Where the module may be found, besides where every process looks."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a verb, as data. A list of resources has a scope too, which is not looked at."""

    verb: Literal["commit", "load", "delete", "threads", "resources"]
    scope: Thread | Resource
    changes: Changes | None = None
    window: Window = Window()  # noqa: RUF009 - an immutable value
    after: After | str | None = None
    limit: int = 100
    order: ListOrder = "created"
    slots: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that a verb raised: its class in `threadkeep.errors` and its arguments."""

    name: str
    args: tuple[Any, ...]

    @classmethod
    def of(cls, error: ThreadkeepError) -> Failure:
        """As data; an error class of a store's own goes by the name of the library's class that it extends."""
        ours = next(kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
        return cls(ours.__name__, error.args)

    def error(self) -> ThreadkeepError:
        """The error, made again."""
        made: ThreadkeepError = getattr(errors, self.name)(*self.args)
        return made


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step came to, and when it began and ended (nanoseconds of the machine's monotonic clock)."""

    began: int
    ended: int
    receipt: Receipt | None = None
    snapshot: Snapshot | None = None
    rows: list[ThreadRow] | None = None
    names: list[str] | None = None
    failure: Failure | None = None
    moments: int = 0
    """How many moments a call had in which its process could have died; see `Die`."""

    @property
    def answer(self) -> Receipt | Snapshot | list[ThreadRow] | list[str] | None:
        """What the verb returned, if it returned."""
        return next((each for each in (self.receipt, self.snapshot, self.rows, self.names) if each is not None), None)

    @property
    def unavailable(self) -> bool:
        """Whether the store could not do it for now, and has written nothing."""
        return self.failure is not None and self.failure.name == StoreUnavailable.__name__


@dataclass(frozen=True, slots=True)
class Run:
    """Do the steps, one after the other; answers one outcome each, up to the first that finds no store to do it.

    `start` is a time of the monotonic clock to wait for, in nanoseconds.
    """

    steps: tuple[Step, ...]
    start: int = 0
    kind: Literal["run"] = "run"


@dataclass(frozen=True, slots=True)
class Chain:
    """Append the records, each on the tail just loaded (`if_tail`), again where it moved; answers one outcome each.

    Each is given up after `tries`: a sound store refuses one only where another writer's was taken.
    """

    scope: Thread
    records: tuple[Record, ...]
    tries: int
    start: int = 0
    kind: Literal["chain"] = "chain"


@dataclass(frozen=True, slots=True)
class Patch:
    """Add `times` keys to the JSON object in a document, each by load and put with `if_version`, again where it moved.

    The keys are called NAME-0, NAME-1 and so on. Each is given up after `tries`, as in `Chain`.
    """

    scope: Thread | Resource
    slot: str
    name: str
    times: int
    tries: int
    start: int = 0
    kind: Literal["patch"] = "patch"


@dataclass(frozen=True, slots=True)
class Open:
    """Open the store on new handles, `times` at once, do the step on each, and close them; answers one outcome each."""

    step: Step
    times: int
    start: int = 0
    kind: Literal["open"] = "open"


@dataclass(frozen=True, slots=True)
class Die:
    """Do the steps as `Run` does, on a handle that is not open yet, then the last, and die in it, at the moment `at`.

    Where the last has fewer moments, and where `at` is 0, the process lives, and the outcome says how many there were.
    """

    steps: tuple[Step, ...]
    last: Step
    at: int = 0
    start: int = 0
    kind: Literal["die"] = "die"


@dataclass(frozen=True, slots=True)
class Fork:
    """Fork off a process for each of `children`, and do the steps beside them; answers one outcome each, those of the
    children last.

    Each child does its first step on the handle that it has inherited, and the others on one that it opens.
    """

    steps: tuple[Step, ...]
    children: tuple[tuple[Step, ...], ...]
    start: int = 0
    kind: Literal["fork"] = "fork"


Order: TypeAlias = Run | Chain | Patch | Open | Die | Fork

PLACE: TypeAdapter[Place] = TypeAdapter(Place)
ORDER: TypeAdapter[Order] = TypeAdapter(Order)
OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Outcome)


def now() -> int:
    """Microseconds since 1970, as commits carry them."""
    return time.time_ns() // 1000


def _listed(snapshot: Snapshot) -> Snapshot:
    """The snapshot with lists and dicts for whatever sequences and mappings the store gave."""
    docs, resource_docs = dict(snapshot.docs), dict(snapshot.resource_docs)
    return replace(snapshot, records=[*snapshot.records], docs=docs, resource_docs=resource_docs)


def _counted(receipt: Receipt) -> Receipt:
    """The receipt with lists for whatever sequences the store gave."""
    versions, resource_versions = [*receipt.versions], [*receipt.resource_versions]
    return replace(receipt, positions=[*receipt.positions], versions=versions, resource_versions=resource_versions)


async def perform(guard: Guard, step: Step) -> Outcome:
    """Do a step and say what it came to. An error that is not the library's own passes through."""
    began = time.monotonic_ns()
    try:
        if step.verb == "load":
            snapshot = await guard.load(step.scope, step.window)
            return Outcome(began, time.monotonic_ns(), snapshot=_listed(snapshot))
        if step.verb == "delete":
            await guard.delete(step.scope)
            return Outcome(began, time.monotonic_ns())
        if step.verb == "threads" and isinstance(step.scope, Resource) and not isinstance(step.after, str):
            rows = await guard.threads(step.scope, step.after, step.limit, step.order, step.slots)
            return Outcome(began, time.monotonic_ns(), rows=[row._replace(docs=dict(row.docs)) for row in rows])
        if step.verb == "resources" and not isinstance(step.after, After):
            names = await guard.resources(step.after, step.limit)
            return Outcome(began, time.monotonic_ns(), names=[*names])
        if step.changes is None:
            raise ValueError("a commit needs changes")
        receipt = await guard.commit(step.scope, step.changes)
        return Outcome(began, time.monotonic_ns(), receipt=_counted(receipt))
    except ThreadkeepError as error:
        return Outcome(began, time.monotonic_ns(), failure=Failure.of(error))


async def patiently(guard: Guard, step: Step) -> Outcome:
    """As `perform`; StoreUnavailable, which says that nothing was written, is answered by trying again for a while."""
    last = time.monotonic() + _REPEAT_SECONDS
    first = None
    while True:
        outcome = await perform(guard, step)
        first = first or outcome.began
        if not outcome.unavailable or time.monotonic() > last:
            return replace(outcome, began=first)
        await asyncio.sleep(0.01)


async def _chain(guard: Guard, scope: Thread, record: Record, tries: int) -> Outcome:
    """Append one record on the tail just loaded, as often as it takes."""

    def change(seen: Snapshot) -> Changes:
        return Changes(now(), f"epoch-{record.id}", append=(record,), if_tail=seen.tail)

    return await _again(guard, scope, change, TailMoved.__name__, tries)


async def _patch(guard: Guard, scope: Thread | Resource, slot: str, key: str, tries: int) -> Outcome:
    """Add one key to the JSON object in a document, as often as it takes."""

    def change(seen: Snapshot) -> Changes:
        docs = seen.docs if isinstance(scope, Thread) else seen.resource_docs
        found = docs.get(slot)
        body = {**json.loads(found.body if found and found.body else "{}"), key: True}
        put = Put(slot, json.dumps(body), found.version if found else 0)
        return Changes(now(), f"epoch-{key}" if isinstance(scope, Thread) else "", puts=(put,))

    return await _again(guard, scope, change, VersionMoved.__name__, tries)


async def _again(
    guard: Guard, scope: Thread | Resource, change: Callable[[Snapshot], Changes], moved: str, tries: int
) -> Outcome:
    """Load, commit what `change` makes of it, and again where the commit is refused with the error named."""
    for _ in range(tries):
        outcome = await patiently(guard, Step("load", scope))
        if outcome.snapshot is None:
            break
        outcome = await patiently(guard, Step("commit", scope, change(outcome.snapshot)))
        if outcome.failure is None or outcome.failure.name != moved:
            break
    return outcome


async def _open_and_do(url: str, step: Step) -> Outcome:
    guard = open_store(url)
    try:
        return await patiently(guard, step)
    finally:
        await guard.close()


async def _inherited(guard: Guard, url: str, steps: Sequence[Step], say: Callable[[bytes], object]) -> None:
    """Do the first step on a handle that a parent process has opened, and the others on a new one."""
    first, *others = steps
    say(OUTCOME.dump_json(await perform(guard, first)))
    own = open_store(url)
    for step in others:
        say(OUTCOME.dump_json(await patiently(own, step)))
    await own.close()


async def obey(guard: Guard, url: str, order: Order) -> AsyncIterator[Outcome]:
    """Carry out an order on an open handle (`Open` opens its own, of `url`), outcome by outcome."""
    match order:
        case Run():
            for step in order.steps:
                outcome = await patiently(guard, step)
                yield outcome
                if outcome.unavailable:
                    break
        case Chain():
            for record in order.records:
                yield await _chain(guard, order.scope, record, order.tries)
        case Patch():
            for index in range(order.times):
                yield await _patch(guard, order.scope, order.slot, f"{order.name}-{index}", order.tries)
        case Open():
            for outcome in await asyncio.gather(*(_open_and_do(url, order.step) for _ in range(order.times))):
                yield outcome
        case Die():
            moments = Moments(order.at)
            moments.watch()
            for step in order.steps:
                yield await patiently(guard, step)
            outcome = await moments.of(lambda: patiently(guard, order.last))
            yield replace(outcome, moments=moments.count)
        case Fork():
            children = [fork_off(partial(_inherited, guard, url, steps)) for steps in order.children]
            try:
                for step in order.steps:
                    yield await patiently(guard, step)
            finally:
                told = [await asyncio.to_thread(child.told) for child in children]
            for line in b"".join(told).splitlines():
                yield OUTCOME.validate_json(line)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def load(scheme: str, module: str = "", path: Sequence[str] = ()) -> None:
    """Import the plugin that answers to a scheme: a module that was registered, or the entry point's.

    Raises as the import does, and as `threadkeep.port.register` and `load_plugin` do.
    """
    if module:
        sys.path += [folder for folder in path if folder not in sys.path]
        register(scheme, import_module(module))
    load_plugin(scheme)


async def work() -> None:
    """Take a place and then orders from the input until it ends."""
    place = PLACE.validate_json(sys.stdin.readline())
    try:
        load(scheme_of(place.url), place.module, place.path)
    except Exception as error:
        if not place.module:
            raise
        _say(UNREADY + " ".join(f"{type(error).__name__}: {error}".split()))
        return
    guard = open_store(place.url)
    try:
        _say(json.dumps(READY))
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = ORDER.validate_json(line)
            while time.monotonic_ns() < order.start:
                pass
            async for outcome in obey(guard, place.url, order):
                _say(OUTCOME.dump_json(outcome).decode())
            _say(json.dumps(DONE))
    finally:
        await guard.close()


if __name__ == "__main__":
    asyncio.run(work())
