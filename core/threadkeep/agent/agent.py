"""The agent that users hold: a model, instructions and tools, whose conversations a Memory keeps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict

from threadkeep.agent.busy import OnBusy
from threadkeep.agent.clients import Conversation
from threadkeep.agent.events import ApprovalNeeded, Committed, Event, Finished, Forked, Reason, ResultsNeeded
from threadkeep.agent.lease import LEASE_SECONDS
from threadkeep.agent.options import MemoryOptions, as_options
from threadkeep.agent.processors import Processors
from threadkeep.agent.recall import check_tools
from threadkeep.agent.request import OnDiverged, read_request
from threadkeep.agent.run import Run
from threadkeep.agent.titles import TitleLike, TitleMaker, as_title_maker
from threadkeep.errors import InvalidInput
from threadkeep.handles.memory import Memory
from threadkeep.messages.approval import Approval
from threadkeep.messages.model import Message, ToolCallPart
from threadkeep.messages.reconcile import Ids
from threadkeep.models.choose import ModelLike, as_model
from threadkeep.models.model import Model
from threadkeep.models.tools import Tool, tool
from threadkeep.port.checks import is_number
from threadkeep.port.ids import check_id
from threadkeep.port.store import Tail


class Reply(BaseModel):
    """What `generate` returns: the answer's text and message, all messages of the turn, and why the run ended."""

    model_config = ConfigDict(frozen=True)

    text: str
    message: Message | None
    messages: list[Message]
    reason: Reason
    waiting: list[ToolCallPart]
    """The calls that wait for an approval, or for a result of the client's."""
    thread_id: str
    """The thread of the turn: the one that was asked for, or its fork."""
    tail: Tail


class Agent:
    """A model with instructions and tools, whose conversations a Memory keeps.

    `max_steps` bounds the calls of the model in one turn, those of an interrupted earlier try counted in.
    `tool_timeout` bounds the tools that have no timeout of their own, in seconds.

    `options` say what the model is shown of the past and what it may note; see `MemoryOptions`. `processors` look at
    messages, in the order given, before the model sees them and before they are stored; see `threadkeep.agent.hooks`.
    `title`, a model (by name too, as for `model`) or a function from messages to a title, names a thread after what
    its user says first, beside the first turn; a name that a person gave stays.

    `on_busy` says what a request does that finds another run at work in its thread: "queue" waits, in the order of
    arrival as far as the store can tell; "reject" raises ThreadBusy with nothing written; "interleave" goes ahead
    beside it. `lease_seconds`: how long a run of this agent may be silent (its process dead, its machine cut off)
    before others take its thread over.

    `model` is a name, a pydantic-ai model, a function of the request or a Model; `as_model` says more, and takes an
    endpoint's URL and settings.

    Raises InvalidInput for a model, title or tool that is none, and for numbers that are out of range.
    """

    def __init__(
        self,
        *,
        model: ModelLike,
        memory: Memory,
        name: str = "assistant",
        instructions: str | None = None,
        tools: Sequence[Tool | Callable[..., Any]] = (),
        max_steps: int = 10,
        options: MemoryOptions | None = None,
        processors: Sequence[object] = (),
        title: TitleLike | None = None,
        tool_timeout: float | None = None,
        on_busy: OnBusy = "queue",
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        if tool_timeout is not None and not (is_number(tool_timeout) and tool_timeout > 0):
            raise InvalidInput(f"tool_timeout is a number of seconds above 0, or None, not {tool_timeout!r}")
        if on_busy not in get_args(OnBusy):
            raise InvalidInput(f"on_busy is 'queue', 'reject' or 'interleave', not {on_busy!r}")
        if not is_number(lease_seconds) or lease_seconds <= 0:
            raise InvalidInput(f"lease_seconds is a number of seconds above 0, not {lease_seconds!r}")
        self.name = name
        self.model: Model = as_model(model)
        self.memory = memory
        self.instructions = instructions
        self.max_steps = max_steps
        self.options: MemoryOptions = as_options(options)
        self.processors: Processors = Processors(processors)
        self.title: TitleMaker | None = None if title is None else as_title_maker(title)
        self.tool_timeout = tool_timeout
        self.on_busy = on_busy
        self.lease_seconds = lease_seconds
        ready = [each if isinstance(each, Tool) else tool(each) for each in tools]
        self.tools: dict[str, Tool] = {each.name: each for each in ready}
        if len(self.tools) < len(ready):
            raise InvalidInput(f"two tools of agent {name!r} have the same name: {[each.name for each in ready]}")
        check_tools(self, self.options)

    def stream(
        self,
        input: str | Message | Sequence[Message] | None = None,
        *,
        resource_id: str,
        thread_id: str,
        messages: Conversation | None = None,
        ids: Ids = "stable",
        approvals: Sequence[Approval] = (),
        on_diverged: OnDiverged = "refuse",
        regenerate: bool = False,
        fork_id: str | None = None,
        on_busy: OnBusy | None = None,
        max_steps: int | None = None,
        options: MemoryOptions | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Run one turn and give its events as they happen.

        `input` is what is new: text, a message, or several. `messages` is instead the client's whole conversation so
        far, as messages, as OpenAI's chat messages or as the AI SDK's UI messages; its `ids` are "stable" where a
        message keeps its id from request to request, "fresh" where ids are new in each or there are none. A
        request whose last message is stored already is a repetition: it goes on where its turn stopped, or gives the
        answer that is there.

        A turn that stopped for tool calls goes on with `approvals`, and with `input` that is messages of role "tool"
        with the results of clients' tools; `messages` may bring such results too. The approvals that UI
        messages hold count where they are given as `approvals`: `approvals_from_ui(messages)`.

        `on_diverged`: what to do where `messages` are not the stored ones continued, because something was edited, or
        where `regenerate` asks for another answer to the last message. "refuse" raises Diverged; "fork" goes on in a
        new thread (its id is `fork_id`, or made of the request, so that a repetition finds it) and tells so by Forked;
        "truncate" drops the stored messages from there on. `max_steps` 0 stores the input and calls no model. `options`
        are those of this call, in place of the agent's.

        Raises InvalidId, InvalidContent, LimitExceeded, MessageConflict, Diverged, CallNotPending or ThreadBusy before
        the model is called, with nothing written; ModelFailed when the model raises, and RunLost when another run has
        taken the thread over, with all that was committed until then kept. What was said of an answer that fails or
        is cancelled is stored and marked with "failed" or "cancelled" in its `metadata["interrupted"]`.
        """
        thread = self.memory.thread(resource_id, thread_id)
        request = read_request(
            input,
            messages,
            ids=ids,
            approvals=approvals,
            on_diverged=on_diverged,
            regenerate=regenerate,
            fork_id=None if fork_id is None else check_id("fork_id", fork_id, self.memory.store.limits),
            on_busy=self.on_busy if on_busy is None else on_busy,
            max_steps=self.max_steps if max_steps is None else max_steps,
            options=self.options if options is None else as_options(options),
        )
        return Run(self, thread, request).events()

    async def generate(
        self,
        input: str | Message | Sequence[Message] | None = None,
        *,
        resource_id: str,
        thread_id: str,
        messages: Conversation | None = None,
        ids: Ids = "stable",
        approvals: Sequence[Approval] = (),
        on_diverged: OnDiverged = "refuse",
        regenerate: bool = False,
        fork_id: str | None = None,
        on_busy: OnBusy | None = None,
        max_steps: int | None = None,
        options: MemoryOptions | None = None,
    ) -> Reply:
        """Run one turn and give its outcome. Arguments and errors are those of `stream`."""
        events = self.stream(
            input,
            resource_id=resource_id,
            thread_id=thread_id,
            messages=messages,
            ids=ids,
            approvals=approvals,
            on_diverged=on_diverged,
            regenerate=regenerate,
            fork_id=fork_id,
            on_busy=on_busy,
            max_steps=max_steps,
            options=options,
        )
        stored: list[Message] = []
        waiting: list[ToolCallPart] = []
        async with aclosing(events):
            async for event in events:
                match event:
                    case Forked():
                        thread_id = event.thread_id
                    case Committed():
                        stored.extend(event.messages)
                    case ApprovalNeeded() | ResultsNeeded():
                        waiting.extend(event.calls)
                    case Finished(reason, reply, tail):
                        return Reply(
                            text=reply.text if reply else "",
                            message=reply,
                            messages=stored,
                            reason=reason,
                            waiting=waiting,
                            thread_id=thread_id,
                            tail=tail,
                        )
        raise AssertionError("unreachable: a run ends with Finished or raises")
