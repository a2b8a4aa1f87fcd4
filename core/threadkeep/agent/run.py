"""One run: receive the request, call the model, run tools, commit after each step.

The user's message is committed before the model is called, and a model's tool calls before the tools run, so that
what was said, and what is about to be done, is never lost. A request whose message is stored already takes up where
its turn stopped, or gives the answer that is there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Literal, TypeAlias

from threadkeep.agent.context import model_request
from threadkeep.agent.events import Committed, Event, Finished, ReasoningDelta, TextDelta, ToolAnswered, ToolCalled
from threadkeep.agent.turn import Turn, recall, retold
from threadkeep.errors import ModelFailed, TailMoved, ThreadkeepError
from threadkeep.messages import Message
from threadkeep.thread import ThreadHandle
from threadkeep.tools import run_call
from threadkeep.windows import pair_safe, pending_calls

if TYPE_CHECKING:
    from threadkeep.agent.agent import Agent

History: TypeAlias = Literal["new", "stable", "fresh"]


class Run:
    """One run of an agent in a thread."""

    def __init__(
        self, agent: Agent, thread: ThreadHandle, given: list[Message], history: History, max_steps: int
    ) -> None:
        self._agent = agent
        self._thread = thread
        self._given = given
        self._history = history
        self._max_steps = max_steps

    async def events(self) -> AsyncGenerator[Event, None]:
        """The run, as its events."""
        turn, committed = await self._receive()
        yield committed
        if turn.said:
            for event in retold(turn.said, turn.tail):
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
                    result = await run_call(call, self._agent.tools)
                    yield ToolAnswered(result)
                    step.append(Message(role="tool", parts=[result]))
            elif turn.steps >= self._max_steps:
                yield Finished("max_steps", turn.reply, turn.tail)
                return
            else:
                async for item in self._ask(turn):
                    if not isinstance(item, Message):
                        yield item
                    else:
                        step = [item]
            turn, event = await self._commit(turn, step)
            yield event
        yield Finished("stop", turn.reply, turn.tail)

    async def _receive(self) -> tuple[Turn, Committed]:
        """Store the input, and find out what has been said in answer to it already."""
        given = self._given
        if self._history == "new":
            before = await self._thread.load(last=self._agent.last)
            receipt = await self._thread.append(*given)
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
                return Turn(stored[-1], context, [], receipt.tail, overtaken=False), committed
        else:
            merged = await self._thread.append_history(given, ids=self._history)
            committed = Committed(merged.messages, merged.new, merged.tail)
            anchor = merged.messages[-1].id
        return await recall(self._thread, anchor, self._agent.last), committed

    async def _ask(self, turn: Turn) -> AsyncIterator[TextDelta | ReasoningDelta | Message]:
        """One call of the model: its text as it comes, then its message."""
        request = model_request(turn, self._agent.instructions, tuple(self._agent.tools.values()))
        message: Message | None = None
        told = False
        try:
            async for item in self._agent.model.stream(request):
                if isinstance(item, Message):
                    message = item
                else:
                    told = told or isinstance(item, TextDelta)
                    yield item
        except ThreadkeepError:
            raise
        except Exception as error:
            raise ModelFailed(self._agent.name, f"{type(error).__name__}: {error}") from error
        if not isinstance(message, Message) or message.role != "assistant":
            raise ModelFailed(self._agent.name, f"it ended with {message!r} and not with a message of role 'assistant'")
        if message.text and not told:
            yield TextDelta(message.text)
        yield message

    async def _commit(self, turn: Turn, step: list[Message]) -> tuple[Turn, Committed]:
        """Store a step at the tail. Where another run of the same turn was faster, its step stands, this one goes."""
        stamp = {"agent": self._agent.name, "turn": turn.anchor.id}
        step = [message.model_copy(update={"metadata": {**message.metadata, **stamp}}) for message in step]
        while True:
            try:
                receipt = await self._thread.append(*step, if_tail=turn.tail)
            except TailMoved:
                now = await recall(self._thread, turn.anchor.id, self._agent.last)
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
            after = Turn(turn.anchor, turn.context, said, receipt.tail, turn.overtaken)
            return after, Committed(tuple(stored), len(stored), receipt.tail)
