"""The program of a fault: Python that runs as printed, and ends with status 1 and the promise while the fault is there.

Whatever is printed has been run before. The calls of the failing history are made again in a room of their own and
compared with the reference model, and made fewer as long as an answer still differs. Calls that overlapped are run as
a race, many times. Where neither shows the fault, as with a kill or a cost, the program runs the check itself.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from threadkeep.errors import InvalidContent, InvalidId, InvalidInput, LimitExceeded, StoreClosed, ThreadkeepError
from threadkeep.port import (
    After,
    Changes,
    Resource,
    Thread,
    Window,
    open_store,
)
from threadkeep_contract.harness import Harness
from threadkeep_contract.history import Call, History, Recorded, overlapping
from threadkeep_contract.inputs.operations import SLOTS
from threadkeep_contract.programs.printed import (
    ROUNDS,
    Case,
    handles_of,
    text_in_order,
    text_of_check,
    text_of_race,
    text_of_schedule,
)
from threadkeep_contract.replay import (
    Difference,
    answer,
    explained,
    first_difference,
    in_some_order,
    moved,
    renamed,
    room,
)
from threadkeep_contract.scheduling import in_turns
from threadkeep_contract.source import source

LEAST_SHOWN: Final = 10
"""In how many of these rounds a race must show the fault to be printed: less, and a later run might not show it."""

TRIAL: Final = 40
"""Rounds in which a smaller race must show the fault twice to be taken for it."""

Kind: TypeAlias = Literal["calls", "schedule", "race", "check"]


@dataclass(frozen=True, slots=True)
class Program:
    """A program that shows a fault. `calls` is how many it makes; 0 for one that runs the check itself."""

    kind: Kind
    calls: int
    text: str
    check: str
    """The program that runs the check itself."""

    @property
    def again(self) -> Program:
        """The program that runs the check itself: short, whatever the fault."""
        return Program("check", 0, self.check, self.check)

    @property
    def length(self) -> tuple[int, int, int]:
        """By which the shortest is found: calls in order, then schedules, then races, then whole checks."""
        return (get_args(Kind).index(self.kind), self.calls, self.text.count("\n"))


def program_of(case: Case, seconds: float) -> Program:
    """The shortest program of a fault that can be found in some seconds."""
    end = time.monotonic() + seconds
    found = None
    if case.calls and seconds > 0 and all(_can_be_repeated(call) for call in case.calls):
        calls = _simple_epochs([call for call in case.calls if not isinstance(call.error, _BY_CORE)], case.token)
        harness = Harness(case.url, case.profile, case.seed)
        try:
            found = _in_order(case, harness, calls, end)
            if found is None:
                # Many checks look afterwards in ways that no history notes.
                calls += _looks(calls)
                found = _in_order(case, harness, calls, end)
            if found is None and case.turns:
                found = _as_schedule(case, harness, calls, end)
            if found is None and any(len(group) > 1 for group in overlapping(calls)):
                found = _as_race(case, harness, calls, end)
        except Exception:  # noqa: BLE001 - whatever a faulty store does here, the check itself still shows the fault
            found = None
        finally:
            _close(harness)
    text = text_of_check(case)
    return found or Program("check", 0, text, text)


_BY_CORE: Final = (InvalidInput, InvalidId, InvalidContent, LimitExceeded, StoreClosed)
"""Errors that core raises before a store is asked; the model, which core does not guard, has none of them."""


def _can_be_repeated(call: Call) -> bool:
    return call.ended is not None and (call.error is None or isinstance(call.error, ThreadkeepError))


def _simple_epochs(calls: Sequence[Call], token: str) -> list[Call]:
    """The calls with epochs that are short: in a room of their own they need not be unique."""
    long = re.compile(rf"epoch{token}0*(\d+)")
    return [replace(call, args=renamed(call.args, lambda text: long.sub(r"epoch\1", text))) for call in calls]


def _looks(calls: Sequence[Call]) -> list[Call]:
    """Calls that look at all that the others can have touched, after them."""
    scopes = dict.fromkeys(call.args[0] for call in calls if call.verb != "resources")
    threads = [scope for scope in scopes if isinstance(scope, Thread)]
    resources = dict.fromkeys(Resource(scope.resource_id) for scope in scopes if isinstance(scope, Thread | Resource))
    looks: list[tuple[str, tuple[object, ...]]] = [("load", (thread, Window(before=1000))) for thread in threads]
    for resource in resources:
        looks += [("load", (resource, Window())), ("threads", (resource, None, 1000, "created", SLOTS))]
    start = max((call.ended or 0 for call in calls), default=0) + 1
    handle = calls[0].handle if calls else ""
    return [Call(handle, *look, start + 2 * number, start + 2 * number + 1) for number, look in enumerate(looks)]


def _short_names(calls: Sequence[Call], token: str) -> list[Call]:
    """The calls with the numbers that follow the token, and with times, counted anew from 1."""
    numbered = re.compile(rf"{token}\d{{6}}")
    rooms = list(dict.fromkeys(numbered.findall(source([call.args for call in calls]))))
    short = {name: token if len(rooms) == 1 else f"{token}{number}" for number, name in enumerate(rooms, 1)}
    times = {value.at for call in calls for value in call.args if isinstance(value, Changes | After)}
    rank = {at: number for number, at in enumerate(sorted(times), 1)}
    return [
        replace(
            call,
            args=tuple(
                _at(renamed(arg, lambda text: numbered.sub(lambda found: short[found[0]], text)), rank)
                for arg in call.args
            ),
        )
        for call in calls
    ]


def _at(value: object, rank: Mapping[int, int]) -> object:
    if isinstance(value, Changes):
        return replace(value, at=rank[value.at])
    return value._replace(at=rank[value.at]) if isinstance(value, After) else value


def _close(harness: Harness) -> None:
    try:
        harness.close()
    except Exception:  # noqa: BLE001 - how the store closes is judged by its law, and not here
        return


# One call after the other


def _in_order(case: Case, harness: Harness, calls: Sequence[Call], end: float) -> Program | None:
    def differs(tried: Sequence[Call]) -> Difference | None:
        return harness.run(_difference, case.url, tried, case.token, seconds=max(1.0, end - time.monotonic()))

    calls = sorted(calls, key=lambda call: call.began)
    found = differs(calls)
    if found is None:
        return None
    calls = calls[: found.number + 1]
    verb = calls[-1].verb

    def shows(tried: Sequence[Call]) -> bool:
        again = differs(tried)
        return again is not None and again.number == len(tried) - 1 and tried[-1].verb == verb

    calls = _fewer(calls, shows, end)
    short = _short_names(calls, case.token)
    if shows(short):
        calls = short
    calls = _plainer(calls, shows, end)
    found = differs(calls)
    if found is None or found.number != len(calls) - 1:
        return None
    return Program("calls", len(calls), text_in_order(case, calls, found), text_of_check(case))


async def _difference(url: str, calls: Sequence[Call], token: str) -> Difference | None:
    """The first difference, seen in a new room and told as if in the old one."""
    new = room()
    handles = {name: open_store(url) for name in handles_of(calls)}
    try:
        found = await first_difference(handles, moved(calls, token, new), new)
    finally:
        for handle in handles.values():
            await answer(handle.close())
    if found is None:
        return None
    back = [renamed(one, lambda text: text.replace(new, token)) for one in (found.expected, found.seen)]
    return Difference(found.number, *back)


def _fewer(calls: Sequence[Call], shows: Callable[[Sequence[Call]], bool], end: float) -> list[Call]:
    """The calls without those that can be left out; the last one stays."""
    calls = list(calls)
    size = max(1, len(calls) // 2)
    while True:
        start = len(calls) - 1 - size
        dropped = False
        while start > -size and time.monotonic() < end:
            fewer = calls[: max(0, start)] + calls[start + size :]
            if len(fewer) < len(calls) and shows(fewer):
                calls, dropped = fewer, True
            start -= size
        if time.monotonic() >= end or (size == 1 and not dropped):
            return calls
        size = max(1, size // 2)


def _plainer(calls: Sequence[Call], shows: Callable[[Sequence[Call]], bool], end: float) -> list[Call]:
    """The calls on one handle, and with fields at their defaults, where they still show the fault."""
    calls = list(calls)
    one_handle = [replace(call, handle=calls[0].handle) for call in calls]
    if len(handles_of(calls)) > 1 and shows(one_handle):
        calls = one_handle
    for number, call in enumerate(calls):
        for args in _simpler(call):
            if time.monotonic() > end:
                return calls
            tried = [*calls[:number], replace(calls[number], args=args(calls[number].args)), *calls[number + 1 :]]
            if tried[number].args != calls[number].args and shows(tried):
                calls = tried
    return calls


Args: TypeAlias = tuple[object, ...]


def _simpler(call: Call) -> Iterator[Callable[[Args], Args]]:
    if call.verb != "commit":
        return
    for name, value in _DEFAULTS.items():
        yield lambda args, name=name, value=value: (args[0], replace(args[1], **{name: value}))  # type: ignore[misc] # a default binds the loop's value; args[1] are Changes
    changes = call.args[1]
    assert isinstance(changes, Changes)
    for index in range(len(changes.append) - 1, -1, -1):
        yield lambda args, index=index: (args[0], _without(args[1], index))  # type: ignore[misc] # as above


def _without(changes: object, index: int) -> object:
    assert isinstance(changes, Changes)
    if len(changes.append) < 2:
        return changes
    return replace(changes, append=changes.append[:index] + changes.append[index + 1 :])


_DEFAULTS: Final = {field.name: field.default for field in fields(Changes) if field.name not in ("at", "epoch")}


# Schedules


def _as_schedule(case: Case, harness: Harness, calls: Sequence[Call], end: float) -> Program | None:
    def steps_of(tried: Sequence[Call], turns: Sequence[int]) -> list[_Step] | None:
        if len({call.task for call in tried if call.task}) < 2:
            return None
        return harness.run(_schedule, case, tried, turns, seconds=max(5.0, end + 5.0 - time.monotonic()))

    calls = sorted(calls, key=lambda call: call.began)
    steps = steps_of(calls, case.turns)
    for number in [*range(len(calls) - 1, -1, -1)] * 2:
        if steps is None or time.monotonic() > end or number >= len(calls):
            continue
        fewer, call = calls[:number] + calls[number + 1 :], calls[number]
        own = (call.task, sum(other.task == call.task for other in calls[:number]))
        found = steps_of(fewer, [step.task for step in steps if step != own])
        if found is not None:
            calls, steps = fewer, found
    numbers = {old: new for new, old in enumerate(sorted({call.task for call in calls if call.task}), 1)}
    calls = [replace(call, task=numbers.get(call.task, 0)) for call in calls]
    turns = [numbers[step.task] for step in steps or ()]

    def shows(tried: Sequence[Call]) -> bool:
        return steps_of(tried, turns) is not None

    calls = _plainer(calls, shows, end)
    short = _short_names(calls, case.token)
    if shows(short):
        calls = short
    steps = steps_of(calls, turns)
    # What is printed has shown the fault twice in a row.
    if steps is None or steps_of(calls, [step.task for step in steps]) is None:
        return None
    text = text_of_schedule(case, calls, [step.task for step in steps])
    return Program("schedule", len(calls), text, text_of_check(case))


class _Step(NamedTuple):
    """A task went on, in so many of its calls, from 0."""

    task: int
    call: int


async def _schedule(case: Case, calls: Sequence[Call], turns: Sequence[int]) -> list[_Step] | None:
    """Make calls in a new room, those of tasks in the order that the turns say. Returns who went on, or None where the
    model explains what was answered.
    """
    history = History(case.url)
    handles = {name: Recorded(open_store(case.url).store, history, name) for name in handles_of(calls)}

    async def one(call: Call) -> None:
        await answer(getattr(handles[call.handle], call.verb)(*call.args))

    there = moved(calls, case.token, room())
    first = min(call.began for call in there if call.task)
    tasks = [
        [partial(one, call) for call in there if call.task == number]
        for number in range(1, max(call.task for call in there) + 1)
    ]
    try:
        for handle in handles.values():
            await answer(handle.open())
        for call in there:
            if not call.task and call.began < first:
                await one(call)
        await in_turns(tasks, turns, history.going)
        for call in there:
            if not call.task and call.began > first:
                await one(call)
    finally:
        for handle in handles.values():
            await answer(handle.close())
    if in_some_order(history.calls):
        return None
    ended = [(call.task, call.ended or 0) for call in history.calls]
    return [_Step(turn.task, sum(task == turn.task and at < turn.at for task, at in ended)) for turn in history.turns]


# Races


def _as_race(case: Case, harness: Harness, calls: Sequence[Call], end: float) -> Program | None:
    groups = overlapping(sorted(calls, key=lambda call: call.began))

    def shown(tried: Sequence[Sequence[Call]], rounds: int, enough: int) -> tuple[int, int]:
        return harness.run(_race, case, tried, rounds, enough, end, seconds=max(5.0, end + 5.0 - time.monotonic()))

    count, rounds = shown(groups, TRIAL, 2)
    if count < 2:
        return None
    groups = _fewer_raced(groups, lambda tried: shown(tried, TRIAL, 2)[0] >= 2, end)
    count, rounds = shown(groups, ROUNDS, ROUNDS)
    if count * ROUNDS < LEAST_SHOWN * rounds:
        return None
    return Program("race", sum(map(len, groups)), text_of_race(case, groups, count, rounds), text_of_check(case))


async def _race(case: Case, groups: Sequence[Sequence[Call]], rounds: int, enough: int, end: float) -> tuple[int, int]:
    """Run a race until it has shown the fault often enough, so many times at most, and up to the end of the time.

    Returns how often it showed the fault, and how often it ran.
    """
    history = History(case.url)
    names = handles_of([call for group in groups for call in group])
    handles = {name: Recorded(open_store(case.url).store, history, name) for name in names}
    shown = done = 0

    async def one(call: Call) -> object:
        return await answer(getattr(handles[call.handle], call.verb)(*call.args))

    try:
        while done < rounds and shown < enough and (done < 2 * LEAST_SHOWN or time.monotonic() < end):
            new = room()
            history.clear()
            for group in groups:
                works = [one(call) for call in moved(group, case.token, new)]
                await asyncio.gather(*works)
            shown += not explained(history.calls, new)
            done += 1
    finally:
        for handle in handles.values():
            await answer(handle.close())
    return shown, done


def _fewer_raced(
    groups: Sequence[Sequence[Call]], shows: Callable[[Sequence[Sequence[Call]]], bool], end: float
) -> list[list[Call]]:
    """The groups without the calls that can be left out."""
    now = [list(group) for group in groups]
    for position in range(len(now) - 1, -1, -1):
        size = max(1, len(now[position]) // 2)
        while size:
            for start in range(len(now[position]) - size, -1, -size):
                fewer = [*now]
                fewer[position] = now[position][:start] + now[position][start + size :]
                if time.monotonic() < end and shows([group for group in fewer if group]):
                    now = fewer
            size //= 2
    return [group for group in now if group]
