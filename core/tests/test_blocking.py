"""The blocking surface: the same promises, kept for code without an event loop of its own."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import inspect
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

import threadkeep.agent
import threadkeep.handles.memory
import threadkeep.handles.thread
import threadkeep.handles.working_memory
from threadkeep import blocking
from threadkeep.agent import Committed, Finished
from threadkeep.blocking import Agent, Memory
from threadkeep.errors import (
    InvalidId,
    InvalidInput,
    MessageConflict,
    ModelFailed,
    StoreClosed,
    StoreError,
    TailMoved,
    ThreadNotFound,
)
from threadkeep.messages import Message, ToolCallPart
from threadkeep.models import ModelRequest, ScriptedModel, TextDelta

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{tmp_path.name}" if request.param == "memory" else f"sqlite:///{tmp_path / 'blocking.db'}"


@pytest.fixture
def memory(url: str) -> Iterator[Memory]:
    with Memory(url) as memory:
        yield memory


def portals() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "threadkeep-portal"]


def test_the_module_is_what_the_generator_writes() -> None:
    path = ROOT / "scripts" / "generate_blocking.py"
    spec = importlib.util.spec_from_file_location("generate_blocking", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.TARGET.read_text(encoding="utf-8") == script.Writer().text(), f"run python {path.relative_to(ROOT)}"


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("Memory", threadkeep.handles.memory),
        ("ResourceHandle", threadkeep.handles.memory),
        ("Admin", threadkeep.handles.memory),
        ("ThreadHandle", threadkeep.handles.thread),
        ("WorkingMemoryHandle", threadkeep.handles.working_memory),
        ("Agent", threadkeep.agent),
    ],
)
def test_every_public_name_is_there_with_its_arguments_and_docstring(name: str, module: Any) -> None:
    theirs, ours = getattr(module, name), getattr(blocking, name)
    public = {attribute for attribute in vars(theirs) if not attribute.startswith("_")}
    assert public <= set(vars(ours))
    for attribute in public:
        member, twin = getattr(theirs, attribute), getattr(ours, attribute)
        if inspect.isfunction(member):
            assert [*inspect.signature(twin).parameters.values()] == [*inspect.signature(member).parameters.values()]
            assert not inspect.iscoroutinefunction(twin)
        assert bool(twin.__doc__) == bool(member.__doc__)


def test_a_turn_from_end_to_end(memory: Memory) -> None:
    alice = memory.resource("alice")
    thread = alice.create_thread("support", title="Order 17", metadata={"order": 17})
    thread.append("My order is late.", Message.assistant("I will look."))
    assert [message.text for message in thread.messages(last=20)] == ["My order is late.", "I will look."]
    assert thread.working_memory.patch({"mood": "calm"}).value == {"mood": "calm"}
    assert alice.working_memory.put({"name": "Alice"}).version == 1
    assert thread.load(last=1).resource_memory.value == {"name": "Alice"}
    fork = thread.fork("other")
    assert isinstance(fork, blocking.ThreadHandle)
    assert [info.thread_id for info in alice.threads()] == ["support", "other"]
    assert [info.thread_id for info in alice.threads(metadata={"order": "17"})] == []
    assert list(memory.admin.resources()) == ["alice"]
    assert [info.thread_id for info in memory.admin.threads()] == ["support", "other"]
    assert [line["kind"] for line in alice.export()] == ["resource", *["thread", "message", "message"] * 2]
    assert list(memory.resource("bob").threads()) == []
    alice.erase()
    assert list(memory.admin.resources()) == []


def test_errors_pass_through_unchanged(memory: Memory) -> None:
    thread = memory.thread("alice", "support")
    thread.append(Message.user("yes", id="1"))
    with pytest.raises(MessageConflict) as conflict:
        thread.append(Message.user("no", id="1"))
    assert conflict.value.message_id == "1"
    tail = thread.tail()
    thread.append("more")
    with pytest.raises(TailMoved) as moved:
        thread.append("late", if_tail=tail)
    assert moved.value.position == 2
    with pytest.raises(InvalidId):
        memory.resource("")
    with pytest.raises(ThreadNotFound):
        list(memory.thread("alice", "none", read_only=True).history())
    with pytest.raises(InvalidInput):
        thread.messages(last=-1)


def test_iterators_fetch_as_they_go_and_give_everything_once(memory: Memory) -> None:
    thread = memory.thread("alice", "long")
    for start in range(0, 450, 50):
        thread.commit([Message.user(str(number), id=str(number)) for number in range(start, start + 50)])
    history = thread.history()
    seen = [next(history).id for _ in range(3)]
    thread.append(Message.user("new", id="new"))
    assert [*seen, *(message.id for message in history)] == [*(str(number) for number in range(450)), "new"]


def test_an_abandoned_iterator_closes_its_source_and_leaks_nothing(memory: Memory) -> None:
    closed = threading.Event()

    async def numbers() -> AsyncIterator[int]:
        task = asyncio.current_task()
        try:
            for number in range(10):
                yield number
        finally:
            # What a source has begun in one task, such as a time limit, it cannot end in another.
            assert asyncio.current_task() is task
            await asyncio.sleep(0)
            closed.set()

    async def count() -> int:
        return len(asyncio.all_tasks())

    portal = memory._portal
    before = portal.call(count())
    for number in portal.iterate(numbers()):
        if number == 3:
            break
    gc.collect()
    assert closed.wait(10)
    assert portal.call(count()) == before


def test_an_iterator_that_is_never_begun_needs_no_thread(url: str) -> None:
    before = len(portals())
    memory = Memory(url)
    memory.resource("alice").threads()
    assert len(portals()) == before
    memory.close()


def test_a_source_that_fails_raises_where_it_is_iterated(memory: Memory) -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise LookupError("no more")

    items = memory._portal.iterate(failing())
    assert next(items) == 1
    with pytest.raises(LookupError, match="no more"):
        next(items)
    assert next(items, None) is None


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_exit_inside_a_call_reaches_the_caller_and_no_one_else(memory: Memory, error: BaseException) -> None:
    async def leaves() -> None:
        raise error

    with pytest.raises(type(error)):
        memory._portal.call(leaves())
    memory.thread("alice", "support").append("still here")


def test_eight_threads_at_once(memory: Memory) -> None:
    def write(writer: int) -> None:
        thread = memory.thread("alice", "shared")
        for number in range(20):
            thread.append(Message.user(f"{writer}/{number}", id=f"{writer}/{number}"))
            assert len(thread.messages(last=1)) == 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    ids = [message.id for message in memory.thread("alice", "shared").history()]
    assert len(ids) == 160
    for writer in range(8):
        assert [id for id in ids if id.startswith(f"{writer}/")] == [f"{writer}/{number}" for number in range(20)]


def test_from_inside_a_running_loop(url: str) -> None:
    async def notebook() -> list[str]:
        with Memory(url) as memory:
            thread = memory.thread("alice", "notebook")
            thread.append("In [1]")
            return [message.text for message in thread.history()]

    assert asyncio.run(notebook()) == ["In [1]"]


def test_a_call_that_would_wait_for_itself_is_refused(memory: Memory) -> None:
    async def asynchronous_tool() -> None:
        memory.thread("alice", "support").append("from the loop")

    with pytest.raises(InvalidInput, match="await"):
        memory._portal.call(asynchronous_tool())


def test_closing_is_safe_to_repeat_and_then_everything_is_closed(url: str) -> None:
    before = len(portals())
    memory = Memory(url)
    thread = memory.thread("alice", "support")
    thread.append("one", "two")
    begun = thread.history()
    assert next(begun).text == "one"
    memory.close()
    memory.close()
    assert len(portals()) == before
    for use in (
        memory.open,
        thread.tail,
        lambda: thread.append("three"),
        lambda: list(thread.history()),
        lambda: next(begun),
        lambda: list(memory.admin.resources()),
        thread.working_memory.get,
    ):
        with pytest.raises(StoreClosed):
            use()


def test_a_memory_that_was_never_used_closes(url: str) -> None:
    memory = Memory(url)
    memory.close()
    with pytest.raises(StoreClosed):
        memory.open()


def test_threads_that_close_at_once_and_calls_under_way_all_end(url: str) -> None:
    async def forever() -> None:
        await asyncio.sleep(3600)

    memory = Memory(url).open()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(memory._portal.call, forever()) for _ in range(4)]
        time.sleep(0.05)
        for closing in [pool.submit(memory.close) for _ in range(4)]:
            closing.result(30)
        for call in waiting:
            with pytest.raises(StoreClosed):
                call.result(30)


def test_a_memory_that_nobody_closes_ends_with_its_last_handle(url: str) -> None:
    before = len(portals())
    thread = Memory(url).thread("alice", "support")
    gc.collect()
    thread.append("the handle keeps it open")
    assert len(portals()) == before + 1
    del thread
    gc.collect()
    deadline = time.monotonic() + 10
    while len(portals()) > before:
        assert time.monotonic() < deadline, "the loop's thread is still there"
        time.sleep(0.01)


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_program_that_forgets_to_close_ends_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'forgotten.db'}"
    program = """
        import sys
        from threadkeep.blocking import Memory
        memory = Memory(sys.argv[1])
        thread = memory.thread("alice", "support")
        thread.append("one", "two")
        messages = thread.history()
        next(messages)
    """
    done = run(program, url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with Memory(url) as memory:
        assert [message.text for message in memory.thread("alice", "support").messages()] == ["one", "two"]


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # forking with threads is what is tried here
def test_a_forked_process_is_told_to_make_its_own(memory: Memory) -> None:
    thread = memory.thread("alice", "support")
    thread.append("before the fork")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            thread.append("in the child")
        except StoreError as error:
            status = 0 if "forked" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert thread.tail().position == 1


def test_an_agent_without_a_loop(memory: Memory) -> None:
    def order_status(order: int) -> str:
        """Where an order is."""
        # A plain tool runs in a thread of its own, so that it may use the blocking handles itself.
        memory.resource("alice").working_memory.put({"order": order})
        return "on its way"

    part = ToolCallPart(tool_call_id="c1", name="order_status", arguments={"order": 17})
    call = Message(role="assistant", parts=[part])
    agent = Agent(model=ScriptedModel([call, "It is on its way."]), memory=memory, tools=[order_status])
    reply = agent.generate("Where is order 17?", resource_id="alice", thread_id="support")
    assert reply.text == "It is on its way."
    assert memory.resource("alice").working_memory.get().value == {"order": 17}
    assert [message.role for message in memory.thread("alice", "support").messages()] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]


def test_an_agent_streams_events_and_an_abandoned_stream_stores_no_more(memory: Memory) -> None:
    def answer(request: ModelRequest) -> str:
        return "one two three"

    agent = Agent(model=ScriptedModel(answer), memory=memory)
    events = list(agent.stream("hello", resource_id="alice", thread_id="a"))
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["one", " two", " three"]
    assert isinstance(events[0], Committed)
    assert isinstance(events[-1], Finished)
    stream = agent.stream("hello", resource_id="alice", thread_id="b")
    for event in stream:
        if isinstance(event, TextDelta):
            break
    stream.close()
    _, kept = memory.thread("alice", "b").messages()
    assert (kept.text, kept.metadata["interrupted"]) == ("one", "cancelled")
    with pytest.raises(InvalidId):
        agent.stream("hello", resource_id="", thread_id="b")
    failing = Agent(model=ScriptedModel([ValueError("no tokens left")]), memory=memory)
    with pytest.raises(ModelFailed) as failed:
        failing.generate("hello", resource_id="alice", thread_id="c")
    assert isinstance(failed.value.__cause__, ValueError)


def test_a_wsgi_application_serves_each_user_from_one_memory(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel(lambda request: f"{len(request.messages)} known"), memory=memory)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        events = agent.stream("hello", resource_id=environ["REMOTE_USER"], thread_id=environ["PATH_INFO"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (event.text.encode() for event in events if isinstance(event, TextDelta))

    def request(user: str) -> str:
        environ: dict[str, Any] = {"REMOTE_USER": user, "PATH_INFO": "/support"}
        setup_testing_defaults(environ)
        return b"".join(application(environ, lambda status, headers: None)).decode()

    users = [f"user{number % 4}" for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(request, users[:4]))
        list(pool.map(request, users))
    assert first == ["1 known"] * 4
    for user in users[:4]:
        roles = [message.role for message in memory.thread(user, "/support").messages()]
        assert sorted(roles) == ["assistant"] * 5 + ["user"] * 5
