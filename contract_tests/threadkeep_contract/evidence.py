"""What a check has seen of a store, and the least that it must have seen to count.

A check that only ever saw refusals has not found a promise kept: it has found nothing. So each check states its least,
and below that its verdict is "not judged", as loud as a broken law. What is seen is counted from the calls themselves:
those of recorded handles, and those that worker processes tell of.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from threadkeep.errors import StoreClosed, StoreError

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Least:
    """The least that a check must have seen to count. Every number is a number of times."""

    commits: int = 1
    """Commits that were acknowledged with a receipt."""
    loads: int = 1
    """Loads that were answered with a snapshot."""
    deletions: int = 0
    """Deletions and erasures that were acknowledged."""
    lists: int = 0
    """Pages of threads or resources that were answered."""
    overlaps: int = 0
    """Calls that were answered, and were under way at the same time as another. A store may never let calls wait in
    this process, so that there are none between tasks; between processes there are."""
    races: int = 0
    """Rounds of a race in which two contenders or more were answered, with a receipt or with a conflict."""
    kills: int = 0
    """Worker processes that were killed after they had acknowledged something and before they had done all."""
    cuts: int = 0
    """Connections that were cut while a call was under way."""
    faults: int = 0
    """Errors that were thrown into a call at a place where it waited."""
    closings: int = 0
    """Handles that were closed, after which the files that this process holds open were counted."""
    outages: bool = False
    """Whether a call may be refused with a StoreError: because the check asks again, or because it made the outage."""

    def __str__(self) -> str:
        """In words, as for a page of docs."""
        counts = [(getattr(self, what), words) for what, words in _WORDS.items()]
        told = ", ".join(f"{words}: {count}" for count, words in counts if count)
        return "; ".join(filter(None, (told, "calls may be refused for a while" if self.outages else "")))


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Something of which a check has not seen enough."""

    what: str
    least: str
    seen: str


class Flight:
    """A call that is under way."""

    def __init__(self) -> None:
        self.met = False
        """Whether another was under way at the same time."""


class Seen:
    """What a check has seen so far, over all examples, handles and processes."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()
        self._outages: Counter[str] = Counter()
        self._flying: set[Flight] = set()
        # Some checks work in several event loops at once.
        self._lock = threading.Lock()

    @contextmanager
    def call(self, verb: str) -> Iterator[None]:
        """Count what a call of a verb comes to, and whether another was under way meanwhile."""
        flight = Flight()
        with self._lock:
            for other in (*self._flying, flight) if self._flying else ():
                other.met = True
            self._flying.add(flight)
        try:
            yield
        except BaseException as error:
            self.failed(error)
            raise
        else:
            self.answered(verb)
            self.overlapped(flight.met)
        finally:
            with self._lock:
                self._flying.remove(flight)

    def answered(self, verb: str) -> None:
        """A call of a verb was answered."""
        self._count["calls"] += 1
        self._count[_OF_VERB[verb]] += 1

    @property
    def overlaps(self) -> int:
        """Calls that overlapped so far."""
        return self._count["overlaps"]

    def overlapped(self, count: int) -> None:
        """So many calls were answered that had been under way at the same time as another."""
        self._count["overlaps"] += count

    def failed(self, error: BaseException) -> None:
        """A call raised an error. One that says that the store could not do it is no answer at all."""
        self._count["calls"] += 1
        if isinstance(error, StoreError) and not isinstance(error, StoreClosed):
            self._outages[type(error).__name__] += 1

    def example(self) -> None:
        """An example of an exploration begins."""
        self._count["examples"] += 1

    def tally(self) -> dict[str, int]:
        """How much was tried, by kind, for the report: of examples, calls, races and kills those there were."""
        return {kind: self._count[kind] for kind in TRIED if self._count[kind]}

    def raced(self, answered: int) -> None:
        """A round of a race has ended, in which so many contenders were answered."""
        self._count["races"] += answered > 1

    def killed(self) -> None:
        """A process was killed in the middle of its work."""
        self._count["kills"] += 1

    def cut(self) -> None:
        """A connection was cut while a call was under way."""
        self._count["cuts"] += 1

    def faulted(self) -> None:
        """An error was thrown into a call."""
        self._count["faults"] += 1

    def closed(self) -> None:
        """A handle was closed, and the files that this process holds open were counted."""
        self._count["closings"] += 1

    def __getitem__(self, what: str) -> int:
        """How often something was seen, by the name that it has in `Least`."""
        return self._count[what]

    @property
    def outages(self) -> int:
        """Calls that the store refused with a StoreError."""
        return self._outages.total()

    def shortfalls(self, least: Least) -> list[Shortfall]:
        """What is missing for a check with this least."""
        found = [
            Shortfall(what, f"{words}: at least {getattr(least, what)}", f"{words}: {self._count[what]}")
            for what, words in _WORDS.items()
            if self._count[what] < getattr(least, what)
        ]
        if self._outages and not least.outages:
            told = ", ".join(f"{count} with {name}" for name, count in sorted(self._outages.items()))
            found.append(Shortfall("outages", "calls refused: none", f"calls refused: {told}"))
        return found


TRIED: Final = ("examples", "calls", "races", "kills")
"""What the report counts of what was tried, in the order in which it is told."""

_OF_VERB: Final = {
    "commit": "commits",
    "load": "loads",
    "delete": "deletions",
    "threads": "lists",
    "resources": "lists",
}

_WORDS: Final = {
    "commits": "commits acknowledged",
    "loads": "loads answered",
    "deletions": "deletions acknowledged",
    "lists": "pages of a list answered",
    "overlaps": "calls that overlapped",
    "races": "rounds of a race",
    "kills": "processes killed at work",
    "cuts": "connections cut",
    "faults": "waits that failed",
    "closings": "closings after which open files were counted",
}
"""Each count of `Least`, in the words of a report."""

_ATTRIBUTE: Final = "threadkeep_least"


def least(**numbers: Any) -> Callable[[F], F]:
    """Mark a check with the least that it must have seen; what is not named is as in `Least`, or as marked before."""

    def mark(check: F) -> F:
        setattr(check, _ATTRIBUTE, replace(least_of(check), **numbers))
        return check

    return mark


def least_of(check: Callable[..., Any]) -> Least:
    """The least that a check states."""
    stated: Least = getattr(check, _ATTRIBUTE, Least())
    return stated
