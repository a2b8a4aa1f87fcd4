"""What the tests of the agent loop share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypedDict

from threadkeep import Memory, Message
from threadkeep.agent import Event
from threadkeep.messages import ToolCallPart, ToolResultPart
from threadkeep.models import ModelRequest, TextDelta


class Where(TypedDict):
    resource_id: str
    thread_id: str


ALICE: Where = {"resource_id": "user_alice", "thread_id": "support"}


def calls(*ids: str, name: str = "look", arguments: Any = "{}", **fields: Any) -> Message:
    """An assistant's message that calls a tool once for each id."""
    parts = [ToolCallPart(tool_call_id=each, name=name, arguments=arguments) for each in ids]
    return Message(role="assistant", parts=[*parts], **fields)


def result(call_id: str, value: Any, **fields: Any) -> Message:
    """A client's message with the result of a call."""
    return Message(role="tool", parts=[ToolResultPart(tool_call_id=call_id, result=value)], **fields)


def shown(messages: list[Message]) -> list[str]:
    """Messages in short: role, and text or results or the ids of calls."""
    told = []
    for message in messages:
        said: Any = message.text or [part.result for part in message.tool_results]
        told.append(f"{message.role}: {said or [call.tool_call_id for call in message.tool_calls]}")
    return told


async def stored(memory: Memory, where: Where = ALICE) -> list[str]:
    """The messages of a thread, in short."""
    return shown(await memory.thread(**where).messages())


async def events_of(stream: AsyncIterator[Event]) -> list[Event]:
    """All events of a run."""
    return [event async for event in stream]


class Gate:
    """A model that answers each request when it is told to, with the text of the request in capitals."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.open = asyncio.Event()

    async def stream(self, request: ModelRequest) -> AsyncIterator[TextDelta | Message]:
        text = request.messages[-1].text
        self.asked.append(text)
        yield TextDelta(text[:1].upper())
        await self.open.wait()
        yield TextDelta(text[1:].upper())
        yield Message.assistant(text.upper())


async def until(met: Callable[[], Any | Awaitable[Any]]) -> None:
    """Wait until a condition is met; a test that waits for ever is ended by its time limit."""
    while True:
        found = met()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return
        await asyncio.sleep(0.01)
