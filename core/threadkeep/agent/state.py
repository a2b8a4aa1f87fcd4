"""What is known of a run at any moment: the request, the turn that answers it, and the run's place in its thread.

`Receiver` fills it in, `Steps` carry the turn on, and `Run` ends it. None of the three knows the others' own state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from threadkeep.agent.busy import Entrance
from threadkeep.agent.calls import Job, Waits, waits_for
from threadkeep.agent.lease import Lease, RunRecord, Standing, Status
from threadkeep.agent.recall import Recall
from threadkeep.agent.request import Request
from threadkeep.agent.settings import AgentSettings
from threadkeep.agent.turn import TURN_MESSAGES, Turn, find_turn
from threadkeep.errors import RunLost
from threadkeep.handles.memory import Memory
from threadkeep.handles.thread import ThreadHandle
from threadkeep.handles.views import read_info, read_memory
from threadkeep.messages.codec import decode
from threadkeep.messages.model import Message, ToolCallPart
from threadkeep.port.store import MISSING, Snapshot, Thread, Window
from threadkeep.telemetry import RunSpan


class RunState:
    """What is known of a run. `turn` is None until the request is received."""

    def __init__(self, settings: AgentSettings, memory: Memory, thread: ThreadHandle, request: Request) -> None:
        self.settings = settings
        self.memory = memory
        self.access = memory.access
        self.limits = self.access.store.limits
        self.request = request
        self.recall = Recall(settings, request.options)
        self.tools = self.recall.tools
        self.span = RunSpan()
        self.turn: Turn | None = None
        self.anchor = ""
        """The id of the message that is answered."""
        self.approvals: dict[str, Any] = {}
        """By tool call id: what was answered to calls of this turn that need approval."""
        self.go_to(thread)

    def go_to(self, thread: ThreadHandle) -> None:
        """Go on in this thread, which is not taken yet."""
        name, seconds, on_busy = self.settings.name, self.settings.lease_seconds, self.request.on_busy
        self.thread = thread
        self.scope = Thread(thread.resource_id, thread.thread_id)
        self.entrance = Entrance(self.access, self.scope, seconds, reject=on_busy == "reject")
        self.lease = Lease(self.access, self.scope, name, seconds, exclusive=on_busy != "interleave")

    @property
    def now(self) -> Turn:
        """The turn as it is now, once the request is received."""
        if self.turn is None:
            raise AssertionError("unreachable: a run has received its request before it goes on")
        return self.turn

    def waits_for(self, call: ToolCallPart) -> Waits | None:
        """What a call waits for, None where it can be answered now."""
        return waits_for(call, self.tools, self.approvals)

    def status(self, turn: Turn) -> Standing:
        """What a turn is at: "running" where this run has something to do for it."""
        if turn.answered:
            return "stop"
        waits = {self.waits_for(call) for call in turn.pending}
        if None in waits:
            return "running"
        if waits:
            return "approval" if "approval" in waits else "client_tools"
        return "max_steps" if turn.steps >= self.request.max_steps else "running"

    def ready(self, turn: Turn) -> list[Job]:
        """The calls of a turn that can be answered now, in order."""
        return [
            Job(call, self.approvals.get(call.tool_call_id)) for call in turn.pending if self.waits_for(call) is None
        ]

    def passed(self, turn: Turn) -> bool:
        """Whether the conversation has gone on from a turn that had begun to call tools.

        Later turns were told that those calls were interrupted, and providers refuse results that come so late.
        """
        return turn.overtaken and self.lease.exclusive and turn.steps > 0

    def remember(self, turn: Turn, snapshot: Snapshot) -> Turn:
        """A turn with what else was loaded with it."""
        turn.tail = snapshot.tail if turn.tail == MISSING else turn.tail
        turn.working_memory = read_memory(snapshot.docs)
        turn.resource_memory = read_memory(snapshot.resource_docs)
        turn.title = read_info(snapshot.docs).body.get("title")
        return turn

    async def find(self, anchor: str) -> Turn | None:
        """The turn of a stored message as it is now, None where the message is not there."""
        window = Window(anchor, before=self.recall.window, after=TURN_MESSAGES + 1)
        snapshot = await self.access.store.load(self.scope, window)
        messages = decode(snapshot.records)
        if not any(message.id == anchor for message in messages):
            return None
        return self.remember(find_turn(messages, anchor, snapshot.tail), snapshot)

    async def found(self, anchor: str) -> Turn:
        """As `find`, for a message that this run has to go on with. Raises RunLost where it is gone."""
        turn = await self.find(anchor)
        if turn is None:
            raise RunLost(self.settings.name, f"message {anchor!r}, which it answers, has been dropped")
        return turn

    def record(self, status: Status, turn: Turn | None = None, error: str | None = None) -> RunRecord:
        """What the thread's document shall say of this run. Of a turn, only the approvals that it still needs."""
        approvals = self.approvals
        if turn is not None:
            pending = {call.tool_call_id for call in turn.pending}
            approvals = {call_id: answer for call_id, answer in approvals.items() if call_id in pending}
        return RunRecord(
            run=self.lease.run,
            turn=self.anchor,
            agent=self.settings.name,
            status=status,
            seconds=self.settings.lease_seconds,
            approvals=dict(approvals),
            error=error,
        )


def placed(messages: Sequence[Message], positions: Sequence[int]) -> list[Message]:
    """Messages with the positions that they were stored at; those without a position are left out."""
    return [
        message.model_copy(update={"position": position})
        for message, position in zip(messages, positions, strict=False)
    ]
