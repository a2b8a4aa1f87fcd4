"""One run: receive the request, call the model, run tools, commit after each step.

The user's message is committed before the model is called, and a model's tool calls before the tools run, so that
what was said, and what is about to be done, is never lost. A request whose message is stored already takes up where
its turn stopped, or gives the answer that is there. A run that is cancelled or fails commits what it has by then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from threadkeep.agent.events import ApprovalNeeded, Event, Finished, Forked, Reason, ResultsNeeded
from threadkeep.agent.lease import Status
from threadkeep.agent.receiver import Receiver
from threadkeep.agent.request import Request
from threadkeep.agent.settings import AgentSettings
from threadkeep.agent.state import RunState
from threadkeep.agent.steps import Steps
from threadkeep.errors import StoreError, TailMoved, ThreadkeepError, VersionMoved
from threadkeep.handles.memory import Memory
from threadkeep.handles.thread import ThreadHandle
from threadkeep.telemetry import agent_run

_log: Final = logging.getLogger("threadkeep.agent")

_closing: Final[set[asyncio.Task[None]]] = set()
"""The last commits of runs that were cancelled again meanwhile; a task that nobody holds may vanish."""


class Run:
    """One run of an agent in a thread."""

    def __init__(self, settings: AgentSettings, memory: Memory, thread: ThreadHandle, request: Request) -> None:
        self._state = RunState(settings, memory, thread, request)
        self._steps = Steps(self._state)

    async def events(self) -> AsyncGenerator[Event, None]:
        """The run, as its events."""
        state = self._state
        settings, thread = state.settings, state.thread
        with agent_run(
            settings.name, settings.model, resource_id=thread.resource_id, thread_id=thread.thread_id
        ) as span:
            state.span = span
            try:
                async with aclosing(self._work()) as work:
                    async for event in work:
                        if isinstance(event, Forked):
                            span.forked(event.thread_id)
                        elif isinstance(event, Finished):
                            span.finished(event.reason)
                        yield event
            except BaseException as error:
                await self._end(error)
                raise
            finally:
                state.lease.let_go()

    async def _work(self) -> AsyncGenerator[Event, None]:
        state = self._state
        given = await state.recall.before_commit(state.request.given, state.thread)
        state.request = replace(state.request, given=tuple(given))
        receiver = Receiver(state)
        async with aclosing(receiver.events()) as received:
            async for event in received:
                yield event
        if not receiver.repeated:
            if state.status(state.now) == "running":
                state.recall.begin(state.now, state.thread)
            async with aclosing(self._steps.events()) as made:
                async for event in made:
                    yield event
            await state.recall.wait_for_title()
            for news in state.recall.title_news():
                yield news
        for event in self._last_events(repeated=receiver.repeated):
            yield event

    def _last_events(self, *, repeated: bool) -> Iterator[Event]:
        """What the turn waits for, and why the run ends."""
        state = self._state
        turn = state.now
        status = state.status(turn)
        reason: Reason = "overtaken"
        if repeated and turn.answered:
            reason = "repeated"
        elif status != "running" and not (repeated and state.passed(turn)):
            reason = status
        if reason in ("approval", "client_tools"):
            approval = tuple(call for call in turn.pending if state.waits_for(call) == "approval")
            client = tuple(call for call in turn.pending if state.waits_for(call) == "client_tools")
            if approval:
                yield ApprovalNeeded(approval)
            if client:
                yield ResultsNeeded(client)
        yield Finished(reason, turn.reply, turn.tail)

    async def _end(self, error: BaseException) -> None:
        """Store what there is of a run that was cancelled or failed, and let go of the thread, come what may."""
        status: Status = "failed" if isinstance(error, Exception) else "cancelled"
        work = asyncio.ensure_future(self._close(status, error))
        _closing.add(work)
        work.add_done_callback(_closing.discard)
        await asyncio.shield(work)

    async def _close(self, status: Status, error: BaseException) -> None:
        state = self._state
        try:
            await state.entrance.leave()
            if state.request.read_only or state.lease.lost:
                return
            await self._learn_outcome()
            if state.turn is None and not state.lease.held:
                return
            if state.turn is not None:
                try:
                    await self._steps.store_rest(status)
                except StoreError:
                    raise
                except ThreadkeepError:
                    # It cannot be stored at all; what was stored before stays.
                    _log.warning("the last step of a run could not be stored", exc_info=True)
            if state.lease.held:
                record = state.record(status, state.turn, type(error).__name__)
                await state.lease.commit((), record, tail=None)
        except ThreadkeepError as failure:
            name = state.settings.name
            _log.warning("a run of agent %r was %s, and could not let go of its thread: %s", name, status, failure)

    async def _learn_outcome(self) -> None:
        """Where the run was stopped in the middle of a commit, see that it has happened or has not."""
        state = self._state
        try:
            receipt = await state.lease.finish_cut()
        except (TailMoved, VersionMoved):
            return
        if receipt is not None:
            state.turn = await state.find(state.anchor)
            self._steps.forget()
