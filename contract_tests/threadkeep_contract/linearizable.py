"""Linearizability of short concurrent histories, by the search of Wing and Gong (1993) against the reference model.

A history is linearizable if its calls can be put in one order, in which no call stands before one that had ended when
it began, such that the model answers each of them in that order just as the store did.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from threadkeep.errors import OutcomeUnknown, ThreadkeepError
from threadkeep.port import MISSING, Changes, Put, Receipt, Snapshot, Tail, Thread, Window
from threadkeep_contract.harness import Harness, record
from threadkeep_contract.history import Recorded, source
from threadkeep_contract.model import Model
from threadkeep_contract.races import Team, told
from threadkeep_contract.worker import Failure, Outcome, Run, Step, perform

WRITERS: Final = 4
"""Contenders in one history; the search takes time exponential in them."""

STEPS: Final = 4
"""Calls of each contender in one history."""


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


def copy_model(model: Model) -> Model:
    """A model of its own in the same state."""
    made = Model()
    made.by_scope = {scope: replace(thread, docs=dict(thread.docs)) for scope, thread in model.by_scope.items()}
    made.resource_docs = {name: dict(docs) for name, docs in model.resource_docs.items()}
    return made


def apply(model: Model, step: Step) -> Receipt | Snapshot | Failure | None:
    """Do a step on the model and say what it came to."""
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


def linearizable(events: Sequence[Event], model: Model) -> bool:
    """Whether the model, starting as it is, can answer the events in some order that fits their times."""
    tried: set[tuple[frozenset[int], str]] = set()

    def search(left: frozenset[int], model: Model) -> bool:
        if all(events[index].unknown for index in left):
            return True
        key = (left, state(model))
        if key in tried:
            return False
        tried.add(key)
        first_end = min(events[index].outcome.ended for index in left if not events[index].unknown)
        for index in sorted(left, key=lambda index: events[index].outcome.began):
            event = events[index]
            if event.outcome.began > first_end:
                break
            changed = copy_model(model)
            answer = apply(changed, event.step)
            if (event.unknown or plain(answer) == _answer(event.outcome)) and search(left - {index}, changed):
                return True
        return False

    return search(frozenset(range(len(events))), model)


def _steps(random: random.Random, thread: Thread, writer: int, turn: int) -> tuple[Step, ...]:
    """Calls that meet those of other writers: few ids, small positions, epochs that others use too."""
    steps = []
    for number in range(STEPS):
        kind = random.choices(("load", "commit", "delete"), (3, 8, 1))[0]
        if kind == "load":
            steps.append(Step("load", thread, window=Window(before=random.choice((1, 3, 20)))))
            continue
        if kind == "delete":
            steps.append(Step("delete", thread))
            continue
        epochs = ["epoch", "epoch", "epoch", f"epoch-{random.randrange(WRITERS)}-{random.randrange(STEPS)}"]
        tail = random.choice((MISSING, *(Tail(random.choice(epochs), position) for position in range(5))))
        shared = random.random() < 0.3
        names = [f"m{random.randrange(4)}"] if shared else [f"{writer}-{number}-{index}" for index in range(2)]
        put = Put("work", f'"{writer}-{number}"', random.choice((None, None, 0, 1, 2)))
        changes = Changes(
            at=1_000 * turn + random.randrange(100),
            epoch=f"epoch-{writer}-{number}",
            append=tuple(record(name, random.choice(("", "", "other")) if shared else "") for name in names),
            puts=(put,) if random.random() < 0.3 else (),
            resource_puts=(put,) if random.random() < 0.2 else (),
            if_tail=tail if random.random() < 0.4 else None,
            if_epoch=random.choice(("", *epochs)) if random.random() < 0.15 else None,
            drop_after=random.randrange(4) if random.random() < 0.15 else None,
        )
        steps.append(Step("commit", thread, changes))
    return tuple(steps)


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
        answers = await team.together([Run(plan) for plan in plans])
        for plan, outcomes in zip(plans, answers, strict=True):
            harness.require("a store serves those that share it", len(plan) == len(outcomes), "answers", told(outcomes))
        events = [
            Event(writer, step, outcome)
            for writer, (plan, outcomes) in enumerate(zip(plans, answers, strict=True))
            for step, outcome in zip(plan, outcomes, strict=True)
        ]
        final = Step("load", thread, window=Window(before=100))
        events.append(Event(writers, final, await perform(handle, final)))
        if not linearizable(events, model):
            raise harness.broken(
                "calls that overlap are answered as in some order of them, one after the other",
                "an order in which the reference model gives the same answers",
                _drawn(events),
            )


def _drawn(events: Sequence[Event]) -> str:
    """The events by the time at which they began, with microseconds, for the text of a broken law."""
    first = min(event.outcome.began for event in events)
    lines = []
    for event in sorted(events, key=lambda event: event.outcome.began):
        began, ended = ((at - first) // 1000 for at in (event.outcome.began, event.outcome.ended))
        what = source(event.step.changes) if event.step.changes else event.step.verb
        lines.append(
            f"[{began:>6}..{ended:>6} us] writer {event.writer}: {what}\n                -> {told([event.outcome])}"
        )
    return "no such order; the calls were\n    " + "\n    ".join(lines)
