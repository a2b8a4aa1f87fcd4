"""The agent that users hold: a model, instructions and tools, whose conversations a Memory keeps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

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
from threadkeep.agent.settings import AgentSettings
from threadkeep.agent.titles import TitleLike, TitleMaker, as_title_maker
from threadkeep.errors import InvalidInput
from threadkeep.handles.memory import Memory
from threadkeep.messages.approval import Approval
from threadkeep.messages.model import Message, ToolCallPart
from threadkeep.messages.reconcile import Ids
from threadkeep.models.choose import ModelLike, as_model
from threadkeep.models.model import Model
from threadkeep.models.tools import Tool, tool
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

    What an agent is made of can be read under the same names. It does not change: make another agent instead.

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
        ready = [each if isinstance(each, Tool) else tool(each) for each in tools]
        named = {each.name: each for each in ready}
        if len(named) < len(ready):
            raise InvalidInput(f"two tools of agent {name!r} have the same name: {[each.name for each in ready]}")
        self.memory = memory
        self._settings = AgentSettings(
            name=name,
            model=as_model(model),
            instructions=instructions,
            tools=named,
            max_steps=max_steps,
            options=as_options(options),
            processors=Processors(processors),
            title=None if title is None else as_title_maker(title),
            tool_timeout=tool_timeout,
            on_busy=on_busy,
            lease_seconds=lease_seconds,
        )
        check_tools(self._settings, self._settings.options)

    @property
    def name(self) -> str:
        """The name under which it speaks: messages that it stores say it."""
        return self._settings.name

    @property
    def model(self) -> Model:
        """The model that was meant."""
        return self._settings.model

    @property
    def instructions(self) -> str | None:
        """What the model is told before the conversation."""
        return self._settings.instructions

    @property
    def tools(self) -> Mapping[str, Tool]:
        """Its tools by name, without that of its working memory."""
        return self._settings.tools

    @property
    def max_steps(self) -> int:
        """The calls of the model in one turn, where a call of `stream` gives no other number."""
        return self._settings.max_steps

    @property
    def options(self) -> MemoryOptions:
        """What the model is shown of the past, where a call of `stream` gives no other options."""
        return self._settings.options

    @property
    def processors(self) -> Processors:
        """What looks at messages before the model sees them and before they are stored."""
        return self._settings.processors

    @property
    def title(self) -> TitleMaker | None:
        """What names threads, None where nothing does."""
        return self._settings.title

    @property
    def tool_timeout(self) -> float | None:
        """Seconds, for tools that have no timeout of their own; None for no bound."""
        return self._settings.tool_timeout

    @property
    def on_busy(self) -> OnBusy:
        """What a request does that finds another run at work, where a call of `stream` says nothing else."""
        return self._settings.on_busy

    @property
    def lease_seconds(self) -> float:
        """How many seconds a run may be silent before others take its thread over."""
        return self._settings.lease_seconds

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
        settings = self._settings
        thread = self.memory.thread(resource_id, thread_id)
        request = read_request(
            input,
            messages,
            ids=ids,
            approvals=approvals,
            on_diverged=on_diverged,
            regenerate=regenerate,
            fork_id=None if fork_id is None else check_id("fork_id", fork_id, self.memory.store.limits),
            on_busy=settings.on_busy if on_busy is None else on_busy,
            max_steps=settings.max_steps if max_steps is None else max_steps,
            options=settings.options if options is None else as_options(options),
        )
        return Run(settings, self.memory, thread, request).events()

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
