"""What a check did to a store, recorded call by call, and printed as Python that runs.

`Recorded` stands where a guard stands and notes every verb with its answer. `History.source` prints the notes as a
script: imports, `open_store(url)` for each handle, the calls in order, and what each one gave. Calls that overlapped
are printed as one `asyncio.gather`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from threadkeep.port import After, Changes, Guard, Order, Receipt, Resource, Scope, Snapshot, Store, ThreadRow, Window
from threadkeep_contract.evidence import Seen
from threadkeep_contract.scheduling import TASK
from threadkeep_contract.source import comments, laid_out
from threadkeep_contract.source import source as source

T = TypeVar("T")

MAX_CALLS: Final = 200
"""Calls that a printed history shows; of longer ones the newest."""


@dataclass(slots=True)
class Call:
    """One call of a verb: which handle, what was given, when it began and ended (ticks), what it gave."""

    handle: str
    verb: str
    args: tuple[object, ...]
    began: int
    ended: int | None = None
    result: object = None
    error: BaseException | None = None
    task: int = 0
    """The scheduled task that made it, from 1; 0 where none did."""


class Turn(NamedTuple):
    """A scheduled task went on, at a moment (a tick)."""

    at: int
    task: int


class History:
    """The calls of one example, in the order in which they began, over all of its handles."""

    def __init__(self, url: str, seen: Seen | None = None) -> None:
        """What `seen` counts is not forgotten when the calls are."""
        self.url = url
        self.calls: list[Call] = []
        self.seen = seen or Seen()
        self.turns: list[Turn] = []
        """Who went on, where tasks were scheduled."""
        self._tick = 0

    def clear(self) -> None:
        """Forget the calls: a new example begins."""
        self.calls = []
        self.turns = []

    def going(self, task: int) -> None:
        """A scheduled task goes on."""
        self.turns.append(Turn(self.tick(), task))

    @property
    def pending(self) -> list[Call]:
        """Calls that have not ended."""
        return [call for call in self.calls if call.ended is None]

    def tick(self) -> int:
        """The next moment."""
        self._tick += 1
        return self._tick

    async def note(self, handle: str, verb: str, args: tuple[object, ...], work: Callable[[], Awaitable[T]]) -> T:
        """Await `work`, and keep what was given and what came of it."""
        call = Call(handle, verb, args, self.tick(), task=TASK.get())
        self.calls.append(call)
        try:
            result = await work()
        except BaseException as error:
            call.error = error
            raise
        else:
            call.result = result
            return result
        finally:
            call.ended = self.tick()

    def source(self, broken: str = "") -> str:
        """The history as a Python script, with `broken`, what was expected and seen, as comments at its end."""
        shown = self.calls[-MAX_CALLS:]
        names = sorted({call.handle for call in shown}, key=lambda name: (len(name), name))
        body = [f"{name} = open_store({source(self.url)})" for name in names]
        if len(shown) < len(self.calls):
            body.append(f"# {len(self.calls) - len(shown)} earlier calls are not shown")
        for group in overlapping(shown):
            body += _statement(group)
        body += comments(broken) if broken else []
        body += [f"await {name}.close()" for name in names]
        text = "\n".join(f"    {line}" for line in body)
        code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        used = sorted(set(re.findall(r"\b[A-Z][A-Za-z]+\b(?=\()", code)) & _IMPORTED)
        errors = sorted(set(re.findall(r"\bexcept ([A-Z][A-Za-z]+)", text)))
        lines = ["import asyncio", ""]
        if errors:
            lines.append(f"from threadkeep.errors import {', '.join(errors)}")
        lines.append(f"from threadkeep.port import {', '.join([*used, 'open_store'])}")
        return "\n".join([*lines, "", "", "async def main():", text or "    pass", "", "", "asyncio.run(main())", ""])


_IMPORTED: Final = frozenset({"After", "Changes", "Put", "Record", "Resource", "Tail", "Thread", "Window"})


class PanicError(Exception):
    """A verb raised what `except Exception` does not catch, as drivers in Rust do; the cause is that. No check and no
    pytest is to end by it."""


_CONTROL: Final = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)
"""What ends a call from outside."""


class Counted(Guard):
    """A guard that counts what its verbs came to: the evidence that a check has seen something."""

    def __init__(self, store: Store, seen: Seen) -> None:
        super().__init__(store)
        self.seen = seen

    async def load(self, scope: Scope, window: Window = Window()) -> Snapshot:  # noqa: B008 - an immutable value
        return await self._counted("load", super().load(scope, window))

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        return await self._counted("commit", super().commit(scope, changes))

    async def delete(self, scope: Scope) -> None:
        return await self._counted("delete", super().delete(scope))

    async def threads(
        self,
        resource: Resource,
        after: After | None = None,
        limit: int = 100,
        order: Order = "created",
        slots: Sequence[str] = (),
    ) -> Sequence[ThreadRow]:
        return await self._counted("threads", super().threads(resource, after, limit, order, slots))

    async def resources(self, after: str | None = None, limit: int = 100) -> Sequence[str]:
        return await self._counted("resources", super().resources(after, limit))

    async def _counted(self, verb: str, work: Awaitable[T]) -> T:
        with self.seen.call(verb):
            try:
                return await work
            except (Exception, *_CONTROL):
                raise
            except BaseException as error:
                raise PanicError(f"{verb} raised {source(error)}, which is no Exception") from error


class Recorded(Counted):
    """A guard whose verbs are noted in a history under a name. `Counted.load(handle, ...)` looks without a note."""

    def __init__(self, store: Store, history: History, name: str) -> None:
        super().__init__(store, history.seen)
        self.history = history
        self.name = name

    async def load(self, scope: Scope, window: Window = Window()) -> Snapshot:  # noqa: B008 - an immutable value
        return await self.history.note(self.name, "load", (scope, window), lambda: Counted.load(self, scope, window))

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        return await self.history.note(
            self.name, "commit", (scope, changes), lambda: Counted.commit(self, scope, changes)
        )

    async def delete(self, scope: Scope) -> None:
        return await self.history.note(self.name, "delete", (scope,), lambda: Counted.delete(self, scope))

    async def threads(
        self,
        resource: Resource,
        after: After | None = None,
        limit: int = 100,
        order: Order = "created",
        slots: Sequence[str] = (),
    ) -> Sequence[ThreadRow]:
        return await self.history.note(
            self.name,
            "threads",
            (resource, after, limit, order, tuple(slots)),
            lambda: Counted.threads(self, resource, after, limit, order, slots),
        )

    async def resources(self, after: str | None = None, limit: int = 100) -> Sequence[str]:
        return await self.history.note(
            self.name, "resources", (after, limit), lambda: Counted.resources(self, after, limit)
        )


def overlapping(calls: Sequence[Call]) -> list[list[Call]]:
    """The calls in groups that overlapped in time."""
    groups: list[list[Call]] = []
    end: float = -1
    for call in calls:
        if groups and call.began < end:
            groups[-1].append(call)
        else:
            groups.append([call])
            end = -1
        end = max(end, float("inf") if call.ended is None else call.ended)
    return groups


def told(calls: Sequence[Call], turns: Sequence[Turn]) -> str:
    """What scheduled tasks did, in order and with a line for each switch from one to another, for a reader."""
    lines: list[tuple[int, str]] = []
    for call in calls:
        given, got = _expression(call), source(call.result if call.error is None else call.error)
        ended = call.began if call.ended is None else call.ended
        if call.task:
            lines.append((call.began, f"task {call.task} begins  {given}"))
            lines.append((ended, f"task {call.task} is told {got}"))
        else:
            when = "afterwards" if turns and call.began > turns[-1].at else "before"
            lines.append((call.began, f"{when}, {given} -> {got}"))
    last = 0
    for turn in turns:
        if last not in (0, turn.task):
            lines.append((turn.at, f"-- task {turn.task} goes on"))
        last = turn.task
    return "\n    ".join(line for _, line in sorted(lines))


def _expression(call: Call) -> str:
    return f"{call.handle}.{call.verb}({', '.join(source(arg) for arg in call.args)})"


def _outcome(call: Call) -> list[str]:
    if call.ended is None:
        return ["# never ended"]
    return comments(source(call.result if call.error is None else call.error))


def _statement(group: Sequence[Call]) -> list[str]:
    if len(group) > 1:
        lines = ["await asyncio.gather("]
        for call in group:
            *code, last = laid_out(_expression(call))
            lines += [f"    {line}" for line in [*code, f"{last},", *_outcome(call)]]
        return [*lines, "    return_exceptions=True,", ")"]
    (call,) = group
    code = laid_out(f"await {_expression(call)}")
    if call.error is not None and type(call.error).__module__ == "threadkeep.errors":
        caught = f"except {type(call.error).__name__}:"
        return ["try:", *[f"    {line}" for line in code], caught, "    pass", *_outcome(call)]
    return [*code, *_outcome(call)]
