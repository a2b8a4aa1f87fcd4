"""Calls done again in a room of their own, on a store and on the reference model: what printed programs are made of.

Names that a check used once hold its harness's token. With another token in its place, the same calls can be made on
the same store again, and meet nothing of what was there before.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from hashlib import sha256
from typing import Any, Final, cast

from threadkeep.errors import OutcomeUnknown, StoreUnavailable, ThreadkeepError
from threadkeep.port import Guard, Record
from threadkeep_contract.harness import raw_record
from threadkeep_contract.history import Call, History, overlapping, told
from threadkeep_contract.races.linearizability import copy_model, event_of, linearizable, state
from threadkeep_contract.reference.machine import plain
from threadkeep_contract.reference.model import Model
from threadkeep_contract.source import source

STATES: Final = 20_000
"""States that the search for an order of overlapping calls looks at, at most."""


def room() -> str:
    """A token that no other run has used: 9 digits. Resource ids that begin with it are a room of their own."""
    return str(10**8 + secrets.randbelow(9 * 10**8))


async def answer(work: Awaitable[object]) -> object:
    """What a call gives: its result, or the library's error that it raises."""
    try:
        return await work
    except ThreadkeepError as error:
        return error


def same(one: object, other: object) -> bool:
    """Whether two answers are equal, whatever kind of sequence or mapping a store gives."""
    return _comparable(one) == _comparable(other)


def _comparable(value: object) -> object:
    return (source(value), str(value)) if isinstance(value, ThreadkeepError) else plain(value)


def verdict(promise: str, expected: object, seen: object) -> None:
    """End the program with status 1 and the promise where the answers differ; else say that the fault is not there."""
    if same(expected, seen):
        absent(promise)
    else:
        present(promise, f"expected: {source(expected)}", f"seen:     {source(seen)}")


def race_verdict(promise: str, shown: int, rounds: int) -> None:
    """As `verdict`, of a race that showed the fault in so many of its rounds."""
    if shown:
        present(promise, f"the race was run {rounds} times, and showed the fault {shown} times")
    else:
        absent(f"{promise} (the race was run {rounds} times)")


def schedule_verdict(promise: str, history: History) -> None:
    """As `verdict`, of calls whose schedule was given: shown where the model answers them so in no order."""
    if in_some_order(history.calls):
        absent(promise)
    else:
        found = told(history.calls, history.turns)
        present(promise, f"in no order does the reference model answer these calls so:\n    {found}")


def present(promise: str, *details: str) -> None:
    """End the program with status 1 and the promise that is broken."""
    sys.exit("\n".join([f"the promise is broken: {promise}", *(f"  {detail}" for detail in details)]))


def absent(promise: str) -> None:
    """Say that the fault is not there."""
    sys.stdout.write(f"the fault is not there: {promise}\n")


def renamed(value: Any, rename: Callable[[str], str]) -> Any:
    """The value with every text in it renamed. A record whose digest is that of its body gets that of the new one."""
    match value:
        case str():
            return rename(value)
        case Record() if value.digest == sha256(value.body.encode("utf-8", "surrogatepass")).hexdigest():
            return raw_record(rename(value.id), rename(value.body))
        case tuple() if hasattr(value, "_fields"):
            return type(value)(*(renamed(item, rename) for item in value))
        case tuple():
            return tuple(renamed(item, rename) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: renamed(getattr(value, field.name), rename) for field in fields(value)})
    return value


def moved(calls: Sequence[Call], old: str, new: str) -> list[Call]:
    """The calls as they were given, in the room of another token."""
    return [
        replace(call, args=renamed(call.args, lambda text: text.replace(old, new)), result=None, error=None)
        for call in calls
    ]


# One call after the other


@dataclass(frozen=True, slots=True)
class Difference:
    """The first answer of a store that is not the model's: the number of its call, and both answers."""

    number: int
    expected: object
    seen: object


async def first_difference(handles: Mapping[str, Guard], calls: Sequence[Call], token: str) -> Difference | None:
    """Make the calls one after the other, in the room of `token`; None where the model answers each in the same way."""
    model = Model()
    for number, call in enumerate(calls):
        seen = seen_in(await answer(getattr(handles[call.handle], call.verb)(*call.args)), call.verb, token)
        expected = expected_of(model, call, seen)
        if not same(expected, seen):
            return Difference(number, expected, seen)
    return None


def seen_in(given: object, verb: str, token: str) -> object:
    """Of a store's answer what belongs to the room: of a page of resources those that the token is in."""
    if verb == "resources" and isinstance(given, Sequence):
        return _Page([one for one in given if token in one], given)
    return given


class _Page(list[str]):
    """The resources of a room in a page, and the page."""

    def __init__(self, ours: list[str], page: Sequence[str]) -> None:
        super().__init__(ours)
        self.page = page


def expected_of(model: Model, call: Call, seen: object) -> object:
    """What the model answers, which knows the room alone."""
    if call.verb == "resources":
        after, limit = cast(tuple[str | None, int], call.args)
        held = model.resources(after, sys.maxsize)
        if isinstance(seen, _Page) and len(seen.page) >= limit:
            held = [one for one in held if one <= seen.page[-1]]
        return held
    try:
        given: object = getattr(model, call.verb)(*call.args)
    except ThreadkeepError as error:
        return error
    return given


# Calls that overlap


def in_some_order(calls: Sequence[Call]) -> bool:
    """Whether the model answers all calls as the store did, in some order that fits their times. What a list says of
    each thread may be so at a moment of its own; a call that found no store to serve it has done nothing.
    """
    return linearizable([event_of(call) for call in calls if not isinstance(call.error, StoreUnavailable)], Model())


def explained(calls: Sequence[Call], token: str) -> bool:
    """Whether the model answers the calls as the store did, in some order that fits the times of those that overlapped.

    A history whose search would look at more than `STATES` states counts as explained: nothing is known against it.
    """
    models = [Model()]
    budget = [STATES]
    for group in overlapping(calls):
        after: dict[str, Model] = {}
        for model in models:
            _search(group, model, token, after, set(), budget)
        if budget[0] <= 0:
            return True
        models = list(after.values())
        if not models:
            return False
    return True


def _search(
    left: Sequence[Call],
    model: Model,
    token: str,
    after: dict[str, Model],
    tried: set[tuple[frozenset[int], str]],
    budget: list[int],
) -> None:
    """Put into `after` each state of the model in which an order of the calls that explains their answers can end."""
    now = state(model)
    key = (frozenset(call.began for call in left), now)
    if key in tried or budget[0] <= 0:
        return
    tried.add(key)
    budget[0] -= 1
    if not left:
        after[now] = model
        return
    first_end = min(call.ended or sys.maxsize for call in left)
    for call in left:
        if call.began > first_end:
            continue
        others = [other for other in left if other is not call]
        changed = copy_model(model)
        seen = seen_in(call.result if call.error is None else call.error, call.verb, token)
        agreed = same(expected_of(changed, call, seen), seen)
        if isinstance(seen, OutcomeUnknown):
            _search(others, model, token, after, tried, budget)
            _search(others, changed, token, after, tried, budget)
        elif agreed:
            _search(others, changed, token, after, tried, budget)
