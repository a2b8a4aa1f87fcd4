"""The receiving half of a run: what the request means for the thread, and the taking of the thread."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from threadkeep.agent.events import Committed, Event, Forked, Waiting
from threadkeep.agent.lease import RUN, Status, read_run, version_of
from threadkeep.agent.plan import Plan, fork_id, plan_request
from threadkeep.agent.state import RunState, placed
from threadkeep.agent.turn import TURN_MESSAGES, Turn, retold
from threadkeep.errors import TailMoved, ThreadExists, VersionMoved
from threadkeep.handles.arguments import ALL
from threadkeep.messages.codec import batches, decode, encode
from threadkeep.messages.model import Message
from threadkeep.port.store import MISSING, Snapshot, Window


class Receiver:
    """Stores what a request brings, takes the thread, and finds out what has been said in answer already."""

    def __init__(self, state: RunState) -> None:
        self.repeated = False
        """Whether there is nothing to do for the turn, since the request is a repetition."""
        self._state = state

    async def events(self) -> AsyncGenerator[Event, None]:
        """Receive the request: its events. Leaves the turn in the state."""
        state = self._state
        told_to_wait = False
        while True:
            snapshot = await self._load()
            loaded = decode(snapshot.records)
            plan = plan_request(state.request, loaded, snapshot.tail, state.tools)
            if plan.cut is not None and state.request.on_diverged == "fork":
                yield await self._fork(plan)
                continue
            state.anchor = plan.anchor
            self._recall_approvals(plan, snapshot)
            preview = plan.turn(plan.append, MISSING if plan.append else snapshot.tail)
            status = state.status(preview)
            if not plan.writes and (status != "running" or state.passed(preview)):
                state.turn = state.remember(preview, snapshot)
                self.repeated = True
                yield Committed(tuple(plan.given), 0, snapshot.tail)
                for event in self._told_again(plan):
                    yield event
                return
            if state.lease.exclusive and not state.lease.held and not state.entrance.is_free(snapshot):
                old = await self._old_turn(plan, loaded)
                if old is None:
                    if state.request.on_busy == "queue" and not told_to_wait:
                        told_to_wait = True
                        run = read_run(snapshot)
                        yield Waiting("" if run is None else run.agent)
                    await state.entrance.wait(snapshot)
                    continue
                state.turn = old
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
            if state.now.answered or state.passed(state.now):
                self.repeated = True
                if state.lease.held:
                    await state.lease.commit((), state.record("stop"), tail=None)
            return

    async def _load(self) -> Snapshot:
        state = self._state
        last = state.recall.window
        if state.request.ids is not None:
            last = ALL
        elif state.request.answers:
            last = max(last, TURN_MESSAGES)
        return await state.access.store.load(state.scope, Window(before=last))

    async def _fork(self, plan: Plan) -> Forked:
        """Go on in a new thread with the messages that the client's history and the stored one share."""
        state = self._state
        origin = state.thread
        fork = state.request.fork_id or fork_id(origin.thread_id, state.request)
        try:
            thread = await origin.fork(fork, before=plan.cut_from)
        except ThreadExists:
            thread = state.memory.thread(origin.resource_id, fork)
        # A thread of this id that holds something else is not to be changed, nor forked once more.
        state.request = replace(state.request, regenerate=False, on_diverged="refuse")
        state.go_to(thread)
        return Forked(fork, origin.thread_id)

    def _recall_approvals(self, plan: Plan, snapshot: Snapshot) -> None:
        """What was approved and denied in this turn, also by a request whose run has died since."""
        run = read_run(snapshot)
        before = run.approvals if run is not None and run.turn == plan.anchor else {}
        self._state.approvals = {**before, **plan.approvals}

    async def _old_turn(self, plan: Plan, loaded: Sequence[Message]) -> Turn | None:
        """The turn of a message that was stored before the loaded ones, if there is nothing more to do for it."""
        state = self._state
        if state.request.ids is not None or state.request.answers or len(plan.append) < len(plan.given):
            return None
        if not loaded or loaded[0].position == 1:
            return None
        turn = await state.find(plan.anchor)
        return turn if turn is not None and (turn.answered or state.passed(turn)) else None

    async def _take(self, plan: Plan, snapshot: Snapshot, status: Status) -> Committed | None:
        """Write what the plan says, and take the thread with the same commit. Raises TailMoved and VersionMoved."""
        state = self._state
        if state.request.read_only:
            state.turn = state.remember(plan.turn(plan.append, MISSING), snapshot)
            return None
        records = [encode(message, state.limits) for message in plan.append]
        parts = [tuple(records)]
        if state.request.ids is not None:
            parts = batches(records, state.limits.commit_messages, state.limits.commit_bytes // 2)
        puts = () if state.lease.held else state.entrance.leaving(snapshot)
        if not state.lease.held:
            state.lease.from_version(version_of(snapshot, RUN))
        tail, drop_after = snapshot.tail, plan.drop_after
        positions: list[int] = []
        for index, part in enumerate(parts):
            record = state.record(status if index == len(parts) - 1 else "running")
            receipt = await state.lease.commit(part, record, tail=tail, drop_after=drop_after, puts=puts)
            state.entrance.entered()
            positions.extend(receipt.positions)
            # The later parts go on where this one ended; it has dropped and put what there was to.
            tail = receipt.tail
            drop_after = None
            puts = ()
        stored = placed(plan.append, positions)
        new = [message for message in stored if (message.position or 0) > snapshot.tail.position]
        if len(positions) < len(records) or (positions and positions[-1] <= snapshot.tail.position):
            # A repetition of what was stored before the loaded messages, or a commit whose outcome was unknown.
            state.turn = await state.found(plan.anchor)
        else:
            state.turn = state.remember(plan.turn(new, tail), snapshot)
        by_id = {message.id: message for message in stored}
        given = tuple(by_id.get(message.id, message) for message in plan.given)
        return Committed(given, len(new), tail)

    def _told_again(self, plan: Plan) -> list[Event]:
        """The events of what has been said in this turn and the client has not, but for half an answer."""
        turn = self._state.now
        said = [message for message in turn.said if message is not turn.partial]
        ids = [message.id for message in said]
        first = ids.index(plan.known_to_client) + 1 if plan.known_to_client in ids else 0
        return [*retold(said[first:], turn.tail)] if first < len(ids) else []
