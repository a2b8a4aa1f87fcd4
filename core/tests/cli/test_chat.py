"""`threadkeep chat`: a conversation at a real terminal loses nothing and doubles nothing, Ctrl-C included."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pexpect
import pytest
from click.testing import CliRunner
from model_server import KEY, Status, saying
from openai_server import serving

from threadkeep import Agent, Memory, Message
from threadkeep.cli import main
from threadkeep.models import ModelRequest

# pexpect forks to start a command at a terminal, beside threads of pytest's plugins; it takes none of their locks.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of forkpty:DeprecationWarning")

# pexpect forks to start a command at a terminal, beside threads of pytest's plugins: the child takes no lock of theirs.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of forkpty:DeprecationWarning")

SECONDS = 30


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'chat.db'}"


@contextmanager
def terminal(store: str, *arguments: str, resource: str = "alice", **environment: str) -> Iterator[Any]:
    """The command in a pseudo-terminal of its own."""
    child = pexpect.spawn(
        sys.executable,
        ["-P", "-m", "threadkeep", "chat", "--resource", resource, "--store", store, *arguments],
        env={**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", **environment},
        encoding="utf-8",
        dimensions=(40, 120),
        timeout=SECONDS,
    )
    child.logfile_read = io.StringIO()
    try:
        yield child
    finally:
        child.close(force=True)


def stored(store: str, thread_id: str = "t", resource: str = "alice") -> list[Message]:
    async def main() -> list[Message]:
        async with Memory(store) as memory:
            return await memory.thread(resource, thread_id).messages()

    return asyncio.run(main())


def said(store: str, thread_id: str = "t") -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in stored(store, thread_id)]


def test_a_conversation_at_a_terminal_is_streamed_and_kept(store: str) -> None:
    with terminal(store, "--thread", "t") as chat:
        chat.expect("a new thread, t")
        chat.sendline("Hi there")
        chat.expect("see 1 message of this thread")
        chat.sendline("what time is it?")
        chat.expect(r"-> current_time\({}\)")
        chat.expect("<- current_time: ")
        chat.expect("It is 20")
        chat.sendline("/rename Holiday plans")
        chat.expect("is called Holiday plans now")
        chat.expect("Holiday plans>")
        chat.sendeof()
        chat.expect("To come back: threadkeep chat --resource alice --thread t --store")
        chat.expect(pexpect.EOF)
    roles = [role for role, _ in said(store)]
    assert roles == ["user", "assistant", "user", "assistant", "tool", "assistant"]


def test_ctrl_c_in_the_middle_of_an_answer_neither_loses_nor_doubles_a_message(store: str) -> None:
    with serving(lambda request: {"role": "assistant", "content": "One, two, three, four, five."}) as server:
        with terminal(
            store, "--thread", "t", "--model", "gpt-test", "--base-url", server.url, THREADKEEP_API_KEY=KEY
        ) as chat:
            chat.expect("a new thread, t")
            server.hold.clear()
            chat.sendline("Count")
            assert server.held.wait(SECONDS)
            chat.sendintr()
            chat.expect("stopped; your message is kept; /retry asks again")
            server.hold.set()
            chat.expect(">")
            chat.sendline("/retry")
            chat.expect("five.")
            chat.expect(">")
            chat.sendline("And again")
            chat.expect("five.")
            chat.expect(">")
            # At the prompt it empties the line, and ends nothing.
            chat.send("a line that is not sent")
            chat.sendintr()
            chat.expect(">")
            chat.sendline("/quit")
            chat.expect(pexpect.EOF)
        chat.wait()
        assert chat.exitstatus == 0
    users = [text for role, text in said(store) if role == "user"]
    answers = [text for role, text in said(store) if role == "assistant" and text.endswith("five.")]
    assert users == ["Count", "And again"]
    assert len(answers) == 2
    assert said(store)[0][0] == "user"
    assert said(store)[-1] == ("assistant", "One, two, three, four, five.")


def test_ctrl_c_while_a_script_types_keeps_the_question(store: str) -> None:
    with terminal(store, "--thread", "t") as chat:
        chat.expect("a new thread, t")
        chat.sendline("count to 500")
        chat.expect("20 21 ")
        chat.sendintr()
        chat.expect("stopped")
        chat.sendline("/history 1")
        chat.expect(r"\(cancelled, not to the end\)")
        chat.sendline("count to 3")
        chat.expect("1 2 3")
        chat.expect(">")
        chat.sendline("/quit")
        chat.expect(pexpect.EOF)
    asked, half, again, answer = stored(store)
    assert (asked.text, again.text, answer.text) == ("count to 500", "count to 3", "1 2 3")
    assert half.text.startswith("1 2 3 4 ")
    assert half.metadata["interrupted"] == "cancelled"


def test_ctrl_c_again_and_again_ends_nothing_and_shows_no_traceback(store: str) -> None:
    with terminal(store, "--thread", "t") as chat:
        chat.expect("a new thread, t")
        chat.expect("t>")
        for _ in range(5):
            chat.sendline("count to 500")
            chat.expect("1 2 3 ")
            # Typed ahead, so that prompts begin and end while the signals come.
            chat.sendline("count to 400")
            for _ in range(300):
                chat.kill(signal.SIGINT)
                time.sleep(0.001)
            chat.expect("stopped")
            chat.expect("stopped")
            chat.expect(">")
        chat.sendintr()
        chat.sendline("count to 4")
        chat.expect("1 2 3 4\r")
        chat.sendline("/quit")
        chat.expect("To come back")
        chat.expect(pexpect.EOF)
        told = chat.logfile_read.getvalue()
    assert "Traceback" not in told
    asked = [text for role, text in said(store) if role == "user"]
    assert [text for text in asked if text != "count to 400"] == [*["count to 500"] * 5, "count to 4"]
    # Those that were stopped before they were stored are told so.
    assert asked.count("count to 400") == 5 - told.count("nothing was stored")


def test_a_question_that_could_not_be_stored_is_not_called_kept_and_retry_sends_it(store: str) -> None:
    async def other() -> None:
        """A run of another process, which holds the thread until it is told to end."""
        async with Memory(store) as memory:
            agent = Agent(model=Waits(), memory=memory)
            run = asyncio.ensure_future(agent.generate("First", resource_id="alice", thread_id="t"))
            await asyncio.wait_for(asked.wait(), SECONDS)
            with terminal(store, "--thread", "t") as chat:
                await asyncio.to_thread(talk, chat)
                free.set()
                await run
                await asyncio.to_thread(again, chat)

    def talk(chat: Any) -> None:
        chat.expect("thread t, up to position 1")
        chat.sendline("count to 3")
        chat.expect("waiting for another run in this thread")
        chat.sendintr()
        chat.expect("stopped; nothing was stored; /retry sends it again")

    def again(chat: Any) -> None:
        chat.sendline("/retry")
        chat.expect("1 2 3\r")
        chat.sendline("/quit")
        chat.expect(pexpect.EOF)

    asked, free = asyncio.Event(), asyncio.Event()

    class Waits:
        async def stream(self, request: ModelRequest) -> AsyncIterator[Message]:
            asked.set()
            await free.wait()
            yield Message.assistant("At last.")

    asyncio.run(other())
    assert said(store) == [("user", "First"), ("assistant", "At last."), ("user", "count to 3"), ("assistant", "1 2 3")]


def test_a_question_that_is_too_long_is_refused_and_nothing_is_called_kept(store: str) -> None:
    told = run(store, f"{'x' * 2_000_000}\n", "--thread", "t")
    assert "your message is kept" not in told
    assert "nothing was stored" in told


def test_a_provider_that_fails_leaves_the_question_and_retry_answers_it(store: str) -> None:
    refuse = True

    def answer(request: dict[str, Any]) -> Any:
        return Status(400, "not now") if refuse else {"role": "assistant", "content": "Here I am."}

    with serving(answer) as server:
        options = ("--thread", "t", "--model", "gpt-test", "--base-url", server.url)
        with terminal(store, *options, THREADKEEP_API_KEY=KEY) as chat:
            chat.sendline("Are you there?")
            chat.expect("HTTP 400: not now")
            chat.expect("your message is kept")
            refuse = False
            chat.sendline("/retry")
            chat.expect("Here I am.")
            chat.sendline("/quit")
            chat.expect(pexpect.EOF)
    assert said(store) == [("user", "Are you there?"), ("assistant", "Here I am.")]


def say(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def run(store: str, lines: str, *arguments: str) -> str:
    told = CliRunner().invoke(main, ["chat", "--resource", "alice", "--store", store, *arguments], input=lines)
    assert told.exit_code == 0, told.output
    return told.output


def test_threads_are_listed_switched_forked_and_begun(store: str) -> None:
    run(store, "My first\n", "--thread", "one")
    told = run(
        store, "My second\n/threads\n/switch 2\n/fork Copy of one\nMore\n/switch two\n/history 1\n", "--thread", "two"
    )
    assert "*1" in told
    assert "thread one, up to position 2" in told
    assert "> My first" in told
    assert [text for role, text in said(store, "one") if role == "user"] == ["My first"]
    assert [text for role, text in said(store, "two") if role == "user"] == ["My second"]

    async def infos() -> list[Any]:
        async with Memory(store) as memory:
            return [info async for info in memory.resource("alice").threads()]

    (fork,) = [info for info in asyncio.run(infos()) if info.thread_id not in ("one", "two")]
    assert fork.title == "Copy of one"
    assert fork.forked_from["thread_id"] == "one"
    assert [text for role, text in said(store, fork.thread_id) if role == "user"] == ["My first", "More"]


def test_working_memory_is_shown(store: str) -> None:
    async def put() -> None:
        async with Memory(store) as memory:
            await memory.thread("alice", "t").working_memory.put({"order": 17})
            await memory.resource("alice").working_memory.put("# Alice")

    asyncio.run(put())
    told = run(store, "/memory\n", "--thread", "t")
    assert 'thread, version 1:\n{\n  "order": 17\n}' in told
    assert "resource, version 1:\n# Alice" in told


def test_what_the_model_notes_is_told_and_threads_name_themselves(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADKEEP_API_KEY", KEY)
    noted = {"name": "update_working_memory", "arguments": '{"version": 0, "text": "Alice likes fish."}'}
    calls = [{"id": "c1", "type": "function", "function": noted}]
    with serving(saying({"role": "assistant", "content": None, "tool_calls": calls}, say("Noted."))) as server:
        options = ("--thread", "t", "--model", "gpt-test", "--base-url", server.url)
        told = run(store, "Remember that I like fish\n/memory\n/threads\n", *options)
    assert "working memory of the resource, version 1; /memory shows it" in told
    assert "resource, version 1:\nAlice likes fish." in told
    assert "Remember that I like fish" in told.partition("last active")[2]


def test_wrong_commands_are_refused_by_name_and_end_nothing(store: str) -> None:
    told = run(
        store,
        "/nothing\n/switch\n/switch zzz\n/history x\n/history 1001\n/rename\n/rename x\n/retry\n/fork\n/help\nHi\n",
        "--thread",
        "t",
    )
    for expected in (
        "there is no command /nothing; /help lists them",
        "say which thread",
        "there is no thread zzz; /threads lists them",
        "say how many messages, from 1 to 1000: /history 20",
        "say the title",
        "nothing was asked yet",
        "list the threads, the last touched first",
        "I follow a script",
    ):
        assert expected in told
    assert len(said(store)) == 2


def test_control_codes_of_a_model_do_not_reach_the_terminal(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADKEEP_API_KEY", KEY)
    with serving(saying(say("\x1b[2J\x07clean \u202eme"))) as server:
        told = run(store, "Hi\n", "--thread", "t", "--model", "gpt-test", "--base-url", server.url)
    assert "\\x1b[2J\\x07clean \\u202eme" in told
    assert "\x1b[2J" not in told


def test_another_resources_thread_looks_missing(store: str) -> None:
    run(store, "Hi\n", "--thread", "t")
    told = CliRunner().invoke(
        main, ["chat", "--resource", "bob", "--store", store, "--thread", "t"], input="/threads\n"
    )
    assert "a new thread, t" in told.output
    assert "no threads yet" in told.output


def test_a_model_that_cannot_be_had_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'none.db'}"
    told = CliRunner().invoke(main, ["chat", "--resource", "alice", "--store", url, "--model", "nothing:such"])
    assert told.exit_code == 1
    assert "Unknown model" in told.output
    assert not (tmp_path / "none.db").exists()
