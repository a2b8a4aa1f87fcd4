"""The hooks that a processor implements: one or both, as methods of an object or functions of a module.

Either may be async. Marking them with `hookimpl` is possible and not needed; arguments that are not used may be left
out. What comes back is checked, and what breaks a rule below ends the run with ProcessorFailed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

import pluggy

from threadkeep.messages.model import Message

hookspec = pluggy.HookspecMarker("threadkeep")
hookimpl = pluggy.HookimplMarker("threadkeep")


@dataclass(frozen=True, slots=True)
class RunContext:
    """Whose run it is that a processor is called in."""

    agent: str
    resource_id: str
    thread_id: str


@hookspec(firstresult=True)
def before_model(
    messages: Sequence[Message], context: RunContext
) -> Sequence[Message] | Awaitable[Sequence[Message] | None] | None:
    """The messages that a model is about to see, as it shall see them. None for no change. Nothing stored changes.

    Messages may be left out, and the parts and metadata of others changed. Ids, roles and order stay, no message is
    added, and the last message stays. A tool result is left out together with its call, and a call with its result.
    The model that names a thread is shown what this hook leaves of the user's messages.
    """


@hookspec(firstresult=True)
def before_commit(
    messages: Sequence[Message], context: RunContext
) -> Sequence[Message] | Awaitable[Sequence[Message] | None] | None:
    """The messages that are about to be stored, as they shall be stored. None for no change.

    Called with what the client sent and with each step of the run. The run goes on with what is stored: tools get
    the arguments, and the model the results, as this hook leaves them. What has been streamed by then stays as it was.
    Contents may be changed: text, results, arguments, metadata. Every message stays, with its id and role, and every
    tool call and tool result in it. The same message has to become the same each time, also in other company, since
    clients repeat messages, and a known id with another body is refused.
    """
