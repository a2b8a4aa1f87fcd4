"""Support agents and what they remember, on every store of this distribution: alice and bob, one user with two threads,
an admin who looks across, two agents on one thread and on two. Their models follow a script, called directly, and
behind a server that speaks OpenAI's protocol."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import store_urls
from model_server import KEY
from openai_server import serving, speaking
from pydantic import BaseModel

from threadkeep import Agent, Memory, Message
from threadkeep.agent import MemoryOptions, TitleChanged, WorkingMemoryChanged
from threadkeep.agent.working_memory import TOOL_NAME
from threadkeep.errors import ReadOnly, ThreadNotFound
from threadkeep.messages import ToolCallPart
from threadkeep.models import Model, ModelRequest, ProviderModel, ScriptedModel

pytestmark = pytest.mark.slow


STORES = sorted(set(store_urls.SCHEMES) & set(store_urls.URLS))


class Speaker:
    """Makes models of scripts, and closes them."""

    def __init__(self, *, wired: bool) -> None:
        self._wired = wired
        self._models: list[ProviderModel] = []
        self._servers = ExitStack()

    def __call__(self, script: Callable[[ModelRequest], str | Message]) -> Model:
        if not self._wired:
            return ScriptedModel(script)
        server = self._servers.enter_context(serving(speaking(script)))
        model = ProviderModel("gpt-test", base_url=server.url, api_key=KEY)
        self._models.append(model)
        return model

    async def close(self) -> None:
        for model in self._models:
            await model.close()
        self._servers.close()


@pytest.fixture(params=["scripted", "openai protocol"])
async def speaks(request: pytest.FixtureRequest) -> AsyncIterator[Speaker]:
    speaker = Speaker(wired=request.param != "scripted")
    yield speaker
    await speaker.close()


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store, whose server is there."""
    return store_urls.ready(request.param, tmp_path)


@pytest.fixture
def new() -> Callable[[str], str]:
    """Makes names of users that no other run of a test has."""
    run = uuid.uuid4().hex[:8]
    return lambda name: f"{run} {name}"


@pytest.fixture
async def memory(url: str, new: Callable[[str], str]) -> AsyncIterator[Memory]:
    """A Memory on the store, from which the new users are erased afterwards."""
    async with Memory(url) as memory:
        yield memory
        async for resource_id in memory.admin.resources():
            if resource_id.startswith(new("")):
                await memory.resource(resource_id).erase()


def heard(request: ModelRequest) -> str:
    """In place of a model: everything that users have said in what it is shown."""
    return " / ".join(message.text for message in request.messages if message.role == "user")


async def texts(memory: Memory, user: str, thread: str) -> list[str]:
    return [message.text for message in await memory.thread(user, thread).messages()]


async def test_alice_and_bob_with_one_thread_id_know_nothing_of_each_other(
    memory: Memory, new: Callable[[str], str], speaks: Speaker
) -> None:
    alice, bob = new("user_alice"), new("user_bob")
    agent = Agent(name="support", model=speaks(heard), memory=memory)

    async def ask(user: str, text: str) -> str:
        return (await agent.generate(text, resource_id=user, thread_id="support_thread_1")).text

    await asyncio.gather(ask(alice, "My order 17 is late."), ask(bob, "Do you ship to Oslo?"))
    answers = await asyncio.gather(ask(alice, "Any news?"), ask(bob, "And to Bergen?"))
    assert list(answers) == ["My order 17 is late. / Any news?", "Do you ship to Oslo? / And to Bergen?"]
    for user in (alice, bob):
        assert [info.thread_id async for info in memory.resource(user).threads()] == ["support_thread_1"]
    await memory.resource(alice).erase()
    assert await texts(memory, alice, "support_thread_1") == []
    assert len(await texts(memory, bob, "support_thread_1")) == 4


async def test_one_user_has_two_threads_that_do_not_mix_and_a_profile_in_both(
    memory: Memory, new: Callable[[str], str], speaks: Speaker
) -> None:
    class Profile(BaseModel):
        name: str | None = None

    def answer(request: ModelRequest) -> str | Message:
        said = request.messages[-1].text
        if said.startswith("I am "):
            patch = {"name": said.removeprefix("I am ")}
            call = ToolCallPart(tool_call_id="1", name=TOOL_NAME, arguments={"version": 0, "patch": patch})
            return Message(role="assistant", parts=[call])
        name = "Alice" if "Alice" in (request.instructions or "") else "stranger"
        return f"{name}: {heard(request)}"

    alice = new("user_alice")
    agent = Agent(
        model=speaks(answer),
        title=lambda messages: messages[0].text,
        memory=memory,
        options=MemoryOptions(working_memory="resource", schema=Profile),
    )
    events = [event async for event in agent.stream("I am Alice", resource_id=alice, thread_id="orders")]
    assert [event.memory.value for event in events if isinstance(event, WorkingMemoryChanged)] == [{"name": "Alice"}]
    assert [event.title for event in events if isinstance(event, TitleChanged)] == ["I am Alice"]
    other = await agent.generate("A week in Oslo?", resource_id=alice, thread_id="travel")
    assert other.text == "Alice: A week in Oslo?"
    again = await agent.generate("Any news?", resource_id=alice, thread_id="orders")
    assert again.text == "Alice: I am Alice / Any news?"
    listed = [info async for info in memory.resource(alice).threads(order="active")]
    assert [(info.thread_id, info.title) for info in listed] == [
        ("orders", "I am Alice"), ("travel", "A week in Oslo?"),
    ]  # fmt: skip
    stranger = await agent.generate("Hello", resource_id=new("user_bob"), thread_id="orders")
    assert stranger.text == "stranger: Hello"


async def test_an_admin_looks_across_users_and_changes_nothing(
    memory: Memory, new: Callable[[str], str], speaks: Speaker
) -> None:
    agent = Agent(model=speaks(heard), memory=memory)
    for user, thread in (("user_alice", "order"), ("user_alice", "travel"), ("user_bob", "order")):
        await agent.generate(f"{user} in {thread}", resource_id=new(user), thread_id=thread)
    found = [
        (info.resource_id, info.thread_id, info.position)
        async for resource_id in memory.admin.resources()
        if resource_id.startswith(new(""))  # what the contract left in the same place is no thread of an agent
        async for info in memory.admin.resource(resource_id).threads()
    ]
    assert found == [
        (new("user_alice"), "order", 2), (new("user_alice"), "travel", 2), (new("user_bob"), "order", 2),
    ]  # fmt: skip
    watcher = memory.admin.resource(new("user_bob"), read_only=True)
    assert [message.text for message in await watcher.thread("order").messages()] == ["user_bob in order"] * 2
    with pytest.raises(ReadOnly):
        await watcher.thread("order").append("Hello from support")
    with pytest.raises(ThreadNotFound):
        await watcher.thread("travel").messages()
    reply = await agent.generate(
        "What does the agent see?",
        resource_id=new("user_bob"),
        thread_id="order",
        options=MemoryOptions(read_only=True),
    )
    assert reply.text == "user_bob in order / What does the agent see?"
    assert await texts(memory, new("user_bob"), "order") == ["user_bob in order"] * 2


async def test_two_agents_on_one_thread_read_each_other_and_sign_what_they_say(
    memory: Memory, new: Callable[[str], str], speaks: Speaker
) -> None:
    alice = new("user_alice")
    desk = Agent(name="desk", model=speaks(lambda request: "A colleague will look."), memory=memory)
    returns = Agent(name="returns", model=speaks(lambda request: f"I read {len(request.messages)}."), memory=memory)
    await desk.generate("My lamp is broken.", resource_id=alice, thread_id="lamp")
    reply = await returns.generate("Can I send it back?", resource_id=alice, thread_id="lamp")
    assert reply.text == "I read 3."
    messages = await memory.thread(alice, "lamp").messages()
    assert [message.metadata.get("agent") for message in messages] == [None, "desk", None, "returns"]


async def test_two_agents_on_two_threads_share_what_one_of_them_noted_about_the_user(
    memory: Memory, new: Callable[[str], str], speaks: Speaker
) -> None:
    def specialist(request: ModelRequest) -> str | Message:
        if request.messages[-1].role != "user":
            return "Noted."
        call = ToolCallPart(tool_call_id="1", name=TOOL_NAME, arguments={"version": 0, "text": "Cannot eat nuts."})
        return Message(role="assistant", parts=[call])

    def generalist(request: ModelRequest) -> str:
        return f"{len(request.messages)} seen, nuts {'off' if 'nuts' in (request.instructions or '') else 'on'}"

    alice = new("user_alice")
    options = MemoryOptions(working_memory="resource")
    dietician = Agent(name="dietician", model=speaks(specialist), memory=memory, options=options)
    cook = Agent(name="cook", model=speaks(generalist), memory=memory, options=options)
    await dietician.generate("No nuts, please.", resource_id=alice, thread_id="health")
    assert (await cook.generate("Dinner?", resource_id=alice, thread_id="dinner")).text == "1 seen, nuts off"
    assert (await cook.generate("Dinner?", resource_id=new("bob"), thread_id="dinner")).text == "1 seen, nuts on"
    private = MemoryOptions(working_memory="thread")
    reply = await cook.generate("Dinner?", resource_id=alice, thread_id="dinner", options=private)
    assert reply.text == "3 seen, nuts on"
