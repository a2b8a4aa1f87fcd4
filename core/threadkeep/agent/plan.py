"""What a request means for the thread as it is loaded: what to append, what to drop, and which turn to go on with.

Nothing is written here. Where the thread moves before a plan is carried out, a new one is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from threadkeep.agent.request import Request
from threadkeep.agent.turn import TURN, Turn, find_turn
from threadkeep.errors import CallNotPending, Diverged, MessageConflict
from threadkeep.messages.codec import dump
from threadkeep.messages.model import Message
from threadkeep.messages.reconcile import Ids, Reconciled, reconcile_histories, stored_beside, unused_ids
from threadkeep.models.tools import Tool
from threadkeep.port.canonical import sorted_json
from threadkeep.port.ids import new_id
from threadkeep.port.keys import flat_key
from threadkeep.port.store import MISSING, Tail


@dataclass(slots=True)
class Plan:
    """What a request means for a thread."""

    given: list[Message]
    """The caller's messages as they are, or will be, stored, one to one."""
    append: list[Message]
    kept: list[Message]
    """The loaded messages that stay."""
    anchor: str
    """The id of the message that is answered."""
    known_to_client: str | None
    """The id of the last message of the turn that the client has; what follows it is told again."""
    cut: Diverged | None = None
    """Why stored messages have to go, or to be left behind in a fork, before this can be written."""
    cut_from: str | None = None
    """The id of the first of these."""
    drop_after: int | None = None
    approvals: Mapping[str, Any] = field(default_factory=dict)

    @property
    def writes(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.append or self.approvals) or self.drop_after is not None or self.cut is not None

    def turn(self, stored: Sequence[Message], tail: Tail) -> Turn:
        """The turn as it is once `stored`, which are `append` with their positions, are there."""
        return find_turn([*self.kept, *stored], self.anchor, tail)


def plan_request(request: Request, loaded: list[Message], tail: Tail, tools: Mapping[str, Tool]) -> Plan:
    """The plan of a request. `loaded` is the end of the thread; for a whole history, all of it.

    Raises MessageConflict, CallNotPending and Diverged.
    """
    if request.ids is not None:
        plan = _of_history(request, request.ids, loaded)
    elif request.answers:
        plan = _of_answers(request, loaded, tail, tools)
    else:
        plan = _of_input(request, loaded)
    if plan.cut is not None:
        if request.on_diverged == "refuse":
            raise plan.cut
        place = next(index for index, message in enumerate(loaded) if message.id == plan.cut_from)
        plan.drop_after = (loaded[place].position or 1) - 1
    elif request.approvals:
        plan.approvals = _approvals(request, plan.turn(plan.append, MISSING if plan.append else tail))
    return plan


def _of_input(request: Request, loaded: list[Message]) -> Plan:
    """The request brings what is new; where it was stored before, it is a repetition."""
    known = {message.id: message for message in loaded}
    given = [known.get(message.id, message) for message in request.given]
    for ours, theirs in zip(given, request.given, strict=True):
        if ours != theirs:
            raise MessageConflict(theirs.id)
    anchor = given[-1].id
    append = [message for message in given if message.id not in known]
    plan = Plan(given, append, loaded, anchor, anchor)
    if request.regenerate and anchor in known:
        place = next(index for index, message in enumerate(loaded) if message.id == anchor)
        _cut(plan, loaded, place + 1, Diverged(len(given), "its last message has been answered already"))
    return plan


def _cut(plan: Plan, loaded: list[Message], place: int, reason: Diverged) -> None:
    """The plan without the stored messages from a place on."""
    if place < len(loaded):
        plan.kept = loaded[:place]
        plan.cut, plan.cut_from = reason, loaded[place].id


def _of_history(request: Request, ids: Ids, stored: list[Message]) -> Plan:
    """The request brings the whole conversation, as the client has it."""
    incoming = request.given
    try:
        found = reconcile_histories(stored, incoming, ids)
    except Diverged as error:
        return _diverged(request, ids, stored, error)
    kept = stored[: len(stored) - 1] if found.grown is not None else stored
    new = list(found.new) if ids == "stable" else unused_ids(found.new, stored)
    append = [*_grown(found), *new]
    given = [*found.known[: len(found.known) - len(_grown(found))], *append]
    plan = Plan(given, append, kept, _anchor([*kept, *append], given), given[-1].id if given else None)
    if found.grown is not None:
        plan.drop_after = (stored[-1].position or 1) - 1
    elif request.regenerate and found.beyond:
        place = len(stored) - len(found.beyond)
        _cut(plan, stored, place, Diverged(len(incoming), "its last message has been answered already"))
    return plan


def _grown(found: Reconciled) -> tuple[Message, ...]:
    return () if found.grown is None else (found.grown,)


def _diverged(request: Request, ids: Ids, stored: list[Message], error: Diverged) -> Plan:
    """The client's history is another one from some message on."""
    incoming = request.given
    beside = stored_beside(stored, incoming, ids, error.index)
    if beside is None:
        raise error
    place = next(index for index, message in enumerate(stored) if message.id == beside.id)
    kept = stored[:place]
    taken = {message.id for message in kept}
    new = list(incoming[error.index :])
    if ids == "fresh":
        new = unused_ids(new, stored)
    elif any(message.id in taken for message in new):
        raise error
    given = [*kept[place - error.index :], *new]
    plan = Plan(given, new, kept, _anchor([*kept, *new], given), given[-1].id)
    _cut(plan, stored, place, error)
    return plan


def _anchor(merged: Sequence[Message], given: Sequence[Message]) -> str:
    """The message that is to be answered: the client's last, or, where it ends with an answer, what that answers."""
    last = given[-1]
    if last.role not in ("assistant", "tool"):
        return last.id
    end = next(index for index, message in enumerate(merged) if message.id == last.id)
    before = merged[: end + 1]
    mark = last.metadata.get(TURN)
    for message in reversed(before):
        if message.id == mark or message.role == "user":
            return message.id
    return last.id


def _of_answers(request: Request, loaded: list[Message], tail: Tail, tools: Mapping[str, Tool]) -> Plan:
    """The request brings results of clients' tools, or approvals: it goes on with the turn that waits for them."""
    wanted = [approval.tool_call_id for approval in request.approvals]
    wanted += [result.tool_call_id for message in request.given for result in message.tool_results]
    callers = [message for message in loaded if any(call.tool_call_id in wanted for call in message.tool_calls)]
    if not callers:
        raise CallNotPending(wanted[0], ())
    turn = find_turn(loaded, _anchor(loaded, callers[-1:]), tail)
    pending = [] if turn.overtaken else turn.pending
    waiting = {call.tool_call_id for call in pending if call.name not in tools or tools[call.name].call is None}
    known = {message.id: message for message in turn.said}
    given: list[Message] = []
    for message in request.given:
        marked = message.model_copy(update={"metadata": {**message.metadata, TURN: turn.anchor.id}})
        stored = known.get(message.id)
        if stored is not None and stored not in (marked, message):
            raise MessageConflict(message.id)
        if stored is not None:
            given.append(stored)
            continue
        for result in message.tool_results:
            if result.tool_call_id not in waiting:
                raise CallNotPending(result.tool_call_id, tuple(sorted(waiting)))
        given.append(marked)
    append = [message for message in given if message.id not in known]
    answered = [message for message in turn.said if any(part.tool_call_id in wanted for part in message.tool_results)]
    # What is not stored yet has no position, and comes after all that has.
    last = max([callers[-1], *answered, *given], key=lambda message: message.position or tail.position + 1)
    return Plan(given, append, loaded, turn.anchor.id, last.id)


def _approvals(request: Request, turn: Turn) -> dict[str, Any]:
    """The answers to calls that still wait. Those to calls that were run since are repetitions."""
    waiting = {call.tool_call_id for call in turn.pending} if not turn.overtaken else set()
    results = {result.tool_call_id for message in turn.said for result in message.tool_results}
    for approval in request.approvals:
        if approval.tool_call_id not in waiting | results:
            raise CallNotPending(approval.tool_call_id, tuple(sorted(waiting)))
    return {each.tool_call_id: each.plain() for each in request.approvals if each.tool_call_id in waiting}


def fork_id(thread_id: str, request: Request) -> str:
    """The id of a request's fork, where the caller gives none: a repeated request finds the fork that is there.

    An answer that is generated anew is another one each time, and so is its fork.
    """
    if request.regenerate:
        return new_id()
    said = [dump(message) if request.ids != "fresh" else {**dump(message), "id": None} for message in request.given]
    return sha256(flat_key(thread_id, sorted_json(said)).encode()).hexdigest()[:32]
