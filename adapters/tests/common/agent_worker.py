"""A process that answers requests with an agent on a store, for tests that kill it: what `serve` does in it.

It receives "THREAD TURN" for each request and sends "done THREAD TURN" when the turn is over. What the model says
follows from what it is asked, so that a turn that is taken up by another process ends in the same way.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from typing import Final

from threadkeep import Agent, Memory, Message
from threadkeep.errors import ThreadkeepError
from threadkeep.messages import ToolCallPart
from threadkeep.models import ModelRequest, TextDelta

RESOURCE: Final = "crash_user"
LEASE_SECONDS: Final = 0.5
PIECE_SECONDS: Final = 0.003
"""Seconds between two pieces of an answer, so that a kill may fall between them."""
MAX_SENDINGS: Final = 20


def question(turn: int) -> str:
    return f"question {turn}"


def pieces(turn: int) -> list[str]:
    return ["This ", "is ", "the ", "answer ", f"to {turn}."]


def calls(turn: int) -> list[str]:
    """The ids of the calls that the model makes in a turn before it answers."""
    return [f"call-{turn}-{n}" for n in range(turn % 3)]


class Model:
    """Calls tools in some turns, and then answers."""

    async def stream(self, request: ModelRequest) -> AsyncIterator[TextDelta | Message]:
        asked = max(place for place, message in enumerate(request.messages) if message.role == "user")
        turn = int(request.messages[asked].text.split()[1])
        await asyncio.sleep(PIECE_SECONDS)
        if calls(turn) and len(request.messages) == asked + 1:
            parts = [ToolCallPart(tool_call_id=each, name="look", arguments={"at": each}) for each in calls(turn)]
            yield Message(role="assistant", parts=[*parts])
            return
        for piece in pieces(turn):
            yield TextDelta(piece)
            await asyncio.sleep(PIECE_SECONDS)
        yield Message.assistant("".join(pieces(turn)))


async def look(at: str) -> str:
    """Look at something."""
    await asyncio.sleep(PIECE_SECONDS)
    return f"seen {at}"


async def answer(agent: Agent, thread_id: str, turn: int) -> None:
    """One request, repeated as a client repeats it while the error says that it may be."""
    for attempt in range(MAX_SENDINGS):
        try:
            message = Message.user(question(turn), id=f"{thread_id}-{turn}")
            await agent.generate(message, resource_id=RESOURCE, thread_id=thread_id)
            return
        except ThreadkeepError as error:
            if not error.retryable or attempt == MAX_SENDINGS - 1:
                raise
            await asyncio.sleep(0.05)


async def _serve(url: str, client: Connection) -> None:
    async with Memory(url) as memory:
        agent = Agent(name="worker", model=Model(), memory=memory, tools=[look], lease_seconds=LEASE_SECONDS)
        client.send("ready")
        while True:
            try:
                request = await asyncio.to_thread(client.recv)
            except EOFError:
                return
            thread_id, turn = request.split()
            await answer(agent, thread_id, int(turn))
            client.send(f"done {request}")


def serve(url: str, client: Connection) -> None:
    """Say "ready", and answer requests until the client closes; what goes wrong is the last that is said."""
    try:
        asyncio.run(_serve(url, client))
    except Exception:
        client.send(traceback.format_exc())
        raise
