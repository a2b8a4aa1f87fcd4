"""Between the handles and a store: checks before every verb, the driver's errors translated after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from os import getpid
from typing import TypeVar

from threadkeep.errors import (
    InvalidContent,
    InvalidInput,
    LimitExceeded,
    MessageConflict,
    OutcomeUnknown,
    StoreClosed,
    StoreError,
    StoreUnavailable,
    ThreadkeepError,
)
from threadkeep.port.checks import MAX_COUNT, MAX_POSITION, MAX_TIME, MIN_TIME, check_page, is_int
from threadkeep.port.ids import check_id
from threadkeep.port.limits import Limits, check_size
from threadkeep.port.opening import Opening
from threadkeep.port.refusals import Refusal, check_refused_body, check_refused_id
from threadkeep.port.store import (
    After,
    Changes,
    Clause,
    Costs,
    Meter,
    Order,
    Put,
    Receipt,
    Record,
    Resource,
    Scope,
    Snapshot,
    Store,
    Thread,
    ThreadRow,
    Window,
)

T = TypeVar("T")

_NOTHING = Window()


class Guard:
    """A store as handles, commands and the contract suite see it: the same five verbs, checked and translated.

    It opens the store at the first verb. It is no Store itself, so that one cannot be guarded twice.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._opening = Opening(
            lambda: self._translated(self.store.open, writes=False),
            lambda: self._translated(self.store.close, writes=False),
        )

    @property
    def limits(self) -> Limits:
        return self.store.limits

    @property
    def costs(self) -> Costs:
        return self.store.costs

    @property
    def meter(self) -> Meter:
        return self.store.meter

    @property
    def not_offered(self) -> Mapping[Clause, str]:
        return self.store.not_offered

    @property
    def refuses(self) -> Mapping[Refusal, str]:
        return self.store.refuses

    async def open(self) -> None:
        """See `Store.open`. All who open at once, in tasks, event loops and threads, share one opening.

        StoreClosed after `close`, and StoreError in a process that was forked off after the opening.
        """
        await self._opening.open()

    async def close(self) -> None:
        """See `Store.close`."""
        await self._opening.close()

    async def load(self, scope: Scope, window: Window = _NOTHING) -> Snapshot:
        """See `Store.load`."""
        self._check_scope(scope)
        self._check_window(window)
        if self._opening.process != getpid():
            await self.open()
        return await self._translated(lambda: self.store.load(scope, window), writes=False)

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        """See `Store.commit`. The same record twice in one append is one record; its other place gets its position."""
        self._check_scope(scope)
        unique = self._check_changes(scope, changes)
        if self._opening.process != getpid():
            await self.open()
        if len(unique) == len(changes.append):
            return await self._translated(lambda: self.store.commit(scope, changes), writes=True)
        fewer = replace(changes, append=tuple(unique.values()))
        receipt = await self._translated(lambda: self.store.commit(scope, fewer), writes=True)
        places = dict(zip(unique, receipt.positions, strict=True))
        return replace(receipt, positions=tuple(places[record.id] for record in changes.append))

    async def delete(self, scope: Scope) -> None:
        """See `Store.delete`."""
        self._check_scope(scope)
        if self._opening.process != getpid():
            await self.open()
        await self._translated(lambda: self.store.delete(scope), writes=True)

    async def threads(
        self,
        resource: Resource,
        after: After | None = None,
        limit: int = 100,
        order: Order = "created",
        slots: Sequence[str] = (),
    ) -> Sequence[ThreadRow]:
        """See `Store.threads`."""
        self._check_scope(resource)
        check_page(limit)
        if order not in ("created", "active"):
            raise InvalidInput(f"threads are listed by 'created' or 'active', not {order!r}")
        if after is not None:
            self._check_id("thread_id", after.thread_id)
            if not is_int(after.at, MIN_TIME, MAX_TIME):
                raise InvalidInput(f"a place in a list of threads has a time in microseconds, not {after.at!r}")
        if self._opening.process != getpid():
            await self.open()
        return await self._translated(lambda: self.store.threads(resource, after, limit, order, slots), writes=False)

    async def resources(self, after: str | None = None, limit: int = 100) -> Sequence[str]:
        """See `Store.resources`."""
        check_page(limit)
        if after is not None:
            self._check_id("resource_id", after)
        if self._opening.process != getpid():
            await self.open()
        return await self._translated(lambda: self.store.resources(after, limit), writes=False)

    def _check_id(self, kind: str, value: str) -> None:
        check_id(kind, value, self.limits)
        if self.store.refuses:
            check_refused_id(kind, value, self.store.refuses)

    def _check_scope(self, scope: Scope) -> None:
        self._check_id("resource_id", scope.resource_id)
        if isinstance(scope, Thread):
            self._check_id("thread_id", scope.thread_id)

    def _check_window(self, window: Window) -> None:
        anchor = window.anchor
        if isinstance(anchor, str):
            self._check_id("message id", anchor)
        elif anchor is not None and not is_int(anchor, -MAX_POSITION, MAX_POSITION):
            raise InvalidInput(f"a place in a thread is a position or a message id, not {anchor!r}")
        for count in (window.before, window.after):
            if not is_int(count, 0, MAX_COUNT):
                raise InvalidInput(f"a window counts records from 0 up, not {count!r}")

    def _check_changes(self, scope: Scope, changes: Changes) -> dict[str, Record]:
        limits = self.limits
        if isinstance(scope, Resource):
            if not changes.puts or changes != Changes(at=changes.at, puts=changes.puts):
                raise InvalidInput("a commit to a resource has puts and nothing else")
        elif not changes.epoch:
            raise InvalidInput("a commit to a thread needs an epoch, in case it creates the thread")
        if not is_int(changes.at, MIN_TIME, MAX_TIME):
            raise InvalidInput(
                f"the time of a commit is in whole microseconds since 1970, of the years 1 to 9999, not {changes.at!r}"
            )
        if changes.drop_after is not None and not is_int(changes.drop_after, 0, MAX_POSITION):
            raise InvalidInput(f"drop_after is a position or 0, not {changes.drop_after!r}")
        unique: dict[str, Record] = {}
        size = 0
        for record in changes.append:
            self._check_id("message id", record.id)
            size += check_size("message_bytes", record.body, limits, "message", record.id)
            if self.store.refuses:
                check_refused_body("a message", record.body, self.store.refuses)
            if unique.setdefault(record.id, record).digest != record.digest:
                raise MessageConflict(record.id)
        if len(unique) > limits.commit_messages:
            raise LimitExceeded(
                "commit_messages", limits.commit_messages, len(unique), "the number of messages in one commit"
            )
        for puts in (changes.puts, changes.resource_puts):
            if len({put.slot for put in puts}) < len(puts):
                raise InvalidInput("a commit puts each document once")
            for put in puts:
                size += self._check_put(put)
        if size > limits.commit_bytes:
            raise LimitExceeded("commit_bytes", limits.commit_bytes, size, "one commit (bytes of JSON)")
        return unique

    def _check_put(self, put: Put) -> int:
        self._check_id("slot", put.slot)
        if put.if_version is not None and not is_int(put.if_version, 0, MAX_POSITION):
            raise InvalidInput(f"if_version is a version from 0 up, or None for any, not {put.if_version!r}")
        if put.body is None:
            return 0
        if not isinstance(put.body, str):
            raise InvalidContent(f"the body of {put.slot} must be JSON text, not {type(put.body).__name__}")
        if self.store.refuses:
            check_refused_body(put.slot, put.body, self.store.refuses)
        return check_size("working_memory_bytes", put.body, self.limits, put.slot)

    async def _translated(self, verb: Callable[[], Awaitable[T]], *, writes: bool) -> T:
        try:
            answer = await verb()
        except ThreadkeepError:
            raise
        except Exception as error:
            raise self._translate(error, writes=writes) from error
        # Of a call that was under way when the process was forked off, the answer is the parent's.
        self._opening.check_process()
        return answer

    def _translate(self, error: Exception, *, writes: bool) -> ThreadkeepError:
        for kind, meaning in self.store.driver_errors:
            if isinstance(error, kind):
                ours = meaning(str(error)) if isinstance(meaning, type) else meaning(error)
                if ours is not None:
                    return ours
        if self._opening.closed and not writes:
            return StoreClosed()
        what = f"{type(error).__name__}: {error}"
        if writes:
            return OutcomeUnknown(what)
        is_lost = isinstance(error, tuple(self.store.connection_errors))
        return StoreUnavailable(what) if is_lost else StoreError(what)
