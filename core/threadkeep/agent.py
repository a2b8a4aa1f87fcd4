"""A small agent loop: load, call the model, run tools, commit after each step.

The user's message is committed before the model is called, and a model's tool calls before the tools run, so that
what was said, and what is about to be done, is never lost. A request whose message is stored already takes up where
its turn stopped, or gives the answer that is there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from threadkeep.errors import InvalidInput, ModelFailed, TailMoved, ThreadkeepError
from threadkeep.memory import Memory
from threadkeep.messages import Message, ToolCallPart, ToolResultPart, as_messages
from threadkeep.model import Model, ModelRequest, TextDelta
from threadkeep.store import Tail
from threadkeep.thread import ThreadHandle
from threadkeep.tools import Tool, run_call, tool
from threadkeep.windows import pair_safe, pending_calls, settle

TURN_MESSAGES: Final = 1000
"""Stored messages after a repeated request that are looked at for its answer."""

Reason: TypeAlias = Literal["stop", "max_steps", "repeated"]
History: TypeAlias = Literal["new", "stable", "fresh"]


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """A tool is about to run."""

    call: ToolCallPart


@dataclass(frozen=True, slots=True)
class ToolAnswered:
    """A tool has run; what it raised is a result with `is_error`."""

    result: ToolResultPart


@dataclass(frozen=True, slots=True)
class Committed:
    """Messages are stored, with their positions. `new` counts those that were not there before."""

    messages: tuple[Message, ...]
    new: int
    tail: Tail


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is over. `reply` is the last message of the assistant in this turn, None where it said nothing.

    `reason`: "stop" (the model called no more tools), "max_steps", or "repeated" (the answer was there already).
    """

    reason: Reason
    reply: Message | None
    tail: Tail


Event: TypeAlias = TextDelta | ToolCalled | ToolAnswered | Committed | Finished


class Reply(BaseModel):
    """What `generate` returns: the answer's text and message, all messages of the turn, and why the run ended."""

    model_config = ConfigDict(frozen=True)

    text: str
    message: Message | None
    messages: list[Message]
    reason: Reason
    tail: Tail


@dataclass(slots=True)
class _Turn:
    """A request and what has been said in answer to it."""

    anchor: Message
    context: list[Message]
    """What the model gets to see up to the anchor, the anchor included."""
    said: list[Message]
    """The messages of this turn after the anchor."""
    tail: Tail
    overtaken: bool
    """Whether messages of other turns follow."""
    steps: int = field(init=False)

    def __post_init__(self) -> None:
        self.steps = sum(message.role == "assistant" for message in self.said)

    @property
    def answered(self) -> bool:
        return bool(self.said) and self.said[-1].role == "assistant" and not self.said[-1].tool_calls

    @property
    def reply(self) -> Message | None:
        return next((message for message in reversed(self.said) if message.role == "assistant"), None)


class Agent:
    """A model with instructions and tools, whose conversations a Memory keeps.

    `max_steps` bounds the calls of the model in one turn, those of an interrupted earlier try counted in. `last` is
    how many of the newest messages the model is shown; a tool's result is never shown without its call.
    Raises InvalidInput for a model or tool that is none.
    """

    def __init__(
        self,
        *,
        model: Model,
        memory: Memory,
        name: str = "assistant",
        instructions: str | None = None,
        tools: Sequence[Tool | Callable[..., Any]] = (),
        max_steps: int = 10,
        last: int = 40,
    ) -> None:
        if not isinstance(model, Model):
            raise InvalidInput(f"a model is an object with a method stream(request), not {model!r}")
        self.name = name
        self.model = model
        self.memory = memory
        self.instructions = instructions
        self.max_steps = max_steps
        self.last = last
        ready = [each if isinstance(each, Tool) else tool(each) for each in tools]
        self.tools: dict[str, Tool] = {each.name: each for each in ready}
        if len(self.tools) < len(ready):
            raise InvalidInput(f"two tools of agent {name!r} have the same name: {[each.name for each in ready]}")

    def stream(
        self,
        input: str | Message | Sequence[Message],
        *,
        resource_id: str,
        thread_id: str,
        history: History = "new",
        max_steps: int | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Run one turn and give its events as they happen.

        `input` is what the user says: text, a message, or several. `history` says what a list of messages is: "new",
        only what is new; "stable" or "fresh", the client's whole conversation so far, whose messages keep their ids
        from request to request, or have new ids in each. `max_steps` 0 stores the input and calls no model.

        Raises InvalidId, InvalidContent, LimitExceeded, MessageConflict or Diverged before the model is called, with
        nothing written; ModelFailed when the model raises, with all that was committed until then kept.
        """
        thread = self.memory.thread(resource_id, thread_id)
        given = as_messages([input] if isinstance(input, str | Message) else input)
        if not given:
            raise InvalidInput("input is empty; give text or at least one message")
        if history not in ("new", "stable", "fresh"):
            raise InvalidInput(f"history is 'new', 'stable' or 'fresh', not {history!r}")
        steps = self.max_steps if max_steps is None else max_steps
        if steps < 0:
            raise InvalidInput(f"max_steps is a count from 0 up, not {steps}")
        return self._run(thread, given, history, steps)

    async def generate(
        self,
        input: str | Message | Sequence[Message],
        *,
        resource_id: str,
        thread_id: str,
        history: History = "new",
        max_steps: int | None = None,
    ) -> Reply:
        """Run one turn and give its outcome. Arguments and errors are those of `stream`."""
        messages: list[Message] = []
        events = self.stream(input, resource_id=resource_id, thread_id=thread_id, history=history, max_steps=max_steps)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Committed):
                    messages.extend(event.messages)
                elif isinstance(event, Finished):
                    text = event.reply.text if event.reply else ""
                    return Reply(
                        text=text, message=event.reply, messages=messages, reason=event.reason, tail=event.tail
                    )
        raise AssertionError("unreachable: a run ends with Finished or raises")

    async def _run(
        self, thread: ThreadHandle, given: list[Message], history: History, max_steps: int
    ) -> AsyncGenerator[Event, None]:
        turn, committed = await self._receive(thread, given, history)
        yield committed
        if turn.said:
            for event in _retold(turn.said, turn.tail):
                yield event
        if turn.answered or turn.overtaken:
            yield Finished("repeated", turn.reply, turn.tail)
            return
        while not turn.answered:
            pending = pending_calls(turn.said)
            if pending:
                step = []
                for call in pending:
                    yield ToolCalled(call)
                    result = await run_call(call, self.tools)
                    yield ToolAnswered(result)
                    step.append(Message(role="tool", parts=[result]))
            elif turn.steps >= max_steps:
                yield Finished("max_steps", turn.reply, turn.tail)
                return
            else:
                async for item in self._ask(turn):
                    if isinstance(item, TextDelta):
                        yield item
                    else:
                        step = [item]
            turn, event = await self._commit(thread, turn, step)
            yield event
        yield Finished("stop", turn.reply, turn.tail)

    async def _receive(self, thread: ThreadHandle, given: list[Message], history: History) -> tuple[_Turn, Committed]:
        """Store the input, and find out what has been said in answer to it already."""
        if history == "new":
            before = await thread.load(last=self.last)
            receipt = await thread.append(*given)
            known = [position <= before.tail.position for position in receipt.positions]
            stored = [
                message.model_copy(update={"position": position})
                for message, position in zip(given, receipt.positions, strict=True)
            ]
            committed = Committed(tuple(stored), known.count(False), receipt.tail)
            anchor = given[-1].id
            if not known[-1]:
                fresh = [message for message, old in zip(stored, known, strict=True) if not old]
                context = pair_safe([*before.messages, *fresh])
                return _Turn(stored[-1], context, [], receipt.tail, overtaken=False), committed
        else:
            merged = await thread.append_history(given, ids=history)
            committed = Committed(merged.messages, merged.new, merged.tail)
            anchor = merged.messages[-1].id
        return await self._recall(thread, anchor), committed

    async def _recall(self, thread: ThreadHandle, anchor: str) -> _Turn:
        """The turn of a stored message."""
        tail = await thread.tail()
        around = await thread.messages(around=anchor, last=self.last, first=TURN_MESSAGES)
        place = next(index for index, message in enumerate(around) if message.id == anchor)
        later = around[place + 1 :]
        said = [message for message in later if message.metadata.get("turn") == anchor]
        if not said:
            # Imported conversations carry no mark: there a turn lasts until somebody else speaks.
            end = next((index for index, message in enumerate(later) if message.role in ("user", "system")), len(later))
            said = [message for message in later[:end] if "turn" not in message.metadata]
        context = pair_safe(around[: place + 1])
        return _Turn(around[place], context, said, tail, overtaken=len(said) < len(later))

    async def _ask(self, turn: _Turn) -> AsyncIterator[TextDelta | Message]:
        """One call of the model: its text as it comes, then its message."""
        request = ModelRequest(self.instructions, [*settle(turn.context), *turn.said], tuple(self.tools.values()))
        message: Message | None = None
        told = False
        try:
            async for item in self.model.stream(request):
                if isinstance(item, TextDelta):
                    told = True
                    yield item
                else:
                    message = item
        except ThreadkeepError:
            raise
        except Exception as error:
            raise ModelFailed(self.name, f"{type(error).__name__}: {error}") from error
        if not isinstance(message, Message) or message.role != "assistant":
            raise ModelFailed(self.name, f"it ended with {message!r} and not with a message of role 'assistant'")
        if message.text and not told:
            yield TextDelta(message.text)
        yield message

    async def _commit(self, thread: ThreadHandle, turn: _Turn, step: list[Message]) -> tuple[_Turn, Committed]:
        """Store a step at the tail. Where another run of the same turn was faster, its step stands, this one goes."""
        stamp = {"agent": self.name, "turn": turn.anchor.id}
        step = [message.model_copy(update={"metadata": {**message.metadata, **stamp}}) for message in step]
        while True:
            try:
                receipt = await thread.append(*step, if_tail=turn.tail)
            except TailMoved:
                now = await self._recall(thread, turn.anchor.id)
                if len(now.said) > len(turn.said):
                    others = tuple(now.said[len(turn.said) :])
                    return now, Committed(others, 0, now.tail)
                turn.tail = now.tail
                continue
            stored = [
                message.model_copy(update={"position": position})
                for message, position in zip(step, receipt.positions, strict=True)
            ]
            said = [*turn.said, *stored]
            after = _Turn(turn.anchor, turn.context, said, receipt.tail, turn.overtaken)
            return after, Committed(tuple(stored), len(stored), receipt.tail)


def _retold(said: Sequence[Message], tail: Tail) -> Iterator[Event]:
    """The events of messages that are stored already."""
    for message in said:
        if message.text and message.role == "assistant":
            yield TextDelta(message.text)
        for call in message.tool_calls:
            yield ToolCalled(call)
        for result in message.tool_results:
            yield ToolAnswered(result)
    yield Committed(tuple(said), 0, tail)
