"""Two runs on one thread at once: who waits, who is turned away, and what a dead run leaves to others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import pairwise
from typing import Any

import pytest
from agents import ALICE, Gate, calls, events_of, stored, until

from threadkeep import Agent, Memory, Message
from threadkeep.agent import Committed, Finished, MemoryOptions, Waiting
from threadkeep.agent.busy import QUEUE
from threadkeep.agent.lease import RUN
from threadkeep.errors import OutcomeUnknown, RunLost, StoreUnavailable, ThreadBusy
from threadkeep.models import ModelRequest, ScriptedModel, TextDelta
from threadkeep.port import Changes, Put, Receipt, Snapshot, Thread, Window

SCOPE = Thread(**ALICE)


async def documents(memory: Memory) -> Snapshot:
    return await memory.store.load(SCOPE, Window())


async def status(memory: Memory) -> str:
    doc = (await documents(memory)).docs.get(RUN)
    return "" if doc is None or doc.body is None else json.loads(doc.body)["status"]


async def waiting(memory: Memory) -> int:
    doc = (await documents(memory)).docs.get(QUEUE)
    return 0 if doc is None or doc.body is None else len(json.loads(doc.body))


async def queued(memory: Memory, count: int) -> None:
    """Wait until so many runs wait for the thread."""

    async def there() -> bool:
        return await waiting(memory) == count

    await until(there)


async def hold(memory: Memory, seconds: float) -> None:
    """Leave the thread as a run does whose process dies after it has stored its request."""
    body = json.dumps({"run": "dead", "turn": "m0", "agent": "late", "status": "running", "seconds": seconds})
    await memory.thread(**ALICE).append(Message.user("Anybody there?", id="m0"))
    snapshot = await documents(memory)
    await memory.store.commit(SCOPE, Changes(at=memory.now(), epoch="e", puts=(Put(RUN, body),), if_tail=snapshot.tail))


async def test_a_turn_takes_one_load_and_a_commit_for_each_step(memory: Memory) -> None:
    async def look() -> str:
        return "seen"

    meter = memory.store.meter
    agent = Agent(model=ScriptedModel(["Hello.", calls("1", "2"), "Two seen."]), memory=memory, tools=[look])
    await memory.open()
    await agent.generate("Hi", resource_id="user_alice", thread_id="first")
    for text, commits in (("Look twice", 4),):
        before = meter.trips
        await agent.generate(text, **ALICE)
        assert meter.trips - before == 1 + commits
    before = meter.trips
    silent = Agent(model=agent.model, memory=memory, max_steps=0)
    await silent.generate(Message.user("For the record", id="m9"), **ALICE)
    assert meter.trips - before == 2
    before = meter.trips
    await silent.generate(Message.user("For the record", id="m9"), **ALICE)
    assert meter.trips - before == 1


async def test_queued_runs_go_one_after_the_other_in_the_order_in_which_they_came(memory: Memory) -> None:
    model = Gate()
    agent = Agent(model=model, memory=memory)
    runs = []
    for n, text in enumerate(("one", "two", "three", "four")):
        runs.append(asyncio.create_task(agent.generate(text, **ALICE)))
        await until(lambda: model.asked)
        await queued(memory, n)
    model.open.set()
    replies = await asyncio.gather(*runs)
    assert [reply.text for reply in replies] == ["ONE", "TWO", "THREE", "FOUR"]
    assert await stored(memory) == [
        "user: one", "assistant: ONE", "user: two", "assistant: TWO",
        "user: three", "assistant: THREE", "user: four", "assistant: FOUR",
    ]  # fmt: skip
    assert (await waiting(memory), await status(memory)) == (0, "stop")


async def test_a_run_that_waits_tells_so_once_and_before_anything_of_it_is_stored(memory: Memory) -> None:
    model = Gate()
    first = asyncio.create_task(Agent(name="desk", model=model, memory=memory).generate("one", **ALICE))
    await until(lambda: model.asked)
    events = Agent(name="returns", model=model, memory=memory).stream("two", **ALICE)
    async with aclosing(events):
        assert await anext(events) == Waiting("desk")
        assert await stored(memory) == ["user: one"]
        model.open.set()
        await first
        kinds = [type(event) async for event in events]
    assert kinds[0] is Committed
    assert Waiting not in kinds


async def test_many_runs_at_once_are_never_mixed(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel(lambda request: request.messages[-1].text.upper()), memory=memory)
    await asyncio.gather(*(agent.generate(f"q{n}", **ALICE) for n in range(12)))
    said = await stored(memory)
    questions = [text.removeprefix("user: ") for text in said[::2]]
    assert sorted(questions) == sorted(f"q{n}" for n in range(12))
    assert said[1::2] == [f"assistant: {text.upper()}" for text in questions]


async def test_a_rejected_run_writes_nothing_and_may_be_repeated(memory: Memory) -> None:
    model = Gate()
    agent = Agent(name="support", model=model, memory=memory, on_busy="reject")
    first = asyncio.create_task(agent.generate("one", **ALICE))
    await until(lambda: model.asked)
    before = await documents(memory)
    with pytest.raises(ThreadBusy, match="a run of agent 'support' is at work in thread 'support'") as refusal:
        await agent.generate(Message.user("two", id="m2"), **ALICE)
    assert refusal.value.retryable
    assert await documents(memory) == before
    model.open.set()
    await first
    assert (await agent.generate(Message.user("two", id="m2"), **ALICE)).text == "TWO"


async def test_interleaved_runs_go_on_beside_each_other_and_each_message_says_to_which_turn_it_belongs(
    memory: Memory,
) -> None:
    model = Gate()
    agent = Agent(model=model, memory=memory, on_busy="interleave")
    runs = [asyncio.create_task(agent.generate(Message.user(text, id=text), **ALICE)) for text in ("one", "two")]
    await until(lambda: len(model.asked) == 2)
    model.open.set()
    await asyncio.gather(*runs)
    messages = await memory.thread(**ALICE).messages()
    assert [message.role for message in messages] == ["user", "user", "assistant", "assistant"]
    assert {message.text: message.metadata["turn"] for message in messages[2:]} == {"ONE": "one", "TWO": "two"}


async def test_what_interleaved_runs_leave_can_be_shown_to_a_model(memory: Memory) -> None:
    met = asyncio.Barrier(2)

    async def look() -> str:
        await met.wait()
        return "seen"

    def answer(request: ModelRequest) -> str | Message:
        last = request.messages[-1]
        return calls(f"call of {last.text}") if last.role == "user" else "Seen."

    agent = Agent(model=ScriptedModel(answer), memory=memory, tools=[look], on_busy="interleave")
    await asyncio.gather(*(agent.generate(text, **ALICE) for text in ("one", "two")))
    seen: list[Message] = []

    def watch(request: ModelRequest) -> str:
        seen.extend(request.messages)
        return "Yes."

    await Agent(model=ScriptedModel(watch), memory=memory).generate("All well?", **ALICE)
    assert sum(bool(message.tool_calls) for message in seen) == 2
    for before, after in pairwise(seen):
        if before.tool_calls:
            assert [part.tool_call_id for part in after.tool_results] == [before.tool_calls[0].tool_call_id]


async def test_a_dead_run_holds_its_thread_no_longer_than_it_said_it_would(memory: Memory) -> None:
    await hold(memory, 0.2)
    agent = Agent(model=ScriptedModel(["Yes.", "No."]), memory=memory, on_busy="reject")
    with pytest.raises(ThreadBusy):
        await agent.generate("Hello?", **ALICE)
    await asyncio.sleep(0.25)
    assert (await agent.generate(Message.user("Anybody there?", id="m0"), **ALICE)).text == "Yes."
    await hold_again(memory, 0.2)
    assert (await agent.generate("Well?", on_busy="queue", **ALICE)).text == "No."
    assert await stored(memory) == ["user: Anybody there?", "assistant: Yes.", "user: Well?", "assistant: No."]


async def hold_again(memory: Memory, seconds: float) -> None:
    body = json.dumps({"run": "dead", "turn": "m5", "agent": "late", "status": "running", "seconds": seconds})
    await memory.store.commit(SCOPE, Changes(at=memory.now(), epoch="e", puts=(Put(RUN, body),)))


async def test_one_that_died_waiting_does_not_stop_those_behind_it(memory: Memory) -> None:
    await memory.thread(**ALICE).append("Hello?")
    put = Put(QUEUE, json.dumps([["dead", 0.2]]))
    await memory.store.commit(SCOPE, Changes(at=memory.now(), epoch="e", puts=(put,)))
    agent = Agent(model=ScriptedModel(["Hello."]), memory=memory, lease_seconds=0.2)
    assert (await agent.generate("Hi", **ALICE)).text == "Hello."
    assert await waiting(memory) == 0


async def test_one_that_gives_up_waiting_leaves_the_queue(memory: Memory) -> None:
    model = Gate()
    agent = Agent(model=model, memory=memory)
    first = asyncio.create_task(agent.generate("one", **ALICE))
    await until(lambda: model.asked)
    second = asyncio.create_task(agent.generate("two", **ALICE))
    await until(lambda: waiting(memory))
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert await waiting(memory) == 0
    model.open.set()
    await first
    assert await stored(memory) == ["user: one", "assistant: ONE"]


async def test_a_long_call_of_the_model_is_renewed_and_nobody_takes_the_thread(memory: Memory) -> None:
    model = Gate()
    agent = Agent(model=model, memory=memory, lease_seconds=0.3)
    first = asyncio.create_task(agent.generate("one", **ALICE))
    await until(lambda: model.asked)
    version = (await documents(memory)).docs[RUN].version
    second = asyncio.create_task(agent.generate("two", **ALICE))

    async def renewed() -> bool:
        return (await documents(memory)).docs[RUN].version >= version + 8

    await until(renewed)
    assert model.asked == ["one"]
    model.open.set()
    assert [reply.text for reply in await asyncio.gather(first, second)] == ["ONE", "TWO"]


async def test_a_run_that_was_taken_for_dead_stops_without_writing(memory: Memory) -> None:
    model = Gate()
    late = Agent(name="late", model=model, memory=memory, lease_seconds=60)
    first = asyncio.create_task(late.generate(Message.user("one", id="m1"), **ALICE))
    await until(lambda: model.asked)
    await hold_again(memory, 0.1)
    other = Agent(name="other", model=ScriptedModel(["Hello."]), memory=memory)
    await other.generate(Message.user("one", id="m1"), **ALICE)
    before = await documents(memory)
    model.open.set()
    with pytest.raises(RunLost, match="the run of agent 'late' has stopped: another run has taken"):
        await first
    assert await stored(memory) == ["user: one", "assistant: Hello."]
    assert await documents(memory) == before


async def test_a_repeated_request_waits_for_the_run_at_work_and_gets_its_answer(memory: Memory) -> None:
    model = Gate()
    agent = Agent(model=model, memory=memory)
    first = asyncio.create_task(agent.generate(Message.user("one", id="m1"), **ALICE))
    await until(lambda: model.asked)
    second = asyncio.create_task(agent.generate(Message.user("one", id="m1"), **ALICE))
    await until(lambda: waiting(memory))
    model.open.set()
    assert [(reply.text, reply.reason) for reply in await asyncio.gather(first, second)] == [
        ("ONE", "stop"),
        ("ONE", "repeated"),
    ]
    assert model.asked == ["one"]
    assert (await waiting(memory), await stored(memory)) == (0, ["user: one", "assistant: ONE"])


async def test_the_answer_of_an_old_request_is_told_while_another_run_is_at_work(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel(lambda request: "Yes."), memory=memory, options=MemoryOptions(last=4))
    for n in range(5):
        await agent.generate(Message.user("yes?", id=f"m{n}"), **ALICE)
    model = Gate()
    busy = asyncio.create_task(Agent(model=model, memory=memory).generate("go", **ALICE))
    await until(lambda: model.asked)
    reply = await agent.generate(Message.user("yes?", id="m0"), **ALICE)
    assert (reply.text, reply.reason) == ("Yes.", "repeated")
    model.open.set()
    await busy
    assert len(await stored(memory)) == 12


async def test_a_request_that_was_never_answered_is_answered_when_it_is_repeated_after_others(memory: Memory) -> None:
    await memory.thread(**ALICE).append(Message.user("one", id="m1"))
    agent = Agent(model=ScriptedModel(["Two.", "One."]), memory=memory)
    await agent.generate("two", **ALICE)
    for reason in ("stop", "repeated"):
        reply = await agent.generate(Message.user("one", id="m1"), **ALICE)
        assert (reply.text, reply.reason) == ("One.", reason)
    assert await stored(memory) == ["user: one", "user: two", "assistant: Two.", "assistant: One."]


async def test_a_turn_that_was_interrupted_among_its_calls_and_is_overtaken_says_so(memory: Memory) -> None:
    mark = {"turn": "m1"}
    await memory.thread(**ALICE).append(Message.user("one", id="m1"), calls("1", metadata=mark))
    agent = Agent(model=ScriptedModel(["Two."]), memory=memory)
    await agent.generate("two", **ALICE)
    reply = await agent.generate(Message.user("one", id="m1"), **ALICE)
    assert (reply.reason, reply.text) == ("overtaken", "")
    assert len(await stored(memory)) == 4


@pytest.mark.parametrize("happened", [True, False])
@pytest.mark.parametrize("nth", [1, 2])
async def test_a_commit_whose_outcome_is_unknown_is_repeated_and_doubles_nothing(
    memory: Memory, happened: bool, nth: int
) -> None:
    store = memory.store.store
    commit, count = store.commit, 0

    async def unsure(scope: Any, changes: Changes) -> Receipt:
        nonlocal count
        count += 1
        if count != nth:
            return await commit(scope, changes)
        if happened:
            await commit(scope, changes)
        raise OutcomeUnknown("the connection was lost")

    store.commit = unsure  # type: ignore[method-assign]  # the fault under test
    agent = Agent(model=ScriptedModel(["Hello.", "Again."]), memory=memory)
    events = await events_of(agent.stream("Hi", **ALICE))
    assert [event.tail.position for event in events if isinstance(event, Committed)] == [1, 2]
    assert isinstance(events[-1], Finished)
    assert (await agent.generate("And?", on_busy="reject", **ALICE)).text == "Again."
    assert await stored(memory) == ["user: Hi", "assistant: Hello.", "user: And?", "assistant: Again."]


async def test_a_store_that_stays_away_fails_the_run_and_the_thread_is_free_after_a_while(memory: Memory) -> None:
    store = memory.store.store
    commit = store.commit

    class Away:
        async def stream(self, request: ModelRequest) -> AsyncIterator[TextDelta | Message]:
            async def away(scope: Any, changes: Changes) -> Receipt:
                raise StoreUnavailable("no server")

            store.commit = away  # type: ignore[method-assign]  # the fault under test
            yield Message.assistant("Lost.")

    agent = Agent(model=Away(), memory=memory, lease_seconds=0.2)
    with pytest.raises(StoreUnavailable):
        await agent.generate(Message.user("Hi", id="m1"), **ALICE)
    store.commit = commit  # type: ignore[method-assign]  # the fault is over
    again = Agent(model=ScriptedModel(["Hello."]), memory=memory)
    assert (await again.generate(Message.user("Hi", id="m1"), **ALICE)).text == "Hello."
    assert await stored(memory) == ["user: Hi", "assistant: Hello."]


async def test_a_thread_that_is_deleted_under_a_run_stays_deleted(memory: Memory) -> None:
    model = Gate()
    run = asyncio.create_task(Agent(model=model, memory=memory).generate("one", **ALICE))
    await until(lambda: model.asked)
    await memory.thread(**ALICE).delete()
    model.open.set()
    with pytest.raises(RunLost):
        await run
    assert not await memory.thread(**ALICE).exists()


async def test_a_request_that_is_dropped_under_its_run_is_not_answered(memory: Memory) -> None:
    model = Gate()
    run = asyncio.create_task(Agent(model=model, memory=memory).generate(Message.user("one", id="m1"), **ALICE))
    await until(lambda: model.asked)
    await memory.thread(**ALICE).drop_from("m1")
    model.open.set()
    with pytest.raises(RunLost, match="message 'm1', which it answers, has been dropped"):
        await run
    assert await stored(memory) == []
    assert (await Agent(model=model, memory=memory).generate("two", on_busy="reject", **ALICE)).text == "TWO"
