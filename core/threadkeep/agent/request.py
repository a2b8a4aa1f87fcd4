"""What a caller asks of an agent, checked before anything is read or written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from threadkeep.agent.busy import OnBusy
from threadkeep.agent.clients import Conversation, read_conversation
from threadkeep.agent.options import MemoryOptions
from threadkeep.errors import InvalidInput
from threadkeep.messages.approval import Approval
from threadkeep.messages.model import Message, as_messages
from threadkeep.messages.reconcile import Ids
from threadkeep.port.checks import is_int

OnDiverged: TypeAlias = Literal["refuse", "fork", "truncate"]


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asks of an agent."""

    given: tuple[Message, ...]
    ids: Ids | None
    """How messages of a whole history are recognised; None where `given` is only what is new."""
    approvals: tuple[Approval, ...]
    on_diverged: OnDiverged
    regenerate: bool
    fork_id: str | None
    on_busy: OnBusy
    max_steps: int
    options: MemoryOptions

    @property
    def read_only(self) -> bool:
        """Whether nothing is to be written."""
        return self.options.read_only

    @property
    def answers(self) -> bool:
        """Whether the request brings nothing but answers to tool calls: approvals, or what clients' tools gave."""
        return self.ids is None and all(message.role == "tool" for message in self.given)


def read_request(
    input: str | Message | Sequence[Message | str] | None,
    messages: Conversation | None,
    *,
    ids: Ids,
    approvals: Sequence[Approval],
    on_diverged: OnDiverged,
    regenerate: bool,
    fork_id: str | None,
    on_busy: OnBusy,
    max_steps: int,
    options: MemoryOptions,
) -> Request:
    """The request that a caller's arguments mean. Raises InvalidInput and InvalidContent."""
    if input is not None and messages is not None:
        raise InvalidInput("give input, which is new, or messages, which are the whole conversation; not both")
    approvals = tuple(approvals)
    for approval in approvals:
        if not isinstance(approval, Approval):
            raise InvalidInput(f"approvals are Approval(tool_call_id, approve), not {approval!r}")
    if len({approval.tool_call_id for approval in approvals}) < len(approvals):
        raise InvalidInput("a tool call is approved or denied once; two approvals have the same tool_call_id")
    given: list[Message] = []
    if messages is not None:
        given = read_conversation(messages, ids)
    elif input is not None:
        given = as_messages([input] if isinstance(input, str | Message) else input)
    if not given and not approvals:
        raise InvalidInput("input is empty; give text, at least one message, or the whole conversation as messages")
    if ids not in get_args(Ids):
        raise InvalidInput(f"ids are 'stable' (kept by the client) or 'fresh' (new each time), not {ids!r}")
    if on_diverged not in get_args(OnDiverged):
        raise InvalidInput(f"on_diverged is 'refuse', 'fork' or 'truncate', not {on_diverged!r}")
    if on_busy not in get_args(OnBusy):
        raise InvalidInput(f"on_busy is 'queue', 'reject' or 'interleave', not {on_busy!r}")
    if not is_int(max_steps, 0, 2**31):
        raise InvalidInput(f"max_steps is a count from 0 up, not {max_steps}")
    request = Request(
        given=tuple(given),
        ids=None if messages is None else ids,
        approvals=approvals,
        on_diverged=on_diverged,
        regenerate=regenerate,
        fork_id=fork_id,
        on_busy=on_busy,
        max_steps=max_steps,
        options=options,
    )
    if request.answers and not approvals and not all(message.tool_results for message in given):
        raise InvalidInput("a message of role 'tool' answers calls, and needs a part of kind tool_result")
    if request.answers and regenerate:
        raise InvalidInput("regenerate goes with the message whose answer is to be generated anew")
    if approvals and messages is None and not request.answers:
        raise InvalidInput("approvals continue the turn that waits for them; send what is new in a request of its own")
    return request
