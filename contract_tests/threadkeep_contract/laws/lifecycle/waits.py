"""The checks of law 12 on calls whose waits fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Final, NamedTuple

from threadkeep.errors import Action, StoreError, StoreFull, StoreNotWritable, StoreUnavailable, ThreadkeepError
from threadkeep.port import Store
from threadkeep_contract.evidence import least
from threadkeep_contract.faults import cases
from threadkeep_contract.faults.driving import Ending
from threadkeep_contract.faults.waits import WAYS, Fault, Way, errors_of, fail_at
from threadkeep_contract.harness import ALL, Harness, Law
from threadkeep_contract.history import Recorded, source
from threadkeep_contract.processes.worker import Step, patiently
from threadkeep_contract.reference.beside import Given, Look, by_store
from threadkeep_contract.reference.machine import Outcome, outcome

NOTHING_WRITTEN: Final = (StoreUnavailable, StoreFull, StoreNotWritable)
"""Errors that say that nothing was written."""

FEW: Final = 4
"""Calls with different answers that follow each failed one; many follow the last."""

HOW: Final[Mapping[Way, str]] = {"failed": "of which a wait failed", "lost": "of which an answer was lost"}

Moment = int | None
"""When the failed call was done: None for never; else before the first look (0), the repetition (1), the second look
(2), the commit that follows (3), or the last look (4)."""

MOMENTS: Final[tuple[Moment, ...]] = (0, 1, 2, 3, 4, None)


class Course(NamedTuple):
    """What is answered and seen if the failed call was done at one moment."""

    first: Look
    repeated: Outcome
    second: Look
    followed: Outcome
    last: Look


def _course(one: cases.Case, moment: Moment) -> Course:
    """By the model."""
    done: list[Given] = []

    def until(number: int) -> list[Given]:
        if moment == number:
            done.append(one.call)
        return done

    first = one.imagine(*until(0))[1]
    until(1).append(one.call)
    repeated = one.imagine(*done)[0][-1]
    second = one.imagine(*until(2))[1]
    until(3).append(one.after)
    followed = one.imagine(*done)[0][-1]
    return Course(first, repeated, second, followed, one.imagine(*until(4))[1])


def _possible(harness: Harness, what: str, one: cases.Case, ending: Ending, is_lost: bool) -> list[Course]:
    """The courses that fit how the call ended; LawBroken where it may not end so.

    `is_lost`: what was thrown into it means no more than that a connection was lost.
    """
    error = ending.error
    if ending.cancelled or (error is not None and not isinstance(error, ThreadkeepError)):
        raise harness.broken(f"{what} ends in an answer, or an error of threadkeep", "one of these", error or "neither")
    moments = MOMENTS
    if error is None:
        (expected,), _ = one.imagine(one.call)
        harness.expect(f"{what} and that is answered is answered right", expected, outcome(ending.result, None))
        moments = (0,)
    elif not isinstance(error, StoreError):
        raise harness.broken(f"{what} fails because of that, and of nothing else", "an answer, or a StoreError", error)
    elif is_lost and error.action is not Action.REPEAT:
        promise = f"{what}, since its connection was lost, may be repeated"
        raise harness.broken(promise, "an answer, StoreUnavailable, or OutcomeUnknown of a write", error)
    elif isinstance(error, NOTHING_WRITTEN):
        moments = (None,)
    return [_course(one, moment) for moment in moments]


async def _serves_again(harness: Harness, handle: Recorded, what: str, one: cases.Case) -> None:
    """Ask for a thread beside, until the store says no more that it is unavailable."""
    neighbour = one.before[1].args[0]
    load = Given("load", (neighbour, ALL))
    seen = await patiently(handle, Step("load", neighbour, window=ALL))
    promise = f"after {what}, the store serves again"
    if seen.failure is not None:
        raise harness.broken(promise, "an answer", source(seen.failure.error()))
    expected = [one.imagine(*calls)[0][-1] for calls in ((load,), (one.call, load))]
    harness.require(promise, outcome(seen.snapshot, None) in expected, expected[0], seen.snapshot)


async def _look_afterwards(
    harness: Harness, handle: Recorded, watcher: Recorded, what: str, one: cases.Case, courses: Sequence[Course]
) -> None:
    """Look, repeat the call, look, make the commit that follows, and look; LawBroken where no course fits it all."""
    promise = f"{what} is done whole or not at all"
    if len(courses) == 1:
        says = "is answered is there" if courses[0].first == one.imagine(one.call)[1] else "says so has written nothing"
        promise = f"{what} and that {says}"

    def fitting(expected: Sequence[object], seen: object) -> list[Course]:
        left = [course for course, one in zip(courses, expected, strict=True) if one == seen]
        if not left:
            raise harness.broken(promise, source(expected[0]), source(seen))
        return left

    courses = fitting(
        [course.first for course in courses],
        await cases.see(harness, handle, promise, one, [course.first for course in courses]),
    )
    promise = f"{what} may be repeated, and is then done once"
    courses = fitting([course.repeated for course in courses], await by_store(handle, one.call))
    courses = fitting(
        [course.second for course in courses],
        await cases.see(harness, handle, promise, one, [course.second for course in courses]),
    )
    promise = f"the commit that follows {what} goes on from there"
    courses = fitting([course.followed for course in courses], await by_store(handle, one.after))
    for other in (handle, watcher):
        looks = [course.last for course in courses]
        courses = fitting(looks, await cases.see(harness, other, promise, one, looks))


async def _fail_each(harness: Harness, calls: Mapping[str, cases.Make]) -> None:
    """Let each call fail at each of its waits; look at what it did, then make calls that each have an answer of their
    own."""
    handle, watcher = await harness.open(), await harness.open()
    probes = cases.Probes(harness)
    await probes.prepare(handle)
    reached = 0
    errors = errors_of(handle.store)
    lost = (*Store.connection_errors, *handle.store.connection_errors)
    catalogue = list(product(calls, WAYS, range(len(errors))))
    for name, kind, error in harness.some(catalogue, kind=lambda entry: entry[:2]):
        what = f"{name} {HOW[kind]}"
        for number in range(1, harness.profile.moments + 1):
            harness.history.clear()
            one = cases.case(harness, calls[name])
            await cases.prepare(handle, one)
            verb: Callable[..., Awaitable[object]] = getattr(handle, one.call.verb)
            ending = await fail_at(partial(verb, *one.call.args), Fault(kind, number, errors[error]))
            if not ending.reached:
                break
            reached += 1
            harness.seen.faulted()
            courses = _possible(harness, what, one, ending, isinstance(errors[error](), lost))
            await _serves_again(harness, handle, what, one)
            await probes.ask(what, handle, FEW)
            await _look_afterwards(harness, handle, watcher, what, one, courses)
    await probes.ask("calls that failed", handle)
    if not reached:
        harness.decline("faults on the way", "no call waits in this process for anything that could fail")


class Waits(Law):
    """Calls whose waits fail."""

    @least(commits=4, loads=4, faults=1, outages=True)
    def test_a_commit_whose_wait_fails_is_done_once_or_not_done(self, harness: Harness) -> None:
        """A commit of which a wait fails, or an answer is lost, is done whole or not at all. What it says is so: an
        answer is there, and with an error that says that nothing was written, nothing was. It ends in an answer or a
        `StoreError`, and may be repeated: the repetition is answered as the reference model answers it, whether or not
        the commit was done, and the next commit goes on from there. A reset connection, one that is silent, one that
        ends, an error of input and output, and each error of its driver that the store says means a lost connection are
        thrown into every wait of seven commits, in place of the wait and instead of its answer. What means a lost
        connection ends in an answer or in an error that may be repeated, and in nothing else. Afterwards every call
        gets its own answer. A store whose calls wait for nothing that is seen in this process is not asked for this.
        """
        harness.run(_fail_each, harness, cases.COMMITS)

    @least(commits=4, loads=4, faults=1, outages=True)
    def test_a_deletion_whose_wait_fails_is_done_or_not_done(self, harness: Harness) -> None:
        """A deletion of which a wait fails, or an answer is lost, is done whole or not at all, and may be repeated, as
        a commit.
        """
        harness.run(_fail_each, harness, cases.DELETIONS)

    @least(commits=4, loads=4, faults=1, outages=True)
    def test_a_reading_whose_wait_fails_is_answered_right_or_not_at_all(self, harness: Harness) -> None:
        """A load or a list of which a wait fails, or an answer is lost, ends in the right answer or in a `StoreError`,
        never in an empty one, and leaves no answer behind for another call.
        """
        harness.run(_fail_each, harness, cases.READINGS)
