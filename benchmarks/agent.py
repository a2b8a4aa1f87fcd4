"""What the agent loop costs beyond its store and its model, beside openai-agents with SQLiteSession where installed.

    python benchmarks/agent.py [--rounds N] [--quantile Q] [--length N] [--folder DIR]

The model is a function that answers at once, so that what is left of a turn is the loop and the store. Each turn is
measured twice: through the agent, and as the bare calls of the store that it makes (one load, one commit for each
step; for SQLiteSession the reads and saves that its runner was seen to make). The difference is the loop's own. A
plain turn is a question and an answer; one with a tool has a call, its result and the answer. All take turns in one
run, on WAL files with synchronous=normal.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import sys
import tempfile
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlite import session
from timing import Way, interleaved, quantile, table

from threadkeep import Agent, Memory, Message
from threadkeep.agent import MemoryOptions
from threadkeep.messages import ToolCallPart, ToolResultPart
from threadkeep.models import ModelRequest
from threadkeep.port import new_id

try:
    agents: Any = import_module("agents")
except ImportError:
    agents = None

LAST = MemoryOptions().loaded
"""Messages that an agent loads unless told otherwise."""
USER = "user"
QUESTION = "Can I change the seat of my reservation, and what would that cost me? " * 2
ANSWER = "You can change it free of charge until a day before the flight leaves. " * 4


async def look_up(order: int) -> str:
    """Where an order is."""
    return f"order {order} is on its way"


async def answer(request: ModelRequest) -> Message:
    last = request.messages[-1]
    if last.role == "user" and last.text.startswith("Order"):
        call = ToolCallPart(tool_call_id=f"call_{new_id()}", name="look_up", arguments='{"order": 17}')
        return Message(role="assistant", parts=[call])
    return Message.assistant(ANSWER)


class Ours:
    """The agent, and the calls of the store that a turn takes."""

    def __init__(self, folder: Path, length: int) -> None:
        self.memory = Memory(f"sqlite:///{folder}/ours.db?synchronous=normal")
        self.agent = Agent(model=answer, memory=self.memory, tools=[look_up])
        self.length = length

    async def fill(self) -> None:
        for thread_id in ("agent", "bare"):
            for _ in range(self.length // 2):
                pair = Message.user(QUESTION), Message.assistant(ANSWER)
                await self.memory.thread(USER, thread_id).append(*pair)

    async def turn(self, question: str) -> None:
        reply = await self.agent.generate(question, resource_id=USER, thread_id="agent")
        if reply.text != ANSWER:
            raise AssertionError(f"the agent answered {reply.text!r}")

    async def bare(self, *, tool: bool) -> None:
        thread = self.memory.thread(USER, "bare")
        await thread.load(last=LAST)
        await thread.append(Message.user(QUESTION))
        if tool:
            call = ToolCallPart(tool_call_id=new_id(), name="look_up", arguments='{"order": 17}')
            result = ToolResultPart(tool_call_id=call.tool_call_id, name="look_up", result="order 17 is on its way")
            await thread.append(Message(role="assistant", parts=[call]))
            await thread.append(Message(role="tool", parts=[result]))
        await thread.append(Message.assistant(ANSWER))


class Theirs:
    """openai-agents' runner, and the calls of its session that a turn takes, as they were counted in a first turn."""

    def __init__(self, folder: Path, length: int) -> None:
        agents.set_tracing_disabled(True)
        self.path = folder / "theirs.db"
        self.through, self.bare_session = (session(self.path, "normal", name) for name in ("agent", "bare"))
        self.calls: dict[bool, list[tuple[str, Any]]] = {}
        self.agent = agents.Agent(name="assistant", model=_their_model(), tools=[agents.function_tool(look_up)])
        self.settings = agents.SessionSettings(limit=LAST)
        self.length = length

    async def fill(self) -> None:
        for each in (self.through, self.bare_session):
            for _ in range(self.length // 2):
                await each.add_items([{"role": "user", "content": QUESTION}, _said(ANSWER).model_dump()])
        for tool in (False, True):
            recorder = _recording(session(self.path, "normal", f"recorded {tool}"))
            await self._run("Order 17?" if tool else QUESTION, recorder)
            self.calls[tool] = recorder.calls

    async def turn(self, question: str) -> None:
        await self._run(question, self.through)

    async def _run(self, question: str, held: Any) -> None:
        config = agents.RunConfig(session_settings=self.settings)
        done = await agents.Runner.run(self.agent, question, session=held, run_config=config)
        if done.final_output != ANSWER:
            raise AssertionError(f"the agent answered {done.final_output!r}")

    async def bare(self, *, tool: bool) -> None:
        for verb, items in self.calls[tool]:
            if verb == "get_items":
                await self.bare_session.get_items(LAST)
            else:
                await self.bare_session.add_items(list(items))


def _recording(held: Any) -> Any:
    """The session, which then has a list of the calls it got."""
    calls: list[tuple[str, Any]] = []
    get_items, add_items = held.get_items, held.add_items

    async def get(*arguments: Any, **named: Any) -> Any:
        calls.append(("get_items", None))
        return await get_items(*arguments, **named)

    async def add(items: Any) -> None:
        calls.append(("add_items", list(items)))
        await add_items(items)

    held.get_items, held.add_items, held.calls = get, add, calls
    return held


def _said(text: str) -> Any:
    types = import_module("openai.types.responses")
    part = types.ResponseOutputText(text=text, type="output_text", annotations=[], logprobs=[])
    return types.ResponseOutputMessage(
        id=new_id(), content=[part], role="assistant", status="completed", type="message"
    )


def _their_model() -> Any:
    types = import_module("openai.types.responses")

    class FunctionModel(agents.models.interface.Model):  # type: ignore[misc]  # a package that may be absent has no types
        async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> Any:
            last = input if isinstance(input, str) else input[-1]
            text = last if isinstance(last, str) else last.get("content") or ""
            output: Any = _said(ANSWER)
            if isinstance(text, str) and text.startswith("Order"):
                output = types.ResponseFunctionToolCall(
                    arguments='{"order": 17}', call_id=new_id(), name="look_up", type="function_call", id=new_id()
                )
            return agents.ModelResponse(output=[output], usage=agents.Usage(), response_id=None)

        def stream_response(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError("the benchmark does not stream")

    return FunctionModel()


async def measure(folder: Path, length: int, rounds: int, share: float) -> None:
    ours = Ours(folder, length)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(ours.memory.close)
        sides: dict[str, Any] = {"threadkeep": ours}
        if agents is not None:
            sides["openai-agents"] = Theirs(folder, length)
        rows = []
        for side in sides.values():
            await side.fill()
        for tool in (False, True):
            ways: dict[str, Way] = {}
            for name, side in sides.items():
                question = "Order 17?" if tool else QUESTION
                ways[f"{name}, turn"] = lambda number, side=side, question=question: side.turn(question)  # type: ignore[misc]  # a lambda with defaults has no type
                ways[f"{name}, store"] = lambda number, side=side, tool=tool: side.bare(tool=tool)  # type: ignore[misc]  # the same
            times = await interleaved(ways, rounds)
            found = quantile(times, share)
            for name in sides:
                whole, store = found[f"{name}, turn"], found[f"{name}, store"]
                loop = quantile(
                    {"loop": [a - b for a, b in zip(times[f"{name}, turn"], times[f"{name}, store"], strict=True)]},
                    share,
                )["loop"]
                rows.append(
                    [
                        "a tool's call" if tool else "plain",
                        name,
                        *(f"{value * 1e6:,.0f}" for value in (whole, store, loop)),
                        f"{whole / store:.2f}",
                    ]
                )
        head = ["turn", "library", "whole", "store alone", "loop", "whole / store"]
        print(table(f"One turn after {length} messages: µs, quantile {share}", head, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--quantile", type=float, default=0.5)
    parser.add_argument("--length", type=int, default=100, help="messages in the thread before the first turn")
    parser.add_argument("--folder", type=Path, help="where the files go, so on which disk; a new folder in it is used")
    given = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, {sys.platform}")
    if agents is None:
        print("\nopenai-agents is not installed, and left out")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        asyncio.run(measure(Path(folder), given.length, given.rounds, given.quantile))


if __name__ == "__main__":
    main()
