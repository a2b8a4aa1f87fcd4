"""`threadkeep replay`: recorded conversations go in whole, once, and come back equal, whatever the client."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner, Result
from conversations import SHIPPED, conversations, read

from threadkeep import Memory, Message
from threadkeep.cli import main
from threadkeep.cli.replay.client import Kind, replay
from threadkeep.cli.replay.compare import differences
from threadkeep.cli.replay.recordings import Recording, read_recordings
from threadkeep.formats import from_openai

KINDS: tuple[Kind, ...] = get_args(Kind)


def _file(path: Path, values: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(value)}\n" for value in values), encoding="utf-8")
    return path


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """A file of a few conversations."""
    return _file(tmp_path / "few.jsonl", conversations()[:8])


def _replay(file: Path, url: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["replay", str(file), "--store", url, *arguments])


def _numbers(result: Result) -> dict[str, int]:
    assert result.exit_code == 0, result.output
    return {name: int(number) for name, number in re.findall(r"^([a-z ]+?)\s{2,}(\d+)", result.stdout, re.MULTILINE)}


def _memory() -> Memory:
    return Memory(f"memory://{uuid.uuid4().hex}")


def _repeats(recordings: list[Recording], kind: Kind, *, again: bool) -> int:
    """How many messages a client of this kind sends that the store has: none of its own on the first run."""
    turns = [turn for recording in recordings for turn in recording.turns]
    if kind == "newest":
        return sum(turn.reply - turn.start for turn in turns) if again else 0
    return sum(turn.reply if again else turn.start for turn in turns)


@pytest.mark.parametrize("kind", KINDS)
def test_every_client_stores_each_message_once_and_a_second_run_adds_nothing(
    kind: Kind, few: Path, tmp_path: Path
) -> None:
    recordings = read_recordings(few)
    messages = sum(len(recording.messages) for recording in recordings)
    turns = sum(len(recording.turns) for recording in recordings)
    url = f"sqlite:///{tmp_path / 'threads.db'}"
    first = _replay(few, url, "--client", kind, "--verify")
    assert _numbers(first) == {
        "conversations": len(recordings),
        "messages stored": messages,
        "repeats recognised": _repeats(recordings, kind, again=False),
        "turns": turns,
    }
    assert f"verified: {len(recordings)} conversations, {messages} messages" in first.stdout
    for other in KINDS:
        again = _numbers(_replay(few, url, "--client", other, "--verify"))
        assert again["messages stored"] == 0
        assert again["repeats recognised"] == _repeats(recordings, other, again=True)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_shipped_conversations_with_all_their_awkwardness(kind: Kind) -> None:
    recordings = read_recordings(SHIPPED)
    async with _memory() as memory:
        for recording in recordings:
            count = await replay(memory, recording, kind)
            assert count.stored == len(recording.messages)
        assert await differences(memory, recordings) == ([], 0)


async def test_clients_keep_and_make_ids_as_they_say() -> None:
    recording = read_recordings(SHIPPED)[0]
    place = (recording.resource_id, recording.thread_id)
    said = [index for index, chat in enumerate(recording.messages) if chat["role"] in ("system", "user")]
    for kind in KINDS:
        async with _memory() as memory:
            await replay(memory, recording, kind)
            found = [message.id for message in await memory.thread(*place).messages()]
        assert [found[index] == f"{recording.thread_id}/{index}" for index in said] == [kind != "fresh-ids"] * len(said)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("imported", [False, True], ids=["interrupted", "imported"])
async def test_a_conversation_stored_up_to_any_message_is_completed(kind: Kind, imported: bool) -> None:
    for recording in read_recordings(SHIPPED):
        for stored in range(1, len(recording.messages) + 1):
            async with _memory() as memory:
                thread = memory.thread(recording.resource_id, recording.thread_id)
                if imported:
                    await thread.append(*map(from_openai, recording.messages[:stored]))
                else:
                    await replay(memory, recording, "newest")
                    messages = await thread.messages()
                    if stored < len(messages):
                        await thread.drop_from(messages[stored].id)
                count = await replay(memory, recording, kind)
                assert count.stored == len(recording.messages) - stored
                assert await differences(memory, [recording]) == ([], 0)
                assert (await replay(memory, recording, kind)).stored == 0


def test_workers_are_processes_on_a_store_that_can_be_shared(few: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'threads.db'}"
    for expected in (sum(len(each["messages"]) for each in read(few)), 0):
        told = _replay(few, url, "--workers", "3", "--client", "full", "--verify")
        assert _numbers(told)["messages stored"] == expected
        assert f"verified: {len(read(few))} conversations" in told.stdout


def test_workers_are_tasks_on_a_store_of_one_process(few: Path) -> None:
    told = _replay(few, "memory://tasks", "--workers", "3", "--verify")
    assert _numbers(told)["messages stored"] == sum(len(each["messages"]) for each in read(few))
    assert "the workers are tasks of this process: each process has its own memory" in told.stderr


def _rows(path: Path) -> int:
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM threadkeep_messages").fetchone()
    except sqlite3.OperationalError:
        return 0
    return int(count)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_replay_that_was_killed_is_completed_by_running_it_again(workers: int, tmp_path: Path) -> None:
    copies = [{**each, "thread_id": f"{each['thread_id']}.{copy}"} for copy in range(8) for each in conversations()[:6]]
    file = _file(tmp_path / "many.jsonl", copies)
    path = tmp_path / "threads.db"
    arguments = [str(file), "--store", f"sqlite:///{path}", "--workers", str(workers)]
    running = subprocess.Popen(
        [sys.executable, "-m", "threadkeep", "replay", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while _rows(path) < 40 and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    kept = _rows(path)
    messages = sum(len(each["messages"]) for each in copies)
    assert 40 <= kept < messages
    told = _replay(file, f"sqlite:///{path}", "--verify")
    assert 0 < _numbers(told)["messages stored"] <= messages - kept
    assert f"verified: {len(copies)} conversations" in told.stdout


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_ends_every_process_without_a_traceback(workers: int, tmp_path: Path) -> None:
    copies = [
        {**each, "thread_id": f"{index}.{copy}"} for copy in range(40) for index, each in enumerate(conversations()[:6])
    ]
    arguments = [str(_file(tmp_path / "many.jsonl", copies)), "--store", f"sqlite:///{tmp_path / 'threads.db'}"]
    running = subprocess.Popen(
        [sys.executable, "-m", "threadkeep", "replay", *arguments, "--workers", str(workers)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while _rows(tmp_path / "threads.db") < 1 and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 1
    assert told.strip() == "Aborted!"


def test_a_worker_process_that_dies_is_an_error_that_says_what_to_do(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = tmp_path / "plugin"
    info = plugin / "deadly-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[threadkeep]\ndeadly = deadly\n")
    (plugin / "deadly.py").write_text(
        "import multiprocessing, os\n"
        "from threadkeep.port.hooks import hookimpl\n"
        "from threadkeep_adapters import sqlite\n"
        "@hookimpl\n"
        "def open_store(url):\n"
        "    if multiprocessing.parent_process() is not None:\n"
        "        os._exit(9)\n"
        "    return sqlite.open_store(url)\n"
    )
    monkeypatch.syspath_prepend(str(plugin))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(plugin), os.environ.get("PYTHONPATH", "")]))
    told = _replay(few, f"deadly:///{tmp_path / 'threads.db'}", "--workers", "2")
    assert told.exit_code == 1
    assert "ended early, with exit code 9; run the same replay again" in told.stderr


def test_an_error_in_a_worker_process_is_that_of_the_command(few: Path, tmp_path: Path) -> None:
    (tmp_path / "other.db").write_bytes(b"this is no database, and it is left as it is" * 100)
    told = _replay(few, f"sqlite:///{tmp_path / 'other.db'}", "--workers", "2")
    assert told.exit_code == 1
    assert "Traceback" not in told.output
    assert (tmp_path / "other.db").read_bytes().startswith(b"this is no database")


async def _append(memory: Memory, recording: Recording) -> None:
    await memory.thread(recording.resource_id, recording.thread_id).append("one more")


async def _drop_last(memory: Memory, recording: Recording) -> None:
    thread = memory.thread(recording.resource_id, recording.thread_id)
    (last,) = await thread.messages(last=1)
    await thread.drop_from(last.id)


async def _delete(memory: Memory, recording: Recording) -> None:
    await memory.thread(recording.resource_id, recording.thread_id).delete()


async def _change_last(memory: Memory, recording: Recording) -> None:
    thread = memory.thread(recording.resource_id, recording.thread_id)
    (last,) = await thread.messages(last=1)
    await thread.commit([Message(role=last.role, parts=[])], drop_from=last.id)


async def _swap(memory: Memory, recording: Recording) -> None:
    thread = memory.thread(recording.resource_id, recording.thread_id)
    one, two = await thread.messages(last=2)
    await thread.commit([two, one], drop_from=one.id)


@pytest.mark.parametrize(
    ("spoil", "index"),
    [(_append, 0), (_drop_last, -1), (_delete, None), (_change_last, -1), (_swap, -2)],
    ids=["one more", "one less", "none", "another content", "another order"],
)
async def test_verify_names_the_first_difference(
    spoil: Callable[[Memory, Recording], Awaitable[None]], index: int | None
) -> None:
    recordings = read_recordings(SHIPPED)
    async with _memory() as memory:
        for recording in recordings:
            await replay(memory, recording, "newest")
        victim = recordings[3]
        await spoil(memory, victim)
        (found,), others = await differences(memory, recordings)
        place = 0 if index is None else len(victim.messages) + index
        assert found.startswith(f"line {victim.line}, thread {victim.thread_id!r}, message {place}: ")
        assert others == 0


def test_a_difference_after_the_replay_fails_the_command(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgetful(memory: Memory, recordings: list[Recording], *_: object) -> None:
        """A replay that leaves one conversation out."""
        for recording in recordings[1:]:
            await replay(memory, recording, "newest")

    monkeypatch.setattr("threadkeep.cli.replay.workers.replay_in_tasks", forgetful)
    told = _replay(few, "memory://forgetful", "--verify")
    assert told.exit_code == 1
    assert f"1 of {len(read(few))} conversations differ; the first: line 1, " in told.stderr
    assert "message 0: it is missing" in told.stderr
    assert "verified" not in told.stdout


def test_threads_that_are_not_in_the_file_are_told_of(few: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'threads.db'}"

    async def add() -> None:
        async with Memory(url) as memory:
            await memory.thread(read(few)[0]["resource_id"], "another").append("hello")

    asyncio.run(add())
    told = _replay(few, url, "--verify")
    assert told.exit_code == 0
    assert "have 1 threads that are not in it" in told.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_with_another_conversation_is_refused_and_left_alone(kind: Kind, few: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'threads.db'}"
    first = read(few)[0]

    async def stored(text: str | None) -> list[Message]:
        async with Memory(url) as memory:
            thread = memory.thread(first["resource_id"], first["thread_id"])
            if text is not None:
                await thread.append(text)
            return await thread.messages()

    before = asyncio.run(stored("something else"))
    told = _replay(few, url, "--client", kind)
    assert told.exit_code == 1
    assert "line 1, " in told.stderr
    assert "the store has another conversation there: at message 0" in told.stderr
    assert asyncio.run(stored(None)) == before


USER = {"role": "user", "content": "hello"}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
OTHER = {"id": "c2", "type": "function", "function": {"name": "find", "arguments": "{}"}}
ASKS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "found"}
ANSWER = {"role": "assistant", "content": "hi"}


def _conversation(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"resource_id": "r", "thread_id": "t", "messages": list(messages), **fields}


@pytest.mark.parametrize(
    "messages",
    [
        [USER],
        [USER, USER, ANSWER, USER],
        [{"role": "system", "content": "s"}, ANSWER, USER],
        [USER, ASKS, RESULT],
        [USER, ASKS, RESULT, ANSWER, {"role": "developer", "content": "d"}],
        [
            USER,
            {**ASKS, "tool_calls": [CALL, OTHER, CALL]},
            RESULT,
            {"role": "tool", "tool_call_id": "c2", "content": ""},
            {**RESULT, "name": "look"},
            {**ASKS, "content": "again"},
            RESULT,
        ],
        [USER, {**ANSWER, "refusal": None, "extra": {"a": 1.0}}, {**USER, "name": "ann"}, {**ANSWER, "content": ""}],
        [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]}, ANSWER],
    ],
)
@pytest.mark.parametrize("kind", KINDS)
async def test_unusual_conversations(messages: list[dict[str, Any]], kind: Kind, tmp_path: Path) -> None:
    recordings = read_recordings(_file(tmp_path / "one.jsonl", [_conversation(*messages)]))

    async with _memory() as memory:
        assert (await replay(memory, recordings[0], kind)).stored == len(messages)
        assert await differences(memory, recordings) == ([], 0)
        assert (await replay(memory, recordings[0], kind)).stored == 0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1], "a conversation is an object"),
        ({"resource_id": 1, "thread_id": "t", "messages": [USER]}, "a conversation is an object"),
        (_conversation(), "a conversation is an object"),
        (_conversation({"content": "x"}), "message 0: a chat message needs a role"),
        (_conversation(ANSWER), "message 0 is of role 'assistant'; begin with"),
        (_conversation(USER, ANSWER, ANSWER), "message 2 follows an answer without tool calls"),
        (_conversation(USER, ASKS), "message 1: the result of call 'c1' is missing"),
        (_conversation(USER, ASKS, USER), "message 1: the result of call 'c1' is missing"),
        (_conversation(USER, ASKS, ANSWER), "message 2 comes before the result of call 'c1'"),
        (_conversation(USER, RESULT), "message 1 is not the result that is due: no call is open"),
        (_conversation(USER, ASKS, {**RESULT, "tool_call_id": "c2"}), "message 2 is not the result that is due"),
        (_conversation(USER, ASKS, {**RESULT, "name": "find"}), "message 2 is a result of 'find'"),
        (_conversation(USER, ASKS, {**RESULT, "content": [1]}), "message 2: the content of a tool message"),
        (_conversation(USER, {"role": "function", "name": "f", "content": "x"}), "the older function_call"),
        (
            _conversation(USER, {**ASKS, "tool_calls": [{**CALL, "function": {"name": "look", "arguments": "{"}}]}),
            "message 1: the arguments of call 'c1' are not",
        ),
    ],
)
def test_what_cannot_be_replayed_is_named_before_anything_is_sent(value: Any, said: str, tmp_path: Path) -> None:
    file = _file(tmp_path / "bad.jsonl", [_conversation(USER, thread_id="good"), value])
    told = _replay(file, f"sqlite:///{tmp_path / 'threads.db'}")
    assert told.exit_code == 1
    assert f"{file}, line 2: " in told.stderr
    assert said in told.stderr
    assert not (tmp_path / "threads.db").exists()


def test_one_conversation_twice_in_the_file_is_refused(tmp_path: Path) -> None:
    told = _replay(_file(tmp_path / "twice.jsonl", [_conversation(USER), _conversation(USER)]), "memory://twice")
    assert told.exit_code == 1
    assert "line 2: resource_id and thread_id are those of line 1" in told.stderr


@pytest.mark.parametrize("content", [b"", b"\n\n", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_holds_no_conversations_is_an_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    told = _replay(path, "memory://bad")
    assert told.exit_code == 1
    assert str(path) in told.stderr
    assert "Traceback" not in told.output


def test_a_file_that_is_not_there_is_bad_usage() -> None:
    assert _replay(Path("nowhere.jsonl"), "memory://x").exit_code == 2
