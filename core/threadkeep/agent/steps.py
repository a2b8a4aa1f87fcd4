"""The stepping half of a run: ask the model or run its tools, and commit what came of it, until the turn is done."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from threadkeep.agent.answer import Answer
from threadkeep.agent.calls import Job, ToolRuns
from threadkeep.agent.events import Committed, Event
from threadkeep.agent.lease import Status
from threadkeep.agent.state import RunState, placed
from threadkeep.agent.turn import AGENT, TURN
from threadkeep.errors import TailMoved
from threadkeep.messages.codec import encode
from threadkeep.messages.model import INTERRUPTED, Message, ToolCallPart
from threadkeep.models.tools import ToolContext
from threadkeep.port.ids import new_id


class Steps:
    """Makes the steps of a turn. What a step has brought and is not stored yet is kept here."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._step: list[Message] = []
        """The messages that the step has made, as they shall be stored."""
        self._answer: Answer | None = None
        """The call of the model that is under way."""
        self._jobs: list[Job] = []
        self._runs: ToolRuns | None = None
        """The tool calls that are under way."""

    async def events(self) -> AsyncGenerator[Event, None]:
        """Make steps while there is something to do for the turn: their events, and the news of the title."""
        state = self._state
        while state.status(state.now) == "running":
            state.lease.check()
            step = self._run_tools() if state.ready(state.now) else self._ask()
            async with aclosing(step) as events:
                async for event in events:
                    yield event
            committed = await self._commit(self._step)
            if committed is not None:
                yield committed
            for news in state.recall.title_news():
                yield news

    async def _ask(self) -> AsyncGenerator[Event, None]:
        """One call of the model: its pieces as they come. Leaves its message in `_step`."""
        state, turn = self._state, self._state.now
        request = await state.recall.request(turn, state.thread)
        self._answer = Answer(state.settings.name, state.settings.model, state.span)
        async with aclosing(self._answer.events(request)) as events:
            async for event in events:
                state.lease.check()
                yield event
        message = self._answer.message
        if message is not None:
            if any(message.id == other.id for other in (*turn.context, *turn.said)):
                message = message.model_copy(update={"id": new_id()})
            self._step = await state.recall.before_commit([message], state.thread)

    async def _run_tools(self) -> AsyncGenerator[Event, None]:
        """Run the calls that can be answered now. Leaves the results in `_step`, in call order."""
        state = self._state
        self._jobs = state.ready(state.now)
        self._runs = ToolRuns(state.tools, self._context, state.settings.tool_timeout, state.span)
        async with aclosing(self._runs.events(self._jobs)) as events:
            async for event in events:
                yield event
        self._step = await state.recall.before_commit(self._results(), state.thread)

    def _context(self, call: ToolCallPart, emit: Callable[[Any], None]) -> ToolContext:
        state = self._state
        thread = state.thread
        return ToolContext(thread.resource_id, thread.thread_id, state.settings.name, call, state.memory, emit)

    def _results(self) -> list[Message]:
        """The messages of the calls that have been answered by now."""
        found = self._runs.results if self._runs is not None else {}
        return [
            Message(role="tool", parts=[found[index]], metadata=job.metadata)
            for index, job in enumerate(self._jobs)
            if index in found
        ]

    async def _commit(self, step: list[Message], ended: Status | None = None) -> Committed | None:
        """Store a step at the tail, in place of an answer that was interrupted.

        Without a hold on the thread, where another run of the same turn was faster, its step stands and this one goes.
        `ended` says how the run has ended, where there is more to do for the turn.
        """
        state = self._state
        marks = {AGENT: state.settings.name, TURN: state.anchor}
        step = [message.model_copy(update={"metadata": {**message.metadata, **marks}}) for message in step]
        self._step = step
        while True:
            turn = state.now
            partial = turn.partial
            if partial is not None and partial.position != turn.tail.position:
                partial = None
            said = [message for message in turn.said if message is not partial]
            after = replace(turn, said=[*said, *step])
            if state.request.read_only:
                state.turn = after
                self.forget()
                return None
            status: Status = state.status(after)
            if ended is not None and status == "running":
                status = ended
            try:
                receipt = await state.lease.commit(
                    [encode(message, state.limits) for message in step],
                    state.record(status, after),
                    tail=turn.tail,
                    drop_after=None if partial is None else (partial.position or 1) - 1,
                )
            except TailMoved:
                state.turn = await state.found(state.anchor)
                others = tuple(state.turn.said[len(turn.said) :])
                if not others:
                    continue
                self.forget()
                return Committed(others, 0, state.turn.tail)
            if len(receipt.positions) < len(step):
                state.turn = await state.found(state.anchor)
                self.forget()
                return Committed(tuple(state.turn.said[len(said) :]), len(step), state.turn.tail)
            stored = placed(step, receipt.positions)
            state.turn = replace(turn, said=[*said, *stored], tail=receipt.tail)
            self.forget()
            return Committed(tuple(stored), len(stored), receipt.tail)

    def forget(self) -> None:
        """Nothing of the step is left to store."""
        self._step = []
        self._answer = None
        self._runs = None

    async def store_rest(self, ended: Status) -> None:
        """Store what was said or done since the last commit, in a run that ended like this. Raises as a step does."""
        state = self._state
        step = self._step or await state.recall.before_commit(self._left_over(ended), state.thread)
        if step:
            await self._commit(step, ended)

    def _left_over(self, ended: Status) -> list[Message]:
        if self._answer is not None:
            said = self._answer.partial()
            return [] if said is None else [said.model_copy(update={"metadata": {INTERRUPTED: ended}})]
        return self._results()
