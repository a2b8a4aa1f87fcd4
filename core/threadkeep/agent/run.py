"""One run: receive the request, call the model, run tools, commit after each step.

The user's message is committed before the model is called, and a model's tool calls before the tools run, so that
what was said, and what is about to be done, is never lost. A request whose message is stored already takes up where
its turn stopped, or gives the answer that is there. A run that is cancelled or fails commits what it has by then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from threadkeep.agent.answer import Answer
from threadkeep.agent.busy import Entrance
from threadkeep.agent.calls import Job, ToolRuns, waits_for
from threadkeep.agent.events import ApprovalNeeded, Committed, Event, Finished, Forked, Reason, ResultsNeeded, Waiting
from threadkeep.agent.lease import RUN, Lease, RunRecord, Standing, Status, read_run, version_of
from threadkeep.agent.plan import Plan, fork_id, plan_request
from threadkeep.agent.recall import Recall
from threadkeep.agent.request import Request
from threadkeep.agent.turn import AGENT, TURN, TURN_MESSAGES, Turn, find_turn, retold
from threadkeep.errors import RunLost, StoreError, TailMoved, ThreadExists, ThreadkeepError, VersionMoved
from threadkeep.handles.arguments import ALL
from threadkeep.handles.thread import ThreadHandle
from threadkeep.handles.views import read_info, read_memory
from threadkeep.messages.codec import batches, decode, encode
from threadkeep.messages.model import INTERRUPTED, Message, ToolCallPart
from threadkeep.models.tools import Tool, ToolContext
from threadkeep.port.ids import new_id
from threadkeep.port.store import MISSING, Snapshot, Thread, Window
from threadkeep.telemetry import RunSpan, agent_run

if TYPE_CHECKING:
    from threadkeep.agent.agent import Agent

logger = logging.getLogger("threadkeep.agent")

_closing: Final[set[asyncio.Task[None]]] = set()
"""The last commits of runs that were cancelled again meanwhile; a task that nobody holds may vanish."""


class Run:
    """One run of an agent in a thread."""

    def __init__(self, agent: Agent, thread: ThreadHandle, request: Request) -> None:
        self._agent = agent
        self._memory = agent.memory
        self._limits = agent.memory.store.limits
        self._request = request
        self._recall = Recall(agent, request.options)
        self._tools: dict[str, Tool] = self._recall.tools
        self._turn: Turn | None = None
        self._approvals: dict[str, Any] = {}
        self._step: list[Message] = []
        self._answer: Answer | None = None
        self._jobs: list[Job] = []
        self._runs: ToolRuns | None = None
        self._span = RunSpan()
        self._anchor = ""
        self._go_to(thread)

    def _go_to(self, thread: ThreadHandle) -> None:
        request, seconds = self._request, self._agent.lease_seconds
        self._thread = thread
        self._scope = Thread(thread.resource_id, thread.thread_id)
        self._entrance = Entrance(self._memory, self._scope, seconds, reject=request.on_busy == "reject")
        self._lease = Lease(
            self._memory, self._scope, self._agent.name, seconds, exclusive=request.on_busy != "interleave"
        )

    async def events(self) -> AsyncGenerator[Event, None]:
        """The run, as its events."""
        thread = self._thread
        with agent_run(
            self._agent.name, self._agent.model, resource_id=thread.resource_id, thread_id=thread.thread_id
        ) as self._span:
            try:
                async with aclosing(self._work()) as work:
                    async for event in work:
                        if isinstance(event, Forked):
                            self._span.forked(event.thread_id)
                        elif isinstance(event, Finished):
                            self._span.finished(event.reason)
                        yield event
            except BaseException as error:
                await self._end(error)
                raise
            finally:
                self._lease.let_go()

    async def _work(self) -> AsyncGenerator[Event, None]:
        given = await self._recall.before_commit(self._request.given, self._thread)
        self._request = replace(self._request, given=tuple(given))
        async with aclosing(self._receive()) as received:
            async for event in received:
                yield event
                if isinstance(event, Finished):
                    return
        if self._status(self._now) == "running":
            self._recall.begin(self._now, self._thread)
        while self._status(self._now) == "running":
            self._lease.check()
            step = self._ask() if not self._ready(self._now) else self._run_tools()
            async with aclosing(step) as events:
                async for event in events:
                    yield event
            committed = await self._commit(self._step)
            if committed is not None:
                yield committed
            for news in self._recall.title_news():
                yield news
        await self._recall.wait_for_title()
        for news in self._recall.title_news():
            yield news
        async for event in self._finish():
            yield event

    @property
    def _now(self) -> Turn:
        if self._turn is None:
            raise AssertionError("unreachable: a run has received its request before it goes on")
        return self._turn

    # What the request means, and the taking of the thread.

    async def _receive(self) -> AsyncGenerator[Event, None]:
        """Store what the request brings, take the thread, and find out what has been said in answer already."""
        waited = False
        while True:
            snapshot = await self._load()
            loaded = decode(snapshot.records)
            plan = plan_request(self._request, loaded, snapshot.tail, self._tools)
            if plan.cut is not None and self._request.on_diverged == "fork":
                yield await self._fork(plan)
                continue
            self._anchor = plan.anchor
            self._recall_approvals(plan, snapshot)
            preview = plan.turn(plan.append, MISSING if plan.append else snapshot.tail)
            status = self._status(preview)
            if not plan.writes and (status != "running" or self._passed(preview)):
                self._turn = self._remember(preview, snapshot)
                yield Committed(tuple(plan.given), 0, snapshot.tail)
                for event in self._told_again(plan):
                    yield event
                async for event in self._finish(repeated=True):
                    yield event
                return
            if self._lease.exclusive and not self._lease.held and not self._entrance.is_free(snapshot):
                old = await self._old_turn(plan, loaded)
                if old is None:
                    if self._request.on_busy == "queue" and not waited:
                        waited = True
                        run = read_run(snapshot)
                        yield Waiting("" if run is None else run.agent)
                    await self._entrance.wait(snapshot)
                    continue
                self._turn = old
                yield Committed(tuple(plan.given), 0, old.tail)
            else:
                try:
                    committed = await self._take(plan, snapshot, status)
                except (TailMoved, VersionMoved):
                    continue
                if committed is not None:
                    yield committed
            for event in self._told_again(plan):
                yield event
            if self._now.answered or self._passed(self._now):
                if self._lease.held:
                    await self._lease.commit((), self._record(plan.anchor, "stop"), tail=None)
                async for event in self._finish(repeated=True):
                    yield event
            return

    async def _load(self) -> Snapshot:
        request = self._request
        last = self._recall.window
        if request.ids is not None:
            last = ALL
        elif request.answers:
            last = max(last, TURN_MESSAGES)
        return await self._memory.store.load(self._scope, Window(before=last))

    async def _fork(self, plan: Plan) -> Forked:
        """Go on in a new thread with the messages that the client's history and the stored one share."""
        origin = self._thread
        fork = self._request.fork_id or fork_id(origin.thread_id, self._request)
        try:
            thread = await origin.fork(fork, before=plan.cut_from)
        except ThreadExists:
            thread = self._memory.thread(origin.resource_id, fork)
        # A thread of this id that holds something else is not to be changed, nor forked once more.
        self._request = replace(self._request, regenerate=False, on_diverged="refuse")
        self._go_to(thread)
        return Forked(fork, origin.thread_id)

    def _recall_approvals(self, plan: Plan, snapshot: Snapshot) -> None:
        """What was approved and denied in this turn, also by a request whose run has died since."""
        run = read_run(snapshot)
        before = run.approvals if run is not None and run.turn == plan.anchor else {}
        self._approvals = {**before, **plan.approvals}

    def _passed(self, turn: Turn) -> bool:
        """Whether the conversation has gone on from a turn that had begun to call tools.

        Later turns were told that those calls were interrupted, and providers refuse results that come so late.
        """
        return turn.overtaken and self._lease.exclusive and turn.steps > 0

    async def _old_turn(self, plan: Plan, loaded: Sequence[Message]) -> Turn | None:
        """The turn of a message that was stored before the loaded ones, if there is nothing more to do for it."""
        if self._request.ids is not None or self._request.answers or len(plan.append) < len(plan.given):
            return None
        if not loaded or loaded[0].position == 1:
            return None
        turn = await self._find(plan.anchor)
        return turn if turn is not None and (turn.answered or self._passed(turn)) else None

    async def _take(self, plan: Plan, snapshot: Snapshot, status: Status) -> Committed | None:
        """Write what the plan says, and take the thread with the same commit. Raises TailMoved and VersionMoved."""
        if self._request.read_only:
            self._turn = self._remember(plan.turn(plan.append, MISSING), snapshot)
            return None
        records = [encode(message, self._limits) for message in plan.append]
        parts = [tuple(records)]
        if self._request.ids is not None:
            parts = batches(records, self._limits.commit_messages, self._limits.commit_bytes // 2)
        puts = () if self._lease.held else self._entrance.leaving(snapshot)
        if not self._lease.held:
            self._lease.from_version(version_of(snapshot, RUN))
        tail, drop_after = snapshot.tail, plan.drop_after
        positions: list[int] = []
        for index, part in enumerate(parts):
            record = self._record(plan.anchor, status if index == len(parts) - 1 else "running")
            receipt = await self._lease.commit(part, record, tail=tail, drop_after=drop_after, puts=puts)
            self._entrance.entered()
            positions.extend(receipt.positions)
            tail, drop_after, puts = receipt.tail, None, ()
        stored = _placed(plan.append, positions)
        if len(positions) < len(records) or (positions and positions[-1] <= snapshot.tail.position):
            # A repetition of what was stored before the loaded messages, or a commit whose outcome was unknown.
            self._turn = await self._found(plan.anchor)
        else:
            new = [message for message in stored if (message.position or 0) > snapshot.tail.position]
            self._turn = self._remember(plan.turn(new, tail), snapshot)
        place = {message.id: message for message in stored}
        given = tuple(place.get(message.id, message) for message in plan.given)
        return Committed(given, sum(position > snapshot.tail.position for position in positions), tail)

    def _remember(self, turn: Turn, snapshot: Snapshot) -> Turn:
        turn.tail = snapshot.tail if turn.tail == MISSING else turn.tail
        turn.working_memory = read_memory(snapshot.docs)
        turn.resource_memory = read_memory(snapshot.resource_docs)
        turn.title = read_info(snapshot.docs).body.get("title")
        return turn

    def _told_again(self, plan: Plan) -> list[Event]:
        """The events of what has been said in this turn and the client has not, but for half an answer."""
        turn = self._now
        said = [message for message in turn.said if message is not turn.partial]
        ids = [message.id for message in said]
        first = ids.index(plan.known_to_client) + 1 if plan.known_to_client in ids else 0
        return [*retold(said[first:], turn.tail)] if first < len(ids) else []

    async def _find(self, anchor: str) -> Turn | None:
        """The turn of a stored message as it is now, None where the message is not there."""
        window = Window(anchor, before=self._recall.window, after=TURN_MESSAGES + 1)
        snapshot = await self._memory.store.load(self._scope, window)
        messages = decode(snapshot.records)
        if not any(message.id == anchor for message in messages):
            return None
        return self._remember(find_turn(messages, anchor, snapshot.tail), snapshot)

    async def _found(self, anchor: str) -> Turn:
        """As `_find`, for a message that this run has to go on with. Raises RunLost where it is gone."""
        turn = await self._find(anchor)
        if turn is None:
            raise RunLost(self._agent.name, f"message {anchor!r}, which it answers, has been dropped")
        return turn

    # The steps.

    def _status(self, turn: Turn) -> Standing:
        """What a turn is at: "running" where this run has something to do for it."""
        if turn.answered:
            return "stop"
        waits = {waits_for(call, self._tools, self._approvals) for call in turn.pending}
        if None in waits:
            return "running"
        if waits:
            return "approval" if "approval" in waits else "client_tools"
        return "max_steps" if turn.steps >= self._request.max_steps else "running"

    def _ready(self, turn: Turn) -> list[Job]:
        """The calls of a turn that can be answered now, in order."""
        return [
            Job(call, self._approvals.get(call.tool_call_id))
            for call in turn.pending
            if waits_for(call, self._tools, self._approvals) is None
        ]

    async def _ask(self) -> AsyncGenerator[Event, None]:
        """One call of the model: its pieces as they come. Leaves its message in `_step`."""
        turn = self._now
        request = await self._recall.request(turn, self._thread)
        self._answer = Answer(self._agent.name, self._agent.model, self._span)
        async with aclosing(self._answer.events(request)) as events:
            async for event in events:
                self._lease.check()
                yield event
        message = self._answer.message
        if message is not None:
            if any(message.id == other.id for other in (*turn.context, *turn.said)):
                message = message.model_copy(update={"id": new_id()})
            self._step = await self._recall.before_commit([message], self._thread)

    async def _run_tools(self) -> AsyncGenerator[Event, None]:
        """Run the calls that can be answered now. Leaves the results in `_step`, in call order."""
        self._jobs = self._ready(self._now)
        self._runs = ToolRuns(self._tools, self._context, self._agent.tool_timeout, self._span)
        async with aclosing(self._runs.events(self._jobs)) as events:
            async for event in events:
                yield event
        self._step = await self._recall.before_commit(self._results(), self._thread)

    def _context(self, call: ToolCallPart, emit: Callable[[Any], None]) -> ToolContext:
        thread = self._thread
        return ToolContext(thread.resource_id, thread.thread_id, self._agent.name, call, self._memory, emit)

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
        marks = {AGENT: self._agent.name, TURN: self._anchor}
        step = [message.model_copy(update={"metadata": {**message.metadata, **marks}}) for message in step]
        self._step = step
        while True:
            turn = self._now
            partial = turn.partial
            if partial is not None and partial.position != turn.tail.position:
                partial = None
            said = [message for message in turn.said if message is not partial]
            after = replace(turn, said=[*said, *step])
            if self._request.read_only:
                self._turn = after
                return self._kept(None)
            status = self._status(after)
            record = self._record(self._anchor, ended if ended and status == "running" else status, after)
            try:
                receipt = await self._lease.commit(
                    [encode(message, self._limits) for message in step],
                    record,
                    tail=turn.tail,
                    drop_after=(partial.position or 1) - 1 if partial is not None else None,
                )
            except TailMoved:
                self._turn = await self._found(self._anchor)
                others = tuple(self._turn.said[len(turn.said) :])
                if others:
                    return self._kept(Committed(others, 0, self._turn.tail))
                continue
            if len(receipt.positions) < len(step):
                self._turn = await self._found(self._anchor)
                return self._kept(Committed(tuple(self._turn.said[len(said) :]), len(step), self._turn.tail))
            stored = _placed(step, receipt.positions)
            self._turn = replace(turn, said=[*said, *stored], tail=receipt.tail)
            return self._kept(Committed(tuple(stored), len(stored), receipt.tail))

    def _kept(self, committed: Committed | None) -> Committed | None:
        """Nothing of the step is left to store."""
        self._step, self._answer, self._runs = [], None, None
        return committed

    def _record(self, anchor: str, status: Status, turn: Turn | None = None, error: str | None = None) -> RunRecord:
        pending = None if turn is None else {call.tool_call_id for call in turn.pending}
        return RunRecord(
            run=self._lease.run,
            turn=anchor,
            agent=self._agent.name,
            status=status,
            seconds=self._agent.lease_seconds,
            approvals={call: said for call, said in self._approvals.items() if pending is None or call in pending},
            error=error,
        )

    # The end.

    async def _finish(self, *, repeated: bool = False) -> AsyncGenerator[Event, None]:
        turn = self._now
        status = self._status(turn)
        reason: Reason = "overtaken"
        if repeated and turn.answered:
            reason = "repeated"
        elif status != "running" and not (repeated and self._passed(turn)):
            reason = status
        waiting: dict[str | None, list[ToolCallPart]] = {}
        for call in turn.pending if reason in ("approval", "client_tools") else ():
            waiting.setdefault(waits_for(call, self._tools, self._approvals), []).append(call)
        if "approval" in waiting:
            yield ApprovalNeeded(tuple(waiting["approval"]))
        if "client_tools" in waiting:
            yield ResultsNeeded(tuple(waiting["client_tools"]))
        yield Finished(reason, turn.reply, turn.tail)

    async def _end(self, error: BaseException) -> None:
        """Store what there is of a run that was cancelled or failed, and let go of the thread, come what may."""
        status: Status = "failed" if isinstance(error, Exception) else "cancelled"
        work = asyncio.ensure_future(self._close(status, error))
        _closing.add(work)
        work.add_done_callback(_closing.discard)
        await asyncio.shield(work)

    async def _close(self, status: Status, error: BaseException) -> None:
        try:
            await self._entrance.leave()
            if self._request.read_only or self._lease.lost:
                return
            await self._learn_outcome()
            if self._turn is None and not self._lease.held:
                return
            if self._turn is not None:
                try:
                    step = self._step or await self._recall.before_commit(self._left_over(status), self._thread)
                    if step:
                        await self._commit(step, status)
                except StoreError:
                    raise
                except ThreadkeepError:
                    # It cannot be stored at all; what was stored before stays.
                    logger.warning("the last step of a run could not be stored", exc_info=True)
            if self._lease.held:
                record = self._record(self._anchor, status, self._turn, type(error).__name__)
                await self._lease.commit((), record, tail=None)
        except ThreadkeepError as failure:
            logger.warning(
                "a run of agent %r was %s, and could not let go of its thread: %s", self._agent.name, status, failure
            )

    async def _learn_outcome(self) -> None:
        """Where the run was stopped in the middle of a commit, see that it has happened or has not."""
        try:
            receipt = await self._lease.finish_cut()
        except (TailMoved, VersionMoved):
            return
        if receipt is not None:
            self._turn = await self._find(self._anchor)
            self._kept(None)

    def _left_over(self, status: Status) -> list[Message]:
        """What was said or done since the last commit."""
        if self._answer is not None:
            said = self._answer.partial()
            return [] if said is None else [said.model_copy(update={"metadata": {INTERRUPTED: status}})]
        return self._results()


def _placed(messages: Sequence[Message], positions: Sequence[int]) -> list[Message]:
    return [
        message.model_copy(update={"position": position})
        for message, position in zip(messages, positions, strict=False)
    ]
