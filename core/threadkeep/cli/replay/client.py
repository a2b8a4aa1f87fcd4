"""One recorded conversation, sent by a client through the agent loop into a store."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import click

from threadkeep.agent import Agent, Committed
from threadkeep.cli.replay.compare import difference
from threadkeep.cli.replay.recordings import Recording, Turn
from threadkeep.errors import OutcomeUnknown, StoreUnavailable, ThreadkeepError
from threadkeep.formats import from_openai
from threadkeep.handles import Memory
from threadkeep.messages import Message
from threadkeep.models import ModelRequest, ScriptedModel, Tool, ToolContext
from threadkeep.port import new_id

Kind: TypeAlias = Literal["newest", "full", "fresh-ids"]

MAX_SENDINGS: Final = 5
"""How often a client sends a conversation when the store is busy, or cannot say what happened."""

LEASE_SECONDS: Final = 5.0
"""How long a replay waits for the run of one that was killed, before it goes on with the conversation."""


@dataclass(slots=True)
class Count:
    """What a replay came to. `stored` messages were new; `repeats` were sent again and recognised."""

    conversations: int = 0
    turns: int = 0
    stored: int = 0
    repeats: int = 0

    def add(self, other: Count) -> None:
        """Add another count to this one."""
        self.conversations += other.conversations
        self.turns += other.turns
        self.stored += other.stored
        self.repeats += other.repeats


async def replay(memory: Memory, recording: Recording, kind: Kind) -> Count:
    """Send a conversation as a client of this kind does, and give what that came to.

    Raises ClickException naming the conversation where it cannot go on.
    """
    count = Count(conversations=1)
    for sending in range(1, MAX_SENDINGS + 1):
        client = _Client(memory, recording, kind, count)
        try:
            await client.open()
            for turn in recording.turns:
                await client.send(turn)
            count.turns = len(recording.turns)
            return count
        except (StoreUnavailable, OutcomeUnknown) as error:
            if sending == MAX_SENDINGS:
                raise _failure(recording, str(error)) from error
            await asyncio.sleep(0.1 * sending)
        except ThreadkeepError as error:
            raise _failure(recording, str(error)) from error
    raise AssertionError("unreachable: the last sending returns or raises")


def _failure(recording: Recording, reason: str) -> click.ClickException:
    return click.ClickException(
        f"line {recording.line}, thread {recording.thread_id!r} of resource {recording.resource_id!r}: {reason}"
    )


class _Client:
    """Both sides of a conversation: the client's, and the model and tools, which say what was recorded."""

    def __init__(self, memory: Memory, recording: Recording, kind: Kind, count: Count) -> None:
        self.recording = recording
        self.kind = kind
        self.count = count
        self.thread = memory.thread(recording.resource_id, recording.thread_id)
        self.stored: list[Message] = []
        """What the client knows to be stored: read when it opened the conversation, then told by the agent."""
        self.results = 0
        """Tool results of the running step, which are stored when all of them are there."""
        names = sorted({call.name for chat in recording.messages for call in from_openai(chat).tool_calls})
        self.agent = Agent(
            model=ScriptedModel(self._reply),
            memory=memory,
            tools=[self._tool(name) for name in names],
            lease_seconds=LEASE_SECONDS,
        )

    async def open(self) -> None:
        """Read the conversation, if the store has it, and take over the ids that are there."""
        self.stored = await self.thread.messages()
        for index, message in enumerate(self.stored):
            chat = self.recording.messages[index] if index < len(self.recording.messages) else None
            if found := difference(message, chat):
                raise _failure(
                    self.recording,
                    f"the store has another conversation there: at message {index}, {found}; "
                    "erase it, or replay into another store",
                )

    async def send(self, turn: Turn) -> None:
        """Make the request of a turn, and take in what the agent says about it."""
        given = self._input(turn)
        first = True
        events = self.agent.stream(
            given if self.kind == "newest" else None,
            messages=None if self.kind == "newest" else given,
            ids="fresh" if self.kind == "fresh-ids" else "stable",
            resource_id=self.recording.resource_id,
            thread_id=self.recording.thread_id,
            max_steps=turn.steps,
        )
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Committed):
                    self._take_in(event)
                    if first:
                        self.count.repeats += len(event.messages) - event.new
                        first = False
        if len(self.stored) < turn.end:
            raise _failure(self.recording, f"after message {turn.end - 1} the agent has told of {len(self.stored)}")

    def _input(self, turn: Turn) -> list[Message]:
        if self.kind == "fresh-ids":
            return [from_openai(chat, id=new_id()) for chat in self.recording.messages[: turn.reply]]
        known = self.stored[: turn.reply]
        new = [self._own(index) for index in range(len(known), turn.reply)]
        conversation = [*known, *new]
        return conversation[turn.start :] if self.kind == "newest" else conversation

    def _own(self, index: int) -> Message:
        """A message that this client writes. Its id is the same whenever it is sent."""
        return from_openai(self.recording.messages[index], id=f"{self.recording.thread_id}/{index}")

    def _take_in(self, event: Committed) -> None:
        known = {message.id for message in self.stored}
        self.stored += [message for message in event.messages if message.id not in known]
        self.count.stored += event.new
        self.results = 0

    def _reply(self, request: ModelRequest) -> Message:
        return from_openai(self._recorded(len(self.stored), "assistant"), id=new_id())

    def _tool(self, name: str) -> Tool:
        async def call(arguments: dict[str, Any], context: ToolContext) -> Any:
            chat = self._recorded(len(self.stored) + self.results, "tool")
            self.results += 1
            return chat["content"]

        # What was recorded is told in its order.
        return Tool(name, "Answers what was recorded.", {"type": "object"}, call, parallel=False)

    def _recorded(self, index: int, role: str) -> dict[str, Any]:
        chats = self.recording.messages
        if index >= len(chats) or chats[index].get("role") != role:
            raise LookupError(f"the recording has no message of role {role} at {index}")
        return chats[index]
