"""Waits that fail: these stores cope with calls that are cancelled, and not with that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from threadkeep.errors import StoreUnavailable, ThreadkeepError
from threadkeep.port import Changes, Receipt, Scope, Snapshot, Thread, Window
from threadkeep_contract.saboteurs.lifecycle.handles import TURNS
from threadkeep_contract.saboteurs.remote import RemoteStore

T = TypeVar("T")


class LostAcknowledgementSentAgain(RemoteStore):
    """A commit whose connection is lost is sent once more, as if it had never arrived: its documents are put twice, and
    its conditions meet what it wrote itself."""

    fault = "lost-acknowledgement-sent-again"
    caught_by = 12
    seen_in = "redis-py `retry_on_error`, HTTP clients that repeat a POST, DynamoDB writes without a request token"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        try:
            return await super().commit(scope, changes)
        except OSError:
            return await super().commit(scope, changes)


class LostAcknowledgementToldAsOutage(RemoteStore):
    """Every error of the network is StoreUnavailable, which says that nothing was written. Some of it was."""

    fault = "lost-acknowledgement-told-as-outage"
    caught_by = 12
    seen_in = "wrappers that map ConnectionError and TimeoutError to one error, whatever was sent before"

    driver_errors = ((OSError, StoreUnavailable), (EOFError, StoreUnavailable))


class LostReadingNotRepeatable(RemoteStore):
    """A reading whose connection was lost is an error that nobody listed, and says nothing of trying again."""

    fault = "lost-reading-not-repeatable"
    caught_by = 12
    seen_in = "asyncpg: InternalClientError, `cannot switch to state 12`, where a server dies under a query"

    connection_errors = ()


class ErrorKeepsLock(RemoteStore):
    """The lock that commits take is given back when a commit ends or is cancelled, and not when it fails."""

    fault = "error-keeps-the-lock"
    caught_by = 12
    seen_in = "locks that are released in `except CancelledError` and behind the last line, not in `finally`"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.taken = False

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        for _ in range(TURNS):
            if not self.taken:
                break
            await asyncio.sleep(0)
        else:
            raise StoreUnavailable("timed out waiting for the lock")
        self.taken = True
        try:
            receipt = await super().commit(scope, changes)
        except (asyncio.CancelledError, ThreadkeepError):
            self.taken = False
            raise
        self.taken = False
        return receipt


class BrokenEverAfterError(RemoteStore):
    """A connection that failed once is known to be broken, and is never made again."""

    fault = "broken-ever-after-an-error"
    caught_by = 12
    seen_in = "aiosqlite and aiomysql clients that keep one connection for good: `connection is closed`"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.broken = False

    async def ask(self, work: Callable[[], T]) -> T:
        if self.broken:
            raise StoreUnavailable("the connection was lost")
        try:
            return await super().ask(work)
        except (OSError, EOFError):
            self.broken = True
            raise


class HalfCommitKeptOnError(RemoteStore):
    """A commit that fails is undone, since it may have been done, and its documents are forgotten in that."""

    fault = "half-a-commit-kept-on-an-error"
    caught_by = 12
    seen_in = "sagas whose clean-up knows the messages, and not what was added to the commit later"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        try:
            return await super().commit(scope, changes)
        except (OSError, EOFError) as error:
            if isinstance(scope, Thread):
                await self.ask(lambda: self.undo(scope, changes))
            raise StoreUnavailable(str(error)) from error

    def undo(self, thread: Thread, changes: Changes) -> None:
        with self.lock:
            ids = {record.id for record in changes.append}
            self.log(thread)[:] = [stored for stored in self.log(thread) if stored.id not in ids]


class ReadErrorToldAsEmpty(RemoteStore):
    """A load whose connection fails says that the thread is empty."""

    fault = "read-error-told-as-empty"
    caught_by = 12
    seen_in = "Agno Redis, LangChain Mongo: `except Exception` around a read, which returns an empty history"

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        try:
            return await super().load(scope, window)
        except Exception:  # noqa: BLE001 - this is the fault
            return Snapshot()


class AnswerStaysAfterError(RemoteStore):
    """A load that fails leaves its answer on the connection, and the next load gets it; one that is cancelled does
    not."""

    fault = "answer-stays-after-an-error"
    caught_by = 12
    seen_in = "redis-py before 5.0: a read that timed out left its reply on a connection that was used again"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.late: dict[asyncio.AbstractEventLoop, asyncio.Future[Snapshot]] = {}

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        loop = asyncio.get_running_loop()
        answer = self.late.pop(loop, None) or asyncio.ensure_future(super().load(scope, window))
        try:
            return await asyncio.shield(answer)
        except (OSError, EOFError):
            self.late[loop] = answer
            raise
