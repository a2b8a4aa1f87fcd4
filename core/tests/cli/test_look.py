"""`threads`, `messages`, `export` and `erase`: a look into a store from the shell."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from threadkeep import Memory, Message
from threadkeep.cli import main
from threadkeep.messages import FilePart, ReasoningPart, ToolCallPart, ToolResultPart, parse_message


async def _fill(memory: Memory) -> None:
    alice, bob = memory.resource("alice"), memory.resource("bob")
    thread = await alice.create_thread("t1", title="Broken order", metadata={"n": 2**70})
    await thread.append(Message.user("hello\nthere \x1b[2J", id="m1"), Message.assistant("hi", id="m2"))
    await alice.thread(" pad ").append("one")
    await alice.thread("old").append("two")
    await alice.thread("old").archive()
    await thread.append(
        Message(
            id="m3",
            role="assistant",
            metadata={"agent": "billing"},
            parts=[
                ReasoningPart(text="hm"),
                ToolCallPart(tool_call_id="c", name="look", arguments={"a": 1}),
                FilePart(url="https://example.org/x.png", filename="x.png"),
            ],
        ),
        Message(id="m4", role="tool", parts=[ToolResultPart(tool_call_id="c", name="look", result=[1])]),
    )
    await thread.working_memory.put({"k": 1})
    await alice.working_memory.put({"seat": "aisle"})
    await bob.thread("t1").append("bob's own")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A filled SQLite store, which THREADKEEP_URL names."""
    monkeypatch.chdir(tmp_path)
    url = "sqlite:///threads.db"
    monkeypatch.setenv("THREADKEEP_URL", url)

    async def fill() -> None:
        async with Memory(url) as memory:
            await _fill(memory)

    asyncio.run(fill())
    return url


def _call(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), input=given)


def _lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def _ids(result: Result) -> list[tuple[str, str]]:
    return [(line["resource_id"], line["thread_id"]) for line in _lines(result)]


COMMANDS = [
    ["threads"],
    ["messages", "--resource", "a", "--thread", "t"],
    ["export"],
    ["export", "--output", "out.jsonl"],
    ["erase", "--resource", "a", "--yes"],
]


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_look_into_a_store_that_is_not_there_is_an_error_and_makes_none(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("THREADKEEP_URL", raising=False)
    for place in ([], ["--store", "sqlite:///other.db"], ["--store", "sqlite:///no/folder.db"]):
        told = _call(*arguments, *place)
        assert told.exit_code == 1
        assert "there is no store at sqlite:///" in told.stderr
        assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_no_store_and_stays_empty(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    assert _call("threads", "--store", f"sqlite:///{path}").exit_code == 1
    assert path.read_bytes() == b""


def test_threads_lists_every_resource_or_one(store: str) -> None:
    everything = [("alice", "t1"), ("alice", " pad "), ("alice", "old"), ("bob", "t1")]
    assert _ids(_call("threads", "--json")) == everything
    assert _ids(_call("threads", "--json", "--resource", "alice")) == everything[:3]
    assert _ids(_call("threads", "--json", "--resource", "ali")) == []
    assert _ids(_call("threads", "--json", "--order", "active", "--resource", "alice"))[0] == ("alice", "t1")
    assert _ids(_call("threads", "--json", "--archived")) == [("alice", "old")]
    assert _ids(_call("threads", "--json", "--not-archived")) == [*everything[:2], everything[3]]


def test_threads_limit_says_that_there_are_more_and_only_then(store: str) -> None:
    told = _call("threads", "--json", "--limit", "3")
    assert len(_lines(told)) == 3
    assert "more than 3" in told.stderr
    told = _call("threads", "--json", "--limit", "4")
    assert len(_lines(told)) == 4
    assert told.stderr == ""


def test_threads_json_names_are_stable(store: str) -> None:
    line = _lines(_call("threads", "--json"))[0]
    assert list(line) == [
        *("resource_id", "thread_id", "title", "metadata", "archived", "forked_from", "incomplete"),
        *("created_at", "updated_at", "epoch", "position"),
    ]
    assert line["title"] == "Broken order"
    assert line["metadata"] == {"n": 2**70}
    assert line["position"] == 4


def test_the_table_of_threads_cuts_nothing_off(store: str) -> None:
    long = "x" * 500

    async def add() -> None:
        async with Memory(store) as memory:
            await memory.resource(long).create_thread(long, title=long)

    asyncio.run(add())
    told = _call("threads")
    assert told.exit_code == 0
    rows = told.stdout.splitlines()
    assert any(row.split()[:3] == [long, long, long] for row in rows)
    assert any('" pad "' in row for row in rows)
    assert any("old" in row and "yes" in row for row in rows)


def test_an_empty_list_says_so(store: str) -> None:
    told = _call("threads", "--resource", "nobody")
    assert (told.exit_code, told.stdout, told.stderr) == (0, "", "no threads\n")


def test_messages_json_reads_back_equal(store: str) -> None:
    lines = _lines(_call("messages", "--resource", "alice", "--thread", "t1", "--json"))
    assert [line["id"] for line in lines] == ["m1", "m2", "m3", "m4"]
    assert [line["position"] for line in lines] == [1, 2, 3, 4]

    async def stored() -> list[Message]:
        async with Memory(store) as memory:
            return await memory.thread("alice", "t1").messages()

    assert [parse_message(line) for line in lines] == asyncio.run(stored())
    last = _lines(_call("messages", "--resource", "alice", "--thread", "t1", "--json", "--last", "1"))
    assert last == lines[-1:]


def test_messages_are_shown_with_all_their_parts_and_no_control_codes(store: str) -> None:
    told = _call("messages", "--resource", "alice", "--thread", "t1")
    assert told.exit_code == 0
    for said in (
        "    hello\n    there \\x1b[2J\n",
        "3  assistant billing",
        "(reasoning) hm",
        '(calls look) {"a": 1}',
        "(file x.png) https://example.org/x.png",
        "(result of look) [1]",
    ):
        assert said in told.stdout
    assert "\x1b" not in told.stdout


def test_a_foreign_thread_looks_like_a_missing_one(store: str) -> None:
    foreign = _call("messages", "--resource", "bob", "--thread", "old")
    missing = _call("messages", "--resource", "nobody", "--thread", "old")
    assert (foreign.exit_code, foreign.output) == (missing.exit_code, missing.output)
    assert foreign.exit_code == 1
    assert "there is no thread 'old'" in foreign.stderr


@pytest.mark.parametrize("arguments", [["--resource", "", "--thread", "t"], ["--resource", "r", "--thread", ""]])
def test_empty_ids_are_refused(store: str, arguments: list[str]) -> None:
    told = _call("messages", *arguments)
    assert told.exit_code == 1
    assert "must not be empty" in told.stderr


def test_export_of_a_resource_is_that_of_its_handle(store: str) -> None:
    async def exported() -> list[dict[str, Any]]:
        async with Memory(store) as memory:
            return [line async for line in memory.resource("alice").export()]

    assert _lines(_call("export", "--resource", "alice")) == asyncio.run(exported())


def test_export_of_the_store_holds_every_resource(store: str) -> None:
    told = _call("export")
    lines = _lines(told)
    assert [line["resource_id"] for line in lines if line["kind"] == "resource"] == ["alice", "bob"]
    assert [line["kind"] for line in lines].count("message") == 7
    assert told.stderr == "exported 2 resources, 4 threads, 7 messages\n"


def test_export_to_a_file_replaces_it_whole_and_keeps_a_link(store: str, tmp_path: Path) -> None:
    target = tmp_path / "real.jsonl"
    target.write_text("before")
    (tmp_path / "link.jsonl").symlink_to(target)
    told = _call("export", "--output", "link.jsonl")
    assert (told.exit_code, told.stdout) == (0, "")
    assert (tmp_path / "link.jsonl").is_symlink()
    assert target.read_text() == _call("export", "--output", "-").stdout
    assert sorted(path.name for path in tmp_path.iterdir() if "threads.db" not in path.name) == [
        "link.jsonl",
        "real.jsonl",
    ]


def test_an_export_that_fails_leaves_the_file_as_it_was(store: str, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("before")
    told = _call("export", "--resource", "", "--output", str(target))
    assert told.exit_code == 1
    assert target.read_text() == "before"
    assert not list(tmp_path.glob(".*.partial"))


def test_export_into_a_device_writes_to_it_and_leaves_it(store: str) -> None:
    assert _call("export", "--output", os.devnull).exit_code == 0
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_export_into_a_folder_that_is_not_there_names_the_file(store: str) -> None:
    told = _call("export", "--output", "no/folder/out.jsonl")
    assert told.exit_code == 1
    assert "out.jsonl" in told.stderr


def test_erase_refuses_without_a_terminal_and_without_yes(store: str) -> None:
    before = _call("export").stdout
    told = _call("erase", "--resource", "alice")
    assert told.exit_code == 2
    assert "--yes" in told.stderr
    assert _call("export").stdout == before


def test_erase_with_yes_removes_what_was_named_and_nothing_else(store: str) -> None:
    told = _call("erase", "--resource", "alice", "--thread", "t1", "--yes")
    assert told.exit_code == 0
    assert "erased thread t1 of resource alice" in told.stderr
    assert _ids(_call("threads", "--json")) == [("alice", " pad "), ("alice", "old"), ("bob", "t1")]
    told = _call("erase", "--resource", "alice", "--yes")
    assert "erased resource alice: 2 threads and a working memory" in told.stderr
    assert _ids(_call("threads", "--json")) == [("bob", "t1")]
    assert [line["resource_id"] for line in _lines(_call("export")) if line["kind"] == "resource"] == ["bob"]
    assert _call("erase", "--resource", "alice", "--yes").exit_code == 0


@pytest.mark.parametrize(("answer", "left"), [("y\n", 1), ("n\n", 4), ("\n", 4)])
def test_erase_asks_at_a_terminal(store: str, monkeypatch: pytest.MonkeyPatch, answer: str, left: int) -> None:
    monkeypatch.setattr("threadkeep.cli.erase.at_terminal", lambda: True)
    told = _call("erase", "--resource", "alice", given=answer)
    assert "Erase resource alice: 3 threads and a working memory?" in told.output
    assert told.exit_code == (0 if left == 1 else 1)
    assert len(_ids(_call("threads", "--json"))) == left
