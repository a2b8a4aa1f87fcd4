"""Linearizability of short concurrent histories, by the search of Wing and Gong (1993) against the reference model.

A history is linearizable if its calls can be put in one order, in which no call stands before one that had ended when
it began, such that the model answers each of them in that order just as the store did.

A list is taken apart (`parts`): what it says of each thread has to be so at some moment between its begin and its end,
which need not be the same moment for all threads.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from threadkeep.errors import OutcomeUnknown, ThreadkeepError
from threadkeep.port import (
    MISSING,
    After,
    Changes,
    Put,
    Receipt,
    Resource,
    Scope,
    Snapshot,
    Tail,
    Thread,
    ThreadRow,
    Window,
)
from threadkeep_contract.harness import ALL, Harness, record
from threadkeep_contract.history import Call, Recorded, source
from threadkeep_contract.processes.worker import Failure, Outcome, Run, Step, perform
from threadkeep_contract.races.contenders import Team, told
from threadkeep_contract.reference.looks import look_everywhere
from threadkeep_contract.reference.model import Model
from threadkeep_contract.walks import place

WRITERS: Final = 4
"""Contenders in one history; the search takes time exponential in them."""

STEPS: Final = 4
"""Calls of each contender in one history."""

IDS: Final = tuple(f"m{number}" for number in range(4))
"""Ids of messages that all contenders use."""


@dataclass(frozen=True, slots=True)
class Event:
    """One call of a history: who made it, what it was, and what it came to."""

    writer: int
    step: Step
    outcome: Outcome

    @property
    def unknown(self) -> bool:
        """Whether nobody knows if it happened."""
        failure = self.outcome.failure
        return failure is not None and failure.name == OutcomeUnknown.__name__


def event_of(call: Call) -> Event:
    """A recorded call that has ended, as an event. Its times are ticks of its history."""
    began, ended = call.began, call.ended or call.began
    given: tuple[Any, ...] = call.args
    result: Any = call.result
    outcome = Outcome(began, ended)
    match call.verb, given:
        case "commit", (scope, changes):
            step, outcome = Step("commit", scope, changes), replace(outcome, receipt=result)
        case "load", (scope, window):
            step, outcome = Step("load", scope, window=window), replace(outcome, snapshot=result)
        case "threads", (scope, after, limit, order, slots):
            step = Step("threads", scope, after=after, limit=limit, order=order, slots=slots)
            outcome = replace(outcome, rows=[row._replace(docs=dict(row.docs)) for row in result or ()])
        case "resources", (after, limit):
            # The scope of such a list is not looked at.
            step = Step("resources", Resource(call.verb), after=after, limit=limit)
            outcome = replace(outcome, names=list(result or ()))
        case _:
            step = Step("delete", given[0])
    if isinstance(call.error, ThreadkeepError):
        outcome = Outcome(began, ended, failure=Failure.of(call.error))
    return Event(call.task, step, outcome)


def copy_model(model: Model) -> Model:
    """A model of its own in the same state."""
    made = Model()
    made.by_scope = {scope: replace(thread, docs=dict(thread.docs)) for scope, thread in model.by_scope.items()}
    made.resource_docs = {name: dict(docs) for name, docs in model.resource_docs.items()}
    return made


def apply(model: Model, step: Step) -> Receipt | Snapshot | Failure | None:
    """Do a step that is no list on the model and say what it came to."""
    try:
        match step.verb:
            case "load":
                return model.load(step.scope, step.window)
            case "delete":
                model.delete(step.scope)
                return None
            case "commit":
                return model.commit(step.scope, step.changes or Changes(0))
    except ThreadkeepError as error:
        return Failure.of(error)
    raise ValueError(f"a list is taken apart, and not compared whole: {step}")


def plain(answer: Receipt | Snapshot | Failure | None) -> object:
    """An answer in a form in which equal ones are equal, whatever kind of sequence a store gives."""
    match answer:
        case Receipt():
            return (answer.tail, [*answer.positions], [*answer.versions], [*answer.resource_versions])
        case Snapshot():
            docs = (dict(answer.docs), dict(answer.resource_docs))
            return (answer.tail, answer.created, answer.active, [*answer.records], *docs)
        case Failure():
            return (answer.name, tuple(answer.args))
    return None


def _answer(outcome: Outcome) -> object:
    return plain(outcome.receipt or outcome.snapshot or outcome.failure)


def state(model: Model) -> str:
    """All that a model holds, as a key that equal states share."""
    return repr((model.by_scope, model.resource_docs))


@dataclass(frozen=True, slots=True)
class Part:
    """What a call says of one moment between its begin and its end."""

    began: int
    ended: int
    fits: Callable[[Model], bool]
    """Does the call on the model, and says whether it answers as the store did."""
    changes: bool = False
    """Whether the call may have changed something; else `fits` leaves the model as it is."""
    unknown: bool = False
    """Whether nobody knows if it happened."""


def parts(event: Event, scopes: Collection[Scope]) -> list[Part]:
    """An event in parts: of a list one for each of the scopes, of any other call one."""
    step, outcome = event.step, event.outcome
    if outcome.rows is not None:
        threads = [scope for scope in scopes if isinstance(scope, Thread)]
        facts = [
            fact
            for scope in threads
            if scope.resource_id == step.scope.resource_id
            for fact in _row(step, outcome, scope)
        ]
    elif outcome.names is not None:
        facts = [_name(step, outcome.names, name) for name in sorted({scope.resource_id for scope in scopes})]
    else:
        expected = plain(outcome.receipt or outcome.snapshot or outcome.failure)
        refused = outcome.failure is not None and not event.unknown

        def fits(model: Model) -> bool:
            # The model might do what the store refused.
            answer = plain(apply(copy_model(model) if refused else model, step))
            return event.unknown or answer == expected

        changes = step.verb in ("commit", "delete") and not refused
        return [Part(outcome.began, outcome.ended, fits, changes, event.unknown)]
    return [Part(outcome.began, outcome.ended, fact) for fact in facts]


def _row(step: Step, outcome: Outcome, thread: Thread) -> list[Callable[[Model], bool]]:
    """What a page of threads says of one of them."""
    rows = outcome.rows or []
    row = next((row for row in rows if row.thread_id == thread.thread_id), None)

    def now(model: Model) -> ThreadRow | None:
        found = model.threads(Resource(thread.resource_id), None, len(model.by_scope), step.order, step.slots)
        return next((each for each in found if each.thread_id == thread.thread_id), None)

    def absent(model: Model) -> bool:
        """Whether the thread is missing, or in a place that is on another page."""
        found = now(model)
        if found is None:
            return True
        here, falling = place(found, step.order), step.order == "active"
        passed = isinstance(step.after, After) and (here >= step.after if falling else here <= step.after)
        return passed or (len(rows) == step.limit and (here < place(rows[-1], step.order)) == falling)

    if row is None:
        return [absent]
    if step.order == "created":
        return [lambda model: now(model) == row]
    # A thread may be shown in the place where it was found, with what it holds a moment later.
    return [
        lambda model: (found := now(model)) is not None and found._replace(active=0) == row._replace(active=0),
        lambda model: (found := now(model)) is not None and found.active == row.active,
    ]


def _name(step: Step, names: Sequence[str], name: str) -> Callable[[Model], bool]:
    """What a page of resources says of one of them."""
    if name in names:
        return lambda model: name in model.resources()
    if (isinstance(step.after, str) and name <= step.after) or (len(names) == step.limit and name > names[-1]):
        return lambda model: True
    return lambda model: name not in model.resources()


def linearizable(events: Sequence[Event], model: Model) -> bool:
    """Whether the model, starting as it is, can answer the events in some order that fits their times."""
    scopes = {event.step.scope for event in events if event.step.verb != "resources"}
    every = [part for event in events for part in parts(event, scopes)]
    tried: set[tuple[frozenset[int], str]] = set()

    def ready(left: frozenset[int]) -> list[int]:
        """Those before which none of the others has to stand."""
        first_end = min((every[index].ended for index in left if not every[index].unknown), default=-1)
        return [index for index in left if every[index].began <= first_end]

    def search(left: frozenset[int], model: Model) -> bool:
        # What changes nothing and fits now can be taken now: whatever order there is, there is one with it here.
        while taken := {index for index in ready(left) if not every[index].changes and every[index].fits(model)}:
            left -= taken
        if all(every[index].unknown for index in left):
            return True
        key = (left, state(model))
        if key in tried:
            return False
        tried.add(key)
        for index in sorted(ready(left), key=lambda index: every[index].began):
            changed = copy_model(model)
            if every[index].changes and every[index].fits(changed) and search(left - {index}, changed):
                return True
        return False

    return search(frozenset(range(len(every))), model)


def _steps(random: random.Random, thread: Thread, writer: int, turn: int) -> tuple[Step, ...]:
    """Calls on one thread."""
    steps = []
    for number in range(STEPS):
        kind = random.choices(("load", "commit", "delete"), (3, 8, 1))[0]
        if kind == "load":
            steps.append(Step("load", thread, window=Window(before=random.choice((1, 3, 20)))))
        elif kind == "delete":
            steps.append(Step("delete", thread))
        else:
            steps.append(Step("commit", thread, random_changes(random, writer, number, turn)))
    return tuple(steps)


def random_changes(random: random.Random, writer: int, number: int, turn: int) -> Changes:
    """A commit that meets those of other writers: few ids, small positions, epochs that others use too."""
    epochs = ["epoch", "epoch", "epoch", f"epoch-{random.randrange(WRITERS)}-{random.randrange(STEPS)}"]
    tail = random.choice((MISSING, *(Tail(random.choice(epochs), position) for position in range(5))))
    shared = random.random() < 0.3
    names = [f"m{random.randrange(4)}"] if shared else [f"{writer}-{number}-{index}" for index in range(2)]
    put = Put("work", f'"{writer}-{number}"', random.choice((None, None, 0, 1, 2)))
    return Changes(
        at=1_000 * turn + random.randrange(100),
        epoch=f"epoch-{writer}-{number}",
        append=tuple(record(name, random.choice(("", "", "other")) if shared else "") for name in names),
        puts=(put,) if random.random() < 0.3 else (),
        resource_puts=(put,) if random.random() < 0.2 else (),
        if_tail=tail if random.random() < 0.4 else None,
        if_epoch=random.choice(("", *epochs)) if random.random() < 0.15 else None,
        drop_after=random.randrange(4) if random.random() < 0.15 else None,
    )


async def check_histories(harness: Harness, handle: Recorded, team: Team) -> None:
    """Let contenders make random calls on one thread, again and again, and explain each history by the model."""
    chance = random.Random(harness.seed)
    writers = min(team.size, WRITERS)
    for turn in range(2 * team.rounds):
        harness.history.clear()
        thread = Thread(harness.fresh() + "user", "thread")
        model = Model()
        if turn % 3:
            start = Step("commit", thread, Changes(1, "epoch", (record("m0"), record("m1"))))
            await perform(handle, start)
            apply(model, start)
        plans = [_steps(chance, thread, writer, turn) for writer in range(writers)]
        events = await history_of(harness, team, plans)
        await explain(harness, events, [Step("load", thread, window=ALL)], handle, model)
        await look_everywhere(harness, team.handles, [thread], IDS)


async def history_of(harness: Harness, team: Team, plans: Sequence[tuple[Step, ...]]) -> list[Event]:
    """What contenders came to with plans of their own, all at once; LawBroken where one was not served to the end."""
    answers = await team.together([Run(plan) for plan in plans])
    for plan, outcomes in zip(plans, answers, strict=True):
        harness.require("a store serves those that share it", len(plan) == len(outcomes), "answers", told(outcomes))
    return [
        Event(writer, step, outcome)
        for writer, (plan, outcomes) in enumerate(zip(plans, answers, strict=True))
        for step, outcome in zip(plan, outcomes, strict=True)
    ]


async def explain(
    harness: Harness, events: Sequence[Event], final: Sequence[Step], handle: Recorded, model: Model
) -> None:
    """LawBroken unless the model, starting as it is, explains the events and what final steps see after them."""
    seen = [Event(len(events), step, await perform(handle, step)) for step in final]
    if not linearizable([*events, *seen], model):
        raise harness.broken(
            "calls that overlap are answered as in some order of them, one after the other",
            "an order in which the reference model gives the same answers",
            _drawn([*events, *seen]),
        )


def _drawn(events: Sequence[Event]) -> str:
    """The events by the time at which they began, with microseconds, for the text of a broken law."""
    first = min(event.outcome.began for event in events)
    lines = []
    for event in sorted(events, key=lambda event: event.outcome.began):
        began, ended = ((at - first) // 1000 for at in (event.outcome.began, event.outcome.ended))
        lines.append(f"[{began:>6}..{ended:>6} us] writer {event.writer}: {source(event.step)}")
        lines.append(f"            -> {told([event.outcome])}")
    return "no such order; the calls were\n    " + "\n    ".join(lines)
