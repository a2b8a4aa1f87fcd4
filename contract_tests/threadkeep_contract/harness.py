"""What every check is given: handles of the store under judgement, clean rooms, an event loop, and Hypothesis.

A check is a method `test_...(self, harness)` of a `Law`. It reaches the store through `harness.open()` alone, takes
resource ids that begin with `harness.fresh()`, and raises `LawBroken` where a promise is not kept. Whether it has seen
enough of the store to count is found out when it has ended: `NotJudged` where not.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import secrets
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from hashlib import sha256
from typing import Any, ClassVar, Final, TypeVar

import hypothesis
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.errors import Flaky, HypothesisWarning
from hypothesis.strategies import SearchStrategy

from threadkeep.errors import ThreadkeepError
from threadkeep.port import (
    SHORT_ID_BYTES,
    Changes,
    Clause,
    Record,
    Refusal,
    Stored,
    Window,
    canonical_json,
    open_store,
    scheme_of,
)
from threadkeep_contract.evidence import Seen, least_of
from threadkeep_contract.history import Call, History, PanicError, Recorded, source
from threadkeep_contract.profiles import DEFAULT, Profile
from threadkeep_contract.walks import Walked

T = TypeVar("T")
E = TypeVar("E", bound=ThreadkeepError)


class LawBroken(AssertionError):
    """A promise of the contract that was not kept: what was expected, what was seen, and the calls that show it."""

    def __init__(
        self,
        promise: str,
        expected: str,
        seen: str,
        history: str = "",
        calls: Sequence[Call] = (),
        turns: Sequence[int] = (),
    ) -> None:
        """`turns` are the numbers of the tasks that went on, in their order, where the calls were scheduled."""
        super().__init__(promise, expected, seen, history)
        self.promise = promise
        self.expected = expected
        self.seen = seen
        self.history = history
        self.calls = tuple(calls)
        self.turns = tuple(turns)

    def __str__(self) -> str:
        text = f"{self.promise}\n  expected: {self.expected}\n  seen:     {self.seen}"
        return f"{text}\n\n{self.history}" if self.history else text


class NotJudged(AssertionError):
    """A check that found no promise broken, and has not seen enough of the store to say that one is kept."""

    def __init__(self, why: str, least: str, seen: str, remedy: str = "") -> None:
        """Why the check does not count, what it needs, what there was of it, and what to do, in words."""
        super().__init__(why, least, seen, remedy)
        self.why = why
        self.least = least
        self.seen = seen
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"NOT JUDGED: {self.why}\n  least: {self.least}\n  seen:  {self.seen}"
        return f"{text}\n  {self.remedy}" if self.remedy else text


class Law:
    """One law of the contract: its number, its title, and its checks, each a method `test_...(self, harness)`.

    The docstrings of the law's module and of its checks are the law's page in docs/laws.
    """

    number: ClassVar[int]
    title: ClassVar[str]


class Harness:
    """The store of a URL, as one check sees it. Not for several checks: make one for each, and close it."""

    def __init__(
        self,
        url: str,
        profile: Profile = DEFAULT,
        seed: int = 0,
        *,
        check: str = "",
        database: bool = False,
    ) -> None:
        """`check` names the check in Hypothesis' example database, which is used if `database` says so."""
        self.url = url
        self.profile = profile
        self.seed = seed
        self.seen = Seen()
        """What this check has seen, which decides whether it counts."""
        self.history = History(url, self.seen)
        self.declined: dict[str, str] = {}
        """What the store does not offer and this check asked for, with the reason."""
        self.hung = False
        """Whether a call, or what the check did with it, has not ended in its time."""
        self._check = check
        self._database = database
        self._handles: list[Recorded] = []
        self.token = str(10**8 + secrets.randbelow(9 * 10**8))
        """What the prefixes of all clean rooms of this harness begin with, and nothing else in it holds."""
        self._count = 0
        self._explored = 0
        self._loop: _LoopThread | None = None

    def beside(self, url: str) -> Harness:
        """A harness of another place, to be closed as this one. What it sees counts for this check."""
        made = Harness(url, self.profile, self.seed)
        made.seen = self.seen
        made.history = History(url, self.seen)
        return made

    # Names that are used once

    def fresh(self) -> str:
        """A prefix that no other example on this store has: 15 digits. It goes before a resource id.

        Digits, because a store that reads ids as numbers or folds their case must not be helped by the prefix.
        """
        self._count += 1
        return f"{self.token}{self._count:06}"

    def epoch(self) -> str:
        """A fresh epoch."""
        self._count += 1
        return f"epoch{self.token}{self._count:06}"

    # Handles and time

    async def open(self) -> Recorded:
        """A new handle of the store, opened, recorded, and closed when the check ends."""
        handle = self.handle()
        await handle.open()
        return handle

    @property
    def handles(self) -> Sequence[Recorded]:
        """The handles so far, in the order in which they were taken."""
        return self._handles

    async def reused(self, count: int) -> Sequence[Recorded]:
        """The first handles, so many of them: opened where there are fewer, and shared by examples and rounds."""
        while len(self._handles) < count:
            await self.open()
        return self._handles[:count]

    def handle(self, url: str = "") -> Recorded:
        """As `open`, but the store has not been opened yet. `url` is another way to the same place."""
        store = open_store(url or self.url).store
        handle = Walked(store, self.history, f"handle{len(self._handles) + 1}", self.require)
        self._handles.append(handle)
        return handle

    def run(self, work: Callable[..., Awaitable[T]], *args: Any, seconds: float | None = None) -> T:
        """Await `work(*args)` on this check's own event loop, which lives in a thread of its own.

        A store that takes longer than `seconds`, or that blocks the loop, has broken the law: LawBroken names the
        calls that did not end. So has one that raises where the check did not expect it.
        """
        limit = self.profile.seconds if seconds is None else seconds
        if self._loop is None:
            self._loop = _LoopThread()

        async def awaited() -> T:
            return await work(*args)

        try:
            return self._loop.call(awaited(), limit)
        except _Hung as hung:
            self.hung = True
            # A call that is cancelled ends, and would not be named.
            waiting = ", ".join(f"{call.handle}.{call.verb}" for call in self.history.pending) or "none of the verbs"
            broken = self.broken("every call ends", f"an end within {limit:g} s", f"still running: {waiting}")
            hung.work.cancel()
            raise broken from None
        except (ThreadkeepError, PanicError) as error:
            raise self.broken("the store does what is asked", "no error", source(error)) from error

    def explore(
        self,
        strategy: SearchStrategy[T],
        check: Callable[[T], object],
        *,
        share: float = 1.0,
    ) -> None:
        """Run `check`, sync or async, on many examples, and let the smallest failing one out.

        `share` is the part of the profile's examples that this exploration takes. The history begins anew with
        each example.
        """
        self._explored += 1
        if self.refuses:
            strategy = strategy.filter(self.takes)
        failures: list[tuple[int, BaseException]] = []
        end = float("inf")

        def example(case: T) -> None:
            nonlocal end
            if time.monotonic() > end:
                return
            self.history.clear()
            self.seen.example()
            try:
                if inspect.iscoroutinefunction(check):
                    self.run(check, case)
                else:
                    check(case)
            except AssertionError as error:
                if self.hung:
                    # Each smaller example would hang as long.
                    end = 0
                elif not failures:
                    end = time.monotonic() + self.profile.shrink_seconds
                failures.append((len(self.history.calls), error))
                raise

        # A scheme may hold + - and . which no name of a function does.
        scheme = re.sub(r"\W", "_", scheme_of(self.url))
        example.__name__ = f"{scheme}_{self._check}_{self._explored}"
        example.__qualname__ = example.__name__
        example.__annotations__ = {}
        settings = hypothesis.settings(
            max_examples=max(5, round(self.profile.examples * share)),
            deadline=None,
            database=DirectoryBasedExampleDatabase(_EXAMPLES) if self._database else None,
            suppress_health_check=list(hypothesis.HealthCheck),
            report_multiple_bugs=False,
            print_blob=False,
            verbosity=hypothesis.Verbosity.quiet,
        )
        test = hypothesis.seed(self.seed)(settings(hypothesis.given(strategy)(example)))
        try:
            with warnings.catch_warnings(action="ignore", category=HypothesisWarning):
                # It warns of long examples, whose text nobody is shown; as an error that would hide what failed.
                test()
        except (AssertionError, Flaky) as error:
            # Not every failure comes back when its example is tried again: what the store holds, or a race, may have
            # been part of it, or the time for shrinking was over. The smallest history is shown all the same.
            if not failures:
                raise
            smallest = min(failures, key=lambda failure: failure[0])[1]
            if smallest is error:
                raise
            raise smallest from error

    def some(
        self, catalogue: Sequence[T], share: float = 1.0, kind: Callable[[T], object] = lambda _: None
    ) -> Sequence[T]:
        """What of a catalogue this profile tries: one of `share * profile.share` entries; the seed says which.

        A share has entries of every `kind`, and follows no pattern in the catalogue's order. As many seeds as one entry
        stands for try all of the catalogue between them. Texts in entries are ids: what the store refuses is left out.
        """
        if self.refuses:
            catalogue = [entry for entry in catalogue if self.takes(entry, ids=True)]
        step = max(1, round(share * self.profile.share))
        kinds: dict[object, list[int]] = {}
        for index, entry in enumerate(catalogue):
            kinds.setdefault(kind(entry), []).append(index)
        chosen: list[int] = []
        first = self.seed
        for members in kinds.values():
            # By a hash: every other entry of a catalogue may well be of one sort.
            members.sort(key=lambda index: sha256(source(catalogue[index]).encode()).digest())
            chosen += members[first % step :: step] or [members[self.seed % len(members)]]
            # The shares stay of one size: the next kind goes on where this one ended.
            first -= len(members)
        return [catalogue[index] for index in sorted(chosen)]

    # Verdicts

    def offers(self, clause: Clause) -> bool:
        """Whether the store keeps a clause. Where not, its reason is kept for the report, and the check returns."""
        reason = open_store(self.url).not_offered.get(clause)
        if reason is None:
            return True
        self.decline(clause.value, reason)
        return False

    def decline(self, what: str, reason: str) -> None:
        """Note that the store does not offer `what`; the report shows it as loudly as a failure."""
        self.declined[what] = reason

    def broken(self, promise: str, expected: object, seen: object) -> LawBroken:
        """The error for a broken promise, with the history so far. Values that are no text are shown as source."""
        expected = expected if isinstance(expected, str) else source(expected)
        seen = seen if isinstance(seen, str) else source(seen)
        comment = f"{promise}\nexpected: {expected}\nseen:     {seen}"
        calls = self.history.calls
        turns = [turn.task for turn in self.history.turns]
        return LawBroken(promise, expected, seen, self.history.source(comment) if calls else "", calls, turns)

    def expect(self, promise: str, expected: object, seen: object) -> None:
        """LawBroken unless `seen` equals `expected`."""
        if seen != expected:
            raise self.broken(promise, source(expected), source(seen))

    def require(self, promise: str, kept: bool, expected: object, seen: object) -> None:
        """LawBroken unless `kept`."""
        if not kept:
            raise self.broken(promise, expected, seen)

    @property
    def refuses(self) -> Mapping[Refusal, str]:
        """Valid input that the store says it refuses, with the reason. Checks do without it; the report shows it."""
        return open_store(self.url).refuses

    @property
    def id_bytes(self) -> int:
        """Bytes of the longest id that the store takes."""
        return SHORT_ID_BYTES if Refusal.LONG_IDS in self.refuses else open_store(self.url).limits.id_bytes

    def takes(self, value: object, *, ids: bool = False) -> bool:
        """Whether the store takes a value with all that is in it; `ids` says that its texts are ids."""
        from threadkeep_contract.inputs.acceptable import taken

        return taken(value, self.refuses, ids=ids)

    async def refused(self, promise: str, kind: type[E], work: Awaitable[object]) -> E:
        """The error of `kind` that awaiting `work` raises; LawBroken where it raises another, or none."""
        try:
            result = await work
        except kind as error:
            return error
        except ThreadkeepError as error:
            raise self.broken(promise, kind.__name__, source(error)) from error
        raise self.broken(promise, kind.__name__, result)

    def settle(self, check: Callable[..., object]) -> None:
        """NotJudged where a check, which has just ended without an error, has seen less than the least it states.

        A check that the store declined has nothing to show.
        """
        missing = [] if self.declined else self.seen.shortfalls(least_of(check))
        if missing:
            raise NotJudged(
                "the check found nothing broken, and has not seen enough of the store to count",
                "; ".join(shortfall.least for shortfall in missing),
                "; ".join(shortfall.seen for shortfall in missing),
            )

    def close(self) -> None:
        """Close the handles and end the event loop. Safe to repeat."""
        handles, self._handles = self._handles, []
        try:
            for handle in handles:
                if self._loop is None or not self._loop.hung:
                    self.run(handle.close)
        finally:
            if self._loop is not None:
                self._loop.end()
                self._loop = None


_EXAMPLES: Final = ".hypothesis/examples"


class _Hung(Exception):
    """Work that has not ended in its time, and goes on."""

    def __init__(self, work: Future[Any]) -> None:
        self.work = work


async def _cancel_others() -> None:
    """Cancel all other tasks of the running loop, and wait until they have ended."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    # Given nothing to wait for, gather takes the thread's current loop, of which there may be none any more.
    await asyncio.gather(*tasks, return_exceptions=True)


class _LoopThread:
    """An event loop in a daemon thread, so that a store that blocks it cannot block the suite."""

    def __init__(self) -> None:
        self.hung = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="threadkeep-contract", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(_cancel_others())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def call(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except TimeoutError:
            if future.done():
                raise
            self.hung = True
            raise _Hung(future) from None

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(1 if self.hung else 30)


# Material that many checks use

ALL: Final = Window(before=10**6)
"""The whole of any thread that a check makes."""


def ids_of(records: Sequence[Stored]) -> list[str]:
    """The ids of records, in their order."""
    return [stored.id for stored in records]


def record(record_id: str, text: str = "") -> Record:
    """A record as core makes it of a user's message of one text."""
    body = canonical_json({"id": record_id, "role": "user", "parts": [{"type": "text", "text": text}]}, "message")
    return raw_record(record_id, body)


def raw_record(record_id: str, body: str) -> Record:
    """A record with a given body; its digest is the SHA-256 of the body."""
    return Record(record_id, sha256(body.encode()).hexdigest(), body)


class Clock:
    """Times for `Changes.at`: microseconds since 1970 UTC, each a second after the one before."""

    def __init__(self, start: int = 1_700_000_000_000_000) -> None:
        self.now = start

    def __call__(self) -> int:
        self.now += 1_000_000
        return self.now


def appending(harness: Harness, at: int, *records: Record, **fields: Any) -> Changes:
    """A commit that appends records, with a fresh epoch in case it creates the thread."""
    return Changes(at=at, epoch=harness.epoch(), append=records, **fields)
