"""A run's hold on its thread: a document that each commit of the run writes together with its messages.

The document's version is the run's heartbeat. Whoever waits sees by his own clock that it stands still, so that no two
clocks are ever compared; and whoever takes the thread over moves the version, so that the old run cannot write again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, TypeAlias

from threadkeep.errors import OutcomeUnknown, RunLost, StoreDamaged, StoreError, TailMoved, VersionMoved
from threadkeep.handles.access import Access
from threadkeep.port.canonical import canonical_json
from threadkeep.port.ids import new_id
from threadkeep.port.store import Changes, Put, Receipt, Record, Snapshot, Tail, Thread, Window

RUN: Final = "run"
"""The slot of a thread's document about the run that is, or was last, at work in it."""

LEASE_SECONDS: Final = 15.0
"""How long a run may be silent before others take it for dead. It renews three times in this time."""

REPEAT_AFTER: Final = (0.1, 0.5, 2.0)
"""Seconds before each repetition of a commit whose outcome is unknown, or that the store could not take."""

Standing: TypeAlias = Literal["running", "stop", "max_steps", "approval", "client_tools"]
"""What a turn is at: there is something to do for it, it is answered, or what it waits for."""
Status: TypeAlias = Standing | Literal["cancelled", "failed"]

_log: Final = logging.getLogger("threadkeep.agent")


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a thread's document says of a run."""

    run: str
    """A token of the run's own."""
    turn: str
    """The id of the message that the run answers."""
    agent: str
    status: Status
    seconds: float
    """How long the run may be silent."""
    commits: int = 0
    """How many commits the run has made, this one not counted."""
    approvals: Mapping[str, Any] = field(default_factory=dict)
    """By tool call id: what was answered to calls of this turn that need approval, and are not yet run."""
    error: str | None = None
    """The kind of the error that ended the run."""

    def body(self) -> str:
        """The document's text."""
        plain: dict[str, Any] = {
            "run": self.run,
            "turn": self.turn,
            "agent": self.agent,
            "status": self.status,
            "seconds": self.seconds,
            "commits": self.commits,
        }
        if self.approvals:
            plain["approvals"] = dict(self.approvals)
        if self.error:
            plain["error"] = self.error
        return canonical_json(plain, "the record of a run")


def read_run(snapshot: Snapshot) -> RunRecord | None:
    """What a snapshot says of the last run in its thread, None where there never was one."""
    doc = snapshot.docs.get(RUN)
    if doc is None or doc.body is None:
        return None
    try:
        body = json.loads(doc.body)
        names = [field.name for field in fields(RunRecord)]
        return RunRecord(**{name: body[name] for name in names if name in body})
    except (ValueError, TypeError) as error:
        raise StoreDamaged(f"the record of a thread's last run cannot be read: {error}") from error


def version_of(snapshot: Snapshot, slot: str) -> int:
    """The version of a document, 0 where there is none."""
    doc = snapshot.docs.get(slot)
    return 0 if doc is None else doc.version


class Lease:
    """The commits of one run. With `exclusive` False the thread is not held, and others may write beside the run.

    A commit that the store could not take, or whose outcome is unknown, is repeated a few times; whether it happened
    is read from the run's document and the records.
    """

    def __init__(self, access: Access, scope: Thread, agent: str, seconds: float, *, exclusive: bool) -> None:
        self.run = new_id()
        self.exclusive = exclusive
        self.seconds = seconds
        self._access = access
        self._scope = scope
        self._agent = agent
        self._lock = asyncio.Lock()
        self._record: RunRecord | None = None
        self._version = 0
        self._epoch = ""
        self._lost = ""
        self._cut: _Commit | None = None
        self._touched = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._renewal: asyncio.Task[None] | None = None

    @property
    def held(self) -> bool:
        """Whether the thread is held: the run has begun, and its last commit did not end it."""
        return self._record is not None and self._record.status == "running" and not self._lost

    @property
    def lost(self) -> bool:
        """Whether another run is known to have taken the thread over."""
        return bool(self._lost)

    def check(self) -> None:
        """Raises RunLost where the thread is known to be lost."""
        if self._lost:
            raise RunLost(self._agent, self._lost)

    def from_version(self, version: int) -> None:
        """The version of the run's document that the next commit replaces."""
        self._version = version

    async def commit(
        self,
        records: Sequence[Record],
        record: RunRecord,
        *,
        tail: Tail | None,
        drop_after: int | None = None,
        puts: tuple[Put, ...] = (),
    ) -> Receipt:
        """Write records at a tail, and what is known of the run. The first commit takes the thread.

        `tail` None: wherever the thread ends, as long as it is the same thread.

        The receipt has no positions where they cannot be known: then the thread has to be loaded again.
        Raises TailMoved, VersionMoved (of `puts`, or of a thread that was not taken yet) and what the store raises;
        RunLost where another run has taken the thread over. Nothing is written then.
        """
        self.check()
        async with self._lock:
            self.check()
            record = replace(record, commits=0 if self._record is None else self._record.commits + 1)
            commit = _Commit(tuple(records), record, tail, drop_after, puts)
            return await self._send(commit)

    async def finish_cut(self) -> Receipt | None:
        """Learn what became of a commit that was cancelled, by repeating it. None where there is none. As `commit`."""
        self.check()
        async with self._lock:
            return None if self._cut is None else await self._send(self._cut, unsure=True)

    async def _send(self, commit: _Commit, *, unsure: bool = False) -> Receipt:
        pauses = list(REPEAT_AFTER)
        while True:
            self._cut = commit
            try:
                receipt = await self._access.store.commit(self._scope, self._changes(commit))
            except (TailMoved, VersionMoved) as error:
                self._cut = None
                happened = await self._look(commit, error, unsure=unsure)
                if happened is None:
                    continue
                receipt = happened
            except StoreError as error:
                unsure = unsure or isinstance(error, OutcomeUnknown)
                if not pauses or not error.retryable:
                    self._cut = commit if unsure else None
                    raise
                await asyncio.sleep(pauses.pop(0))
                continue
            except Exception:
                self._cut = None
                raise
            self._done(commit, receipt)
            return receipt

    def _changes(self, commit: _Commit) -> Changes:
        puts = commit.puts
        if self.exclusive:
            puts = (Put(RUN, commit.record.body(), self._version), *puts)
        return Changes(
            at=self._access.now(),
            epoch=new_id(),
            append=commit.records,
            puts=puts,
            drop_after=commit.drop_after,
            if_tail=commit.tail,
            if_epoch=self._epoch if commit.tail is None else None,
            seen=commit.tail,
        )

    async def _look(self, commit: _Commit, error: TailMoved | VersionMoved, *, unsure: bool) -> Receipt | None:
        """What a commit that met a conflict came to: its receipt if it had happened, None if it may be tried again."""
        if not self.exclusive and not unsure:
            raise error
        records = commit.records
        anchor = records[0].id if records else None
        snapshot = await self._access.store.load(self._scope, Window(anchor, after=len(records)))
        if self.exclusive:
            now = read_run(snapshot)
            mine = now is not None and now.run == self.run
            if not mine and self._record is None:
                raise error
            if not mine:
                self._lost = "another run has taken its thread over"
                self.check()
        if unsure and self._has_happened(commit, snapshot):
            self._version = version_of(snapshot, RUN) - 1
            positions = [stored.position for stored in snapshot.records] if _same(snapshot, records) else []
            return Receipt(snapshot.tail, positions)
        stale = self.exclusive and version_of(snapshot, RUN) != self._version
        if stale and self._record is not None:
            # A renewal whose outcome was unknown has happened.
            self._version = version_of(snapshot, RUN)
            return None
        raise error

    def _has_happened(self, commit: _Commit, snapshot: Snapshot) -> bool:
        """Whether a thread shows that a commit was made: by the run's document, or by the records without a hold."""
        if self.exclusive:
            return _body(snapshot) == commit.record.body()
        return _same(snapshot, commit.records)

    def _done(self, commit: _Commit, receipt: Receipt) -> None:
        self._cut = None
        self._record = commit.record
        self._epoch = receipt.tail.epoch
        self._version += 1
        if not self.exclusive:
            return
        self._touched = asyncio.get_running_loop().time()
        if not self.held:
            self.let_go()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.seconds / 3, self._start_renewal)

    def let_go(self) -> None:
        """Renew no more. What is in the store stays as the last commit left it."""
        if self._timer is not None:
            self._timer.cancel()
        if self._renewal is not None and self._renewal is not asyncio.current_task():
            self._renewal.cancel()

    def _start_renewal(self) -> None:
        self._renewal = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        pause = 0.0
        while self.held:
            await asyncio.sleep(max(pause, self._touched + self.seconds / 3 - loop.time()))
            async with self._lock:
                record = self._record
                if record is None or loop.time() < self._touched + self.seconds / 3:
                    continue
                try:
                    await self._beat(record)
                    pause = 0.0
                except StoreError as error:
                    _log.warning("a run could not renew its hold on a thread: %s", error)
                    pause = self.seconds / 10
                except (TailMoved, VersionMoved):
                    self._lost = "another run has taken its thread over, or the thread was deleted"

    async def _beat(self, record: RunRecord) -> None:
        body = record.body()
        changes = Changes(
            at=self._access.now(), epoch=new_id(), puts=(Put(RUN, body, self._version),), if_epoch=self._epoch
        )
        try:
            await self._access.store.commit(self._scope, changes)
            self._version += 1
        except VersionMoved:
            snapshot = await self._access.store.load(self._scope, Window())
            now = read_run(snapshot)
            if now is None or now.run != self.run:
                raise
            self._version = version_of(snapshot, RUN)
        self._touched = asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True)
class _Commit:
    records: tuple[Record, ...]
    record: RunRecord
    tail: Tail | None
    drop_after: int | None
    puts: tuple[Put, ...]


def _body(snapshot: Snapshot) -> str | None:
    doc = snapshot.docs.get(RUN)
    return None if doc is None else doc.body


def _same(snapshot: Snapshot, records: Sequence[Record]) -> bool:
    stored = [(entry.id, entry.digest) for entry in snapshot.records] if records else []
    return stored == [(record.id, record.digest) for record in records]
