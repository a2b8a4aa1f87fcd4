"""The agent that users hold: a model, instructions and tools, whose conversations a Memory keeps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from pydantic import BaseModel, ConfigDict

from threadkeep.agent.events import Committed, Event, Finished, Reason
from threadkeep.agent.run import History, Run
from threadkeep.errors import InvalidInput
from threadkeep.memory import Memory
from threadkeep.messages import Message, as_messages
from threadkeep.model import Model
from threadkeep.store import Tail
from threadkeep.tools import Tool, tool


class Reply(BaseModel):
    """What `generate` returns: the answer's text and message, all messages of the turn, and why the run ended."""

    model_config = ConfigDict(frozen=True)

    text: str
    message: Message | None
    messages: list[Message]
    reason: Reason
    tail: Tail


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
        return Run(self, thread, given, history, steps).events()

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
