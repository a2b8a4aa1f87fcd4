"""Tools in a run: side by side, bounded in time, with approval, run by the client; and what is kept of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from agents import ALICE, calls, events_of, result, shown, stored

from threadkeep import Agent, Memory, Message
from threadkeep.agent import (
    Approval,
    ApprovalNeeded,
    Committed,
    Event,
    Finished,
    MemoryOptions,
    ResultsNeeded,
    ToolAnswered,
)
from threadkeep.errors import CallNotPending, InvalidContent, InvalidInput, MessageConflict
from threadkeep.messages import ToolCallPart, ToolResultPart
from threadkeep.models import ModelRequest, ScriptedModel, Tool, ToolContext, client_tool, tool


def ordering(*parts: tuple[str, str, dict[str, Any]]) -> Message:
    """A message with calls: id, name and arguments each."""
    made = [ToolCallPart(tool_call_id=id, name=name, arguments=arguments) for id, name, arguments in parts]
    return Message(role="assistant", parts=[*made])


def reason(events: Sequence[Event]) -> str:
    assert isinstance(events[-1], Finished)
    return events[-1].reason


async def test_the_calls_of_one_message_run_side_by_side_and_their_results_are_in_call_order(memory: Memory) -> None:
    met = asyncio.Barrier(3)

    async def look(place: str) -> str:
        await met.wait()
        if place == "a":
            await asyncio.sleep(0.02)
        return place.upper()

    message = ordering(*((place, "look", {"place": place}) for place in "abc"))
    agent = Agent(model=ScriptedModel([message, "All seen."]), memory=memory, tools=[look])
    events = await events_of(agent.stream("Look", **ALICE))
    told = [event.result.result for event in events if isinstance(event, ToolAnswered)]
    assert (sorted(told), told[-1]) == (["A", "B", "C"], "A")
    assert await stored(memory) == [
        "user: Look", "assistant: ['a', 'b', 'c']", "tool: ['A']", "tool: ['B']", "tool: ['C']",
        "assistant: All seen.",
    ]  # fmt: skip


async def test_no_other_call_runs_beside_a_tool_that_is_not_parallel(memory: Memory) -> None:
    running: set[str] = set()
    beside: dict[str, set[str]] = {}

    async def step(place: str) -> None:
        running.add(place)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        beside[place] = running - {place}
        running.discard(place)

    async def alone(place: str) -> None:
        await step(place)

    async def look(place: str) -> None:
        await step(place)

    names = {"a": "look", "b": "look", "c": "alone", "d": "look", "e": "alone"}
    message = ordering(*((id, name, {"place": id}) for id, name in names.items()))
    agent = Agent(model=ScriptedModel([message, "Done."]), memory=memory, tools=[look, tool(alone, parallel=False)])
    await agent.generate("Go", **ALICE)
    assert {place: others for place, others in beside.items() if names[place] == "alone"} == {
        "c": set(),
        "e": set(),
    }
    assert beside["d"] == set()
    assert list(beside) == list("abcde")


async def test_a_tool_that_takes_too_long_is_an_error_for_the_model(memory: Memory) -> None:
    stopped = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async def late() -> None:
        raise TimeoutError("the shop does not answer")

    message = ordering(("1", "slow", {}), ("2", "late", {}))
    agent = Agent(
        model=ScriptedModel([message, "Sorry."]),
        memory=memory,
        tools=[slow, tool(late, timeout=9)],
        tool_timeout=0.05,
    )
    events = await events_of(agent.stream("Go", **ALICE))
    results = {event.result.name: event.result for event in events if isinstance(event, ToolAnswered)}
    assert stopped.is_set()
    assert (results["slow"].is_error, results["slow"].result) == (
        True,
        "slow was stopped after 0.05 seconds without a result",
    )
    assert results["late"].result == "TimeoutError: the shop does not answer"
    assert reason(events) == "stop"


async def test_a_tool_is_told_whose_conversation_it_is_in_and_may_tell_the_caller(memory: Memory) -> None:
    async def note(text: str, context: ToolContext) -> str:
        context.emit(("noted", text))
        await context.memory.resource(context.resource_id).working_memory.put(text)
        return f"{context.resource_id}/{context.thread_id} {context.agent} {context.call.tool_call_id}"

    made = tool(note)
    assert set(made.parameters["properties"]) == {"text"}
    message = ordering(("1", "note", {"text": "tea"}))
    agent = Agent(name="waiter", model=ScriptedModel([message, "Noted."]), memory=memory, tools=[made])
    events = await events_of(agent.stream("Tea", **ALICE))
    told: list[object] = [*events]
    assert ("noted", "tea") in told
    assert [event.result.result for event in events if isinstance(event, ToolAnswered)] == [
        "user_alice/support waiter 1"
    ]
    assert (await memory.resource("user_alice").working_memory.get()).value == "tea"


class Shop:
    """A tool with effects, and an agent that has to ask before it has them."""

    def __init__(self, memory: Memory, *answers: str | Message, last: int = 40) -> None:
        self.paid: list[int] = []
        self.asked: list[list[str]] = []
        script = iter(answers)

        def answer(request: ModelRequest) -> str | Message:
            self.asked.append(shown([*request.messages]))
            return next(script)

        async def refund(euros: int) -> str:
            self.paid.append(euros)
            return f"paid {euros}"

        async def look() -> str:
            return "seen"

        self.agent = Agent(
            model=ScriptedModel(answer),
            memory=memory,
            options=MemoryOptions(last=last),
            tools=[tool(refund, needs_approval=lambda arguments: arguments["euros"] > 10), look],
        )


async def test_a_call_that_needs_approval_stops_the_run_and_another_process_continues_it(memory: Memory) -> None:
    shop = Shop(memory, ordering(("1", "refund", {"euros": 50}), ("2", "look", {}), ("3", "refund", {"euros": 5})))
    events = await events_of(shop.agent.stream(Message.user("Money back", id="m1"), **ALICE))
    needed = [event for event in events if isinstance(event, ApprovalNeeded)]
    assert [call.tool_call_id for event in needed for call in event.calls] == ["1"]
    assert (reason(events), shop.paid) == ("approval", [5])
    again = await shop.agent.generate(Message.user("Money back", id="m1"), **ALICE)
    assert (again.reason, [call.tool_call_id for call in again.waiting], shop.paid) == ("approval", ["1"], [5])
    other = Shop(memory, "All paid.")
    reply = await other.agent.generate(approvals=[Approval("1", approve=True)], **ALICE)
    assert (reply.text, reply.reason, other.paid) == ("All paid.", "stop", [50])
    assert await stored(memory) == [
        "user: Money back", "assistant: ['1', '2', '3']", "tool: ['seen']", "tool: ['paid 5']", "tool: ['paid 50']",
        "assistant: All paid.",
    ]  # fmt: skip
    repeated = await other.agent.generate(approvals=[Approval("1", approve=True)], **ALICE)
    assert (repeated.text, repeated.reason, other.paid) == ("All paid.", "repeated", [50])


async def test_a_denied_call_does_not_run_and_the_model_is_told_why(memory: Memory) -> None:
    shop = Shop(memory, ordering(("1", "refund", {"euros": 50})), "I may not.")
    await shop.agent.generate("Money back", **ALICE)
    reply = await shop.agent.generate(approvals=[Approval("1", approve=False, reason="too much")], **ALICE)
    assert (reply.text, shop.paid) == ("I may not.", [])
    denied = (await memory.thread(**ALICE).messages())[2]
    assert denied.tool_results == [
        ToolResultPart(tool_call_id="1", name="refund", result="the call was denied: too much", is_error=True)
    ]
    assert denied.metadata["approval"] == {"approve": False, "reason": "too much"}


async def test_an_approval_may_change_the_arguments_and_the_thread_keeps_both(memory: Memory) -> None:
    shop = Shop(memory, ordering(("1", "refund", {"euros": 50})), "Paid.")
    await shop.agent.generate("Money back", **ALICE)
    await shop.agent.generate(approvals=[Approval("1", approve=True, arguments={"euros": 20})], **ALICE)
    assert shop.paid == [20]
    messages = await memory.thread(**ALICE).messages()
    assert messages[1].tool_calls[0].arguments == {"euros": 50}
    assert messages[2].metadata["approval"] == {"approve": True, "arguments": {"euros": 20}}


async def test_several_approvals_come_one_by_one(memory: Memory) -> None:
    shop = Shop(memory, ordering(("1", "refund", {"euros": 50}), ("2", "refund", {"euros": 60})), "Both paid.")
    await shop.agent.generate("Money back", **ALICE)
    half = await shop.agent.generate(approvals=[Approval("2", approve=True)], **ALICE)
    assert (half.reason, shop.paid, [call.tool_call_id for call in half.waiting]) == ("approval", [60], ["1"])
    whole = await shop.agent.generate(approvals=[Approval("1", approve=True)], **ALICE)
    assert (whole.text, shop.paid) == ("Both paid.", [60, 50])


async def test_an_approval_is_stored_before_the_tool_runs(memory: Memory) -> None:
    tries: list[int] = []

    async def refund(euros: int) -> str:
        tries.append(euros)
        if len(tries) == 1:
            raise asyncio.CancelledError
        return "paid"

    model = ScriptedModel([ordering(("1", "refund", {"euros": 50})), "Paid."])
    agent = Agent(model=model, memory=memory, tools=[tool(refund, needs_approval=True)])
    await agent.generate(Message.user("Money back", id="m1"), **ALICE)
    with pytest.raises(asyncio.CancelledError):
        await agent.generate(approvals=[Approval("1", approve=True, arguments={"euros": 7})], **ALICE)
    reply = await agent.generate(Message.user("Money back", id="m1"), **ALICE)
    assert (reply.text, tries) == ("Paid.", [7, 7])


async def test_what_waits_for_nothing_cannot_be_approved(memory: Memory) -> None:
    shop = Shop(memory, ordering(("1", "refund", {"euros": 50})), "Never mind.")
    with pytest.raises(CallNotPending):
        await shop.agent.generate(approvals=[Approval("1", approve=True)], **ALICE)
    assert not await memory.thread(**ALICE).exists()
    await shop.agent.generate("Money back", **ALICE)
    with pytest.raises(CallNotPending, match=r"no call '2' .* \(waiting: '1'\)"):
        await shop.agent.generate(approvals=[Approval("2", approve=True), Approval("1", approve=True)], **ALICE)
    await shop.agent.generate("Forget it", **ALICE)
    assert shop.asked[-1][2].startswith("tool: ['The call was interrupted")
    with pytest.raises(CallNotPending):
        await shop.agent.generate(approvals=[Approval("1", approve=True)], **ALICE)
    assert shop.paid == []


async def test_wrong_approvals_are_refused_by_name(memory: Memory) -> None:
    agent = Shop(memory).agent
    with pytest.raises(InvalidContent, match="approve is True or False"):
        Approval("1", approve="yes")  # type: ignore[arg-type]  # what a careless caller does
    with pytest.raises(InvalidContent, match="JSON object"):
        Approval("1", approve=True, arguments="{}")  # type: ignore[arg-type]  # what a careless caller does
    with pytest.raises(InvalidContent, match="only JSON is kept"):
        Approval("1", approve=True, arguments={"when": object()})
    with pytest.raises(InvalidInput, match="send what is new in a request of its own"):
        agent.stream("Hi", approvals=[Approval("1", approve=True)], **ALICE)
    with pytest.raises(InvalidInput, match="two approvals"):
        agent.stream(approvals=[Approval("1", approve=True), Approval("1", approve=False)], **ALICE)
    with pytest.raises(InvalidInput, match="needs a part of kind tool_result"):
        agent.stream(Message(role="tool"), **ALICE)


async def test_a_tool_that_the_client_runs_stops_the_run_until_its_result_comes(memory: Memory) -> None:
    async def look() -> str:
        return "seen"

    message = ordering(("1", "locate", {}), ("2", "look", {}))
    agent = Agent(
        model=ScriptedModel([message, "You are in Rome.", "In Rome."]),
        memory=memory,
        tools=[client_tool("locate", description="Where the user is."), look],
    )
    events = await events_of(agent.stream("Where am I?", **ALICE))
    assert [event.calls[0].name for event in events if isinstance(event, ResultsNeeded)] == ["locate"]
    assert reason(events) == "client_tools"
    with pytest.raises(CallNotPending, match=r"no call '2' .* \(waiting: '1'\)"):
        await agent.generate(result("2", "forged"), **ALICE)
    answer = result("1", "Rome", id="r1")
    events = await events_of(agent.stream(answer, **ALICE))
    assert [type(event) for event in events if not hasattr(event, "text")] == [Committed, Committed, Finished]
    repeated = await agent.generate(answer, **ALICE)
    assert (repeated.text, repeated.reason) == ("You are in Rome.", "repeated")
    with pytest.raises(MessageConflict):
        await agent.generate(result("1", "Oslo", id="r1"), **ALICE)
    assert await stored(memory) == [
        "user: Where am I?", "assistant: ['1', '2']", "tool: ['seen']", "tool: ['Rome']",
        "assistant: You are in Rome.",
    ]  # fmt: skip


async def test_the_results_of_tools_that_had_run_are_kept_when_the_run_is_cancelled(memory: Memory) -> None:
    runs: list[str] = []
    hangs = asyncio.Event()

    async def quick() -> str:
        runs.append("quick")
        return "done"

    async def slow() -> str:
        runs.append("slow")
        if runs.count("slow") == 1:
            hangs.set()
            await asyncio.Event().wait()
        return "done too"

    message = ordering(("1", "slow", {}), ("2", "quick", {}))
    agent = Agent(model=ScriptedModel([message, "Both."]), memory=memory, tools=[quick, slow])
    request = Message.user("Go", id="m1")
    run = asyncio.create_task(agent.generate(request, **ALICE))
    await hangs.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert await stored(memory) == ["user: Go", "assistant: ['1', '2']", "tool: ['done']"]
    assert (await agent.generate(request, on_busy="reject", **ALICE)).text == "Both."
    assert sorted(runs) == ["quick", "slow", "slow"]


async def test_a_tool_that_is_not_there_any_more_is_an_error_and_does_not_stop_the_thread(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel([calls("1", name="gone"), "Sorry."]), memory=memory)
    reply = await agent.generate("Go", **ALICE)
    assert (reply.text, "there is no tool 'gone'" in str(reply.messages[2].tool_results)) == ("Sorry.", True)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "2", True])
def test_a_timeout_is_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(InvalidInput, match="timeout is a number of seconds above 0"):
        Tool("look", "", {}, None, timeout=seconds)
    with pytest.raises(InvalidInput, match="timeout is a number of seconds above 0"):
        Agent(model=ScriptedModel([]), memory=Memory("memory://x"), tool_timeout=seconds)
