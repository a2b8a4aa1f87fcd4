"""`threadkeep copy`: both stores end equal, whatever interrupts it, and nothing that TO has is overwritten."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conversations import conversations
from hypothesis import given, settings
from hypothesis import strategies as st

from threadkeep import Memory, Message
from threadkeep.cli import main
from threadkeep.cli.copy.compare import difference, docs_difference
from threadkeep.cli.copy.transfer import WHOLE, Refused, copy_resource, copy_thread
from threadkeep.formats import messages_from_openai
from threadkeep.handles.views import INFO
from threadkeep.port import Limits, Resource, Thread

START = datetime(2026, 1, 1, tzinfo=UTC)


def _copy(source: str, target: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["copy", source, target, *arguments])


def _url(tmp_path: Path, name: str) -> str:
    return f"sqlite:///{tmp_path / name}.db"


def _messages_copied(result: Result) -> int:
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("messages copied")]
    return int(line.split()[-1])


def _in(url: str, check: Callable[[Memory], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with Memory(url) as memory:
            return await check(memory)

    return asyncio.run(run())


def _export(url: str) -> list[dict[str, Any]]:
    """All that a store shows, but for epochs and versions of documents, which are no part of a copy."""

    async def lines(memory: Memory) -> list[dict[str, Any]]:
        found = []
        async for resource_id in memory.admin.resources():
            async for line in memory.resource(resource_id).export():
                line.pop("epoch", None)
                line.get("working_memory", {}).pop("version", None)
                found.append(line)
        return found

    found: list[dict[str, Any]] = _in(url, lines)
    return found


async def _fill_conversations(memory: Memory, copies: int = 1) -> int:
    """Real conversations, each as several threads; the number of messages."""
    count = 0
    for copy in range(copies):
        for recorded in conversations()[:6]:
            thread = memory.thread(recorded["resource_id"], f"{recorded['thread_id']}{copy or ''}")
            messages = messages_from_openai(recorded["messages"])
            for first in range(0, len(messages), 4):
                await thread.append(*messages[first : first + 4])
            count += len(messages)
    return count


async def _fill(memory: Memory) -> int:
    """Real conversations and everything else that a store can hold; the number of messages."""
    count = await _fill_conversations(memory)
    resource = memory.resource("résumé: %_* \x00 \U0001f9f5")
    for turn in range(3):
        await resource.working_memory.put({"turn": turn})
    thread = await resource.create_thread(" t/../1 ", title="A title", metadata={"plan": "pro", "n": 2**60})
    await thread.append("dropped", "dropped too", "also")
    await thread.drop_from((await thread.messages())[1].id)
    await thread.append("kept")
    for turn in range(4):
        await thread.working_memory.patch({"turn": turn, "empty": ""})
    await thread.archive()
    await (await thread.fork("fork", title="Another")).append("and on")
    await resource.create_thread("empty")
    await memory.resource("cleared").working_memory.put(1)
    await memory.resource("cleared").working_memory.clear()
    await memory.thread("cleared", "t").working_memory.put([])
    await memory.thread("cleared", "t").working_memory.clear()
    return count + 2 + 3


@pytest.fixture
def filled(tmp_path: Path) -> tuple[str, int]:
    """A store with everything, and its number of messages."""
    url = _url(tmp_path, "from")
    return url, _in(url, _fill)


def test_the_stores_end_equal_and_a_second_run_adds_nothing(filled: tuple[str, int], tmp_path: Path) -> None:
    source, count = filled
    target = _url(tmp_path, "to")
    assert _messages_copied(_copy(source, target, "--verify")) == count
    assert _export(target) == _export(source)
    before = (tmp_path / "to.db").read_bytes()
    again = _copy(source, target, "--verify")
    assert _messages_copied(again) == 0
    assert "0 of them written" in again.stdout
    assert f"{count} messages, equal in FROM and TO" in again.stdout
    assert (tmp_path / "to.db").read_bytes() == before


def test_a_copy_of_a_copy_in_another_kind_of_store_is_equal(filled: tuple[str, int], tmp_path: Path) -> None:
    source, count = filled
    middle, target = f"memory://{uuid.uuid4().hex}", _url(tmp_path, "to")

    async def keep_open(memory: Memory) -> None:
        await asyncio.to_thread(lambda: _messages_copied(_copy(source, middle, "--verify")))
        assert await asyncio.to_thread(lambda: _messages_copied(_copy(middle, target, "--verify"))) == count

    _in(middle, keep_open)
    assert _export(target) == _export(source)


def test_both_orders_of_the_list_of_threads_are_kept(filled: tuple[str, int], tmp_path: Path) -> None:
    target = _url(tmp_path, "to")
    _messages_copied(_copy(filled[0], target))

    async def lists(memory: Memory) -> list[tuple[str, str]]:
        orders = (memory.admin.threads(order="created"), memory.admin.threads(order="active"))
        return [(info.resource_id, info.thread_id) for order in orders async for info in order]

    assert _in(target, lists) == _in(filled[0], lists)


def test_one_resource_alone(filled: tuple[str, int], tmp_path: Path) -> None:
    target = _url(tmp_path, "to")
    only = conversations()[0]["resource_id"]
    assert _copy(filled[0], target, "--resource", only, "--verify").exit_code == 0
    resource_ids = {line.get("resource_id", only) for line in _export(target)}
    assert resource_ids == {only}
    told = _copy(filled[0], _url(tmp_path, "other"), "--resource", "nobody")
    assert told.exit_code == 1
    assert "FROM has nothing of resource nobody" in told.stderr
    assert not (tmp_path / "other.db").exists()


class _Killed(BaseException):
    """The process ends here, as far as the store can tell."""


def _killing(memory: Memory, after: int) -> None:
    """Nothing reaches the store after so many commits."""
    store = memory.store.store
    commit = store.commit
    left = after

    async def counted(scope: Any, changes: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise _Killed
        return await commit(scope, changes)

    vars(store)["commit"] = counted


async def _all(source: Memory, target: Memory) -> None:
    async for resource_id in source.admin.resources():
        await copy_resource(source.store, target.store, Resource(resource_id), target.now())
        async for info in source.resource(resource_id).threads():
            await copy_thread(source.store, target.store, Thread(resource_id, info.thread_id))


async def _differences(source: Memory, target: Memory) -> list[str]:
    found = []
    async for resource_id in source.admin.resources():
        pair = [await memory.store.load(Resource(resource_id)) for memory in (source, target)]
        found.append(docs_difference(pair[0].resource_docs, pair[1].resource_docs))
        async for info in source.resource(resource_id).threads():
            thread = Thread(resource_id, info.thread_id)
            found.append(difference(await source.store.load(thread, WHOLE), await target.store.load(thread, WHOLE)))
    return [fault for fault in found if fault]


_IDS = st.sampled_from("ab")
_STEPS = st.one_of(
    st.tuples(st.just("append"), _IDS, st.integers(1, 5)),
    st.tuples(st.just("drop"), _IDS, st.integers(1, 5)),
    st.tuples(st.just("patch"), _IDS, st.integers(0, 9)),
    st.tuples(st.just("put"), _IDS, st.integers(0, 9)),
    st.tuples(st.just("rename"), _IDS, st.integers(0, 2)),
    st.tuples(st.just("delete"), _IDS, st.just(0)),
)


async def _play(memory: Memory, step: tuple[str, str, int]) -> None:
    kind, name, number = step
    thread = memory.thread("r", name)
    messages = await thread.messages()
    match kind:
        case "append":
            await thread.append(*[f"{kind} {number}"] * number)
        case "drop" if len(messages) >= number:
            await thread.drop_from(messages[-number].id)
        case "patch":
            await thread.working_memory.patch({"n": number or None})
        case "put":
            await memory.resource("r").working_memory.put(number)
        case "rename" if await thread.exists():
            await thread.rename(["x", "", None][number])
        case "delete":
            await thread.delete()


@given(steps=st.lists(_STEPS, max_size=25), hops=st.lists(st.integers(-2, 3), min_size=1), kill=st.integers(0, 40))
@settings(max_examples=150)
async def test_any_history_is_copied_whole_also_after_a_kill_at_any_commit(
    steps: list[tuple[str, str, int]], hops: list[int], kill: int
) -> None:
    """Laws 3, 7 and 9 over two stores: order, positions, contents, times. The clock may go back."""
    moments: Iterator[datetime] = (
        START + timedelta(seconds=number // 3 + hops[number % len(hops)]) for number in range(10**6)
    )

    async with (
        Memory(f"memory://{uuid.uuid4().hex}", clock=lambda: next(moments)) as source,
        Memory(f"memory://{uuid.uuid4().hex}") as target,
    ):
        for step in steps:
            await _play(source, step)
        _killing(target, kill)
        try:
            await _all(source, target)
        except _Killed:
            pass
        finally:
            vars(target.store.store).pop("commit")
        await _all(source, target)
        assert await _differences(source, target) == []
        _killing(target, 0)
        await _all(source, target)


async def test_a_thread_under_copy_says_so_and_can_be_read(tmp_path: Path) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    async with Memory(_url(tmp_path, "from")) as source, Memory(url) as target:
        thread = source.thread("r", "t")
        await thread.append("one", "two", "three")
        await thread.drop_from((await thread.messages())[1].id)
        await thread.append("four")
        for commits in range(1, 5):
            _killing(target, commits)
            with pytest.raises(_Killed):
                await copy_thread(source.store, target.store, Thread("r", "t"))
            vars(target.store.store).pop("commit")
            copied = target.thread("r", "t")
            assert (await copied.info()).incomplete
            assert [message.position for message in await copied.messages()] == list(
                range(1, len(await copied.messages()) + 1)
            ) or commits == 4
            await copied.delete()
        await copy_thread(source.store, target.store, Thread("r", "t"))
        assert not (await copied.info()).incomplete
        assert [message.position for message in await copied.messages()] == [1, 4]


def _rows(path: Path) -> int:
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM threadkeep_messages").fetchone()
    except sqlite3.OperationalError:
        return 0
    return int(count)


@pytest.mark.slow
def test_a_copy_whose_process_is_killed_again_and_again_is_completed_by_running_it_again(tmp_path: Path) -> None:
    source = _url(tmp_path, "from")
    count = _in(source, lambda memory: _fill_conversations(memory, copies=12))
    target = _url(tmp_path, "to")
    kept = 0
    for share in (0.2, 0.4, 0.6):
        running = subprocess.Popen(
            [sys.executable, "-m", "threadkeep", "copy", source, target],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while _rows(tmp_path / "to.db") < count * share and time.monotonic() < deadline and running.poll() is None:
            time.sleep(0.002)
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
        assert kept <= _rows(tmp_path / "to.db")
        kept = _rows(tmp_path / "to.db")
    assert 0 < kept < count
    told = _copy(source, target, "--verify")
    assert _messages_copied(told) == count - kept
    assert _export(target) == _export(source)


def test_an_interrupt_ends_without_a_traceback(tmp_path: Path) -> None:
    source = _url(tmp_path, "from")
    _in(source, lambda memory: _fill_conversations(memory, copies=12))
    running = subprocess.Popen(
        [sys.executable, "-m", "threadkeep", "copy", source, _url(tmp_path, "to")], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while _rows(tmp_path / "to.db") < 1 and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.002)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert (running.returncode, told.strip()) == (1, "Aborted!")


async def _touch_message(memory: Memory) -> str:
    thread = memory.thread("r", "t")
    (last,) = await thread.messages(last=1)
    await thread.commit([Message.user("another", id="m3")], drop_from=last.id)
    return "message m3, number 3 in TO, has another content in FROM"


async def _add_message(memory: Memory) -> str:
    await memory.thread("r", "t").append(Message.user("more", id="m4"))
    return "message m4, number 4 in TO, is not in FROM"


async def _swap_messages(memory: Memory) -> str:
    thread = memory.thread("r", "t")
    _, two, three = await thread.messages()
    await thread.commit([three, two], drop_from="m2")
    return "message m3, number 2 in TO, is at another place in FROM, where number 2 is m2"


async def _rename(memory: Memory) -> str:
    await memory.thread("r", "t").rename("another")
    return "TO has another title, metadata or archived flag than FROM"


async def _remember(memory: Memory) -> str:
    await memory.thread("r", "t").working_memory.put("another")
    return "TO has another working memory than FROM"


@pytest.mark.parametrize("change", [_touch_message, _add_message, _swap_messages, _rename, _remember])
def test_another_content_in_to_is_named_and_not_overwritten(
    change: Callable[[Memory], Awaitable[str]], tmp_path: Path
) -> None:
    source, target = _url(tmp_path, "from"), _url(tmp_path, "to")

    async def fill(memory: Memory) -> None:
        await memory.resource("r").create_thread("t", title="one")
        await memory.thread("r", "t").append(*[Message.user(f"text {number}", id=f"m{number}") for number in (1, 2, 3)])
        await memory.thread("r", "t").working_memory.put("kept")
        await memory.thread("r", "u").append("another thread")

    _in(source, fill)
    _messages_copied(_copy(source, target, "--verify"))
    said = _in(target, change)
    _in(target, lambda memory: memory.thread("r", "u").delete())
    before = [line for line in _export(target) if line.get("thread_id") == "t"]
    told = _copy(source, target)
    assert told.exit_code == 1
    assert f"refused: thread t of resource r: {said}. Nothing of it was changed" in told.stderr
    assert "1 threads or resources were refused" in told.stderr
    assert [line for line in _export(target) if line.get("thread_id") == "t"] == before
    assert [line for line in _export(target) if line.get("thread_id") == "u"] == [
        line for line in _export(source) if line.get("thread_id") == "u"
    ]
    assert "different: thread t of resource r" in _copy(source, target, "--verify").stderr


def test_another_working_memory_of_a_resource_is_named_and_not_overwritten(tmp_path: Path) -> None:
    source, target = _url(tmp_path, "from"), _url(tmp_path, "to")
    _in(source, lambda memory: memory.resource("r").working_memory.put("theirs"))
    _in(target, lambda memory: memory.resource("r").working_memory.put("ours"))
    told = _copy(source, target)
    assert told.exit_code == 1
    assert "refused: resource r: TO has another working memory than FROM" in told.stderr
    assert _in(target, lambda memory: memory.resource("r").working_memory.get()).value == "ours"


def test_what_was_written_to_from_meanwhile_is_told_and_brought_by_the_next_run(
    filled: tuple[str, int], tmp_path: Path
) -> None:
    source, target = filled[0], _url(tmp_path, "to")
    _messages_copied(_copy(source, target))
    place = (conversations()[0]["resource_id"], conversations()[0]["thread_id"])
    _in(source, lambda memory: memory.thread(*place).append("later"))
    assert _messages_copied(_copy(source, target, "--verify")) == 1
    assert _export(target) == _export(source)


def test_verify_tells_of_a_source_that_moves_while_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = _url(tmp_path, "from"), _url(tmp_path, "to")
    _in(source, lambda memory: memory.thread("r", "t").append(Message.user("one", id="m1")))

    async def late(*arguments: Any) -> Any:
        count = await copy_thread(*arguments)
        await Memory(arguments[0]).thread("r", "t").append(Message.user("two", id="m2"))
        return count

    monkeypatch.setattr("threadkeep.cli.copy.transfer.copy_thread", late)
    told = _copy(source, target, "--verify")
    assert told.exit_code == 1
    assert "different: thread t of resource r: message m2, number 2 in FROM, is not in TO" in told.stderr
    assert "verified" not in told.stdout


def test_threads_of_to_that_are_not_in_from_are_left_alone_and_told_of(filled: tuple[str, int], tmp_path: Path) -> None:
    target = _url(tmp_path, "to")
    resource_id = conversations()[0]["resource_id"]
    _in(target, lambda memory: memory.thread(resource_id, "of TO").append("mine"))
    told = _copy(filled[0], target, "--verify")
    assert told.exit_code == 0
    assert "TO has 1 threads of these resources that are not in FROM" in told.stderr
    assert len(_in(target, lambda memory: memory.thread(resource_id, "of TO").messages())) == 1


async def test_another_writer_in_to_loses_nothing(filled: tuple[str, int]) -> None:
    """A thread of TO that gets written to while it is copied is refused, and keeps what was written."""
    async with Memory(filled[0]) as source, Memory(f"memory://{uuid.uuid4().hex}") as target:
        place = (conversations()[0]["resource_id"], conversations()[0]["thread_id"])
        store = target.store.store
        commit = store.commit
        count = 0

        async def watched(scope: Any, changes: Any) -> Any:
            nonlocal count
            count += 1
            if count == 3:
                vars(store).pop("commit")
                await target.thread(*place).append(Message.user("mine", id="mine"))
            return await commit(scope, changes)

        vars(store)["commit"] = watched
        for said in ("it was written to in TO while it was copied", "message mine, number"):
            with pytest.raises(Refused, match=said):
                await copy_thread(source.store, target.store, Thread(*place))
            assert (await target.thread(*place).messages(last=1))[0].id == "mine"


@pytest.mark.parametrize(
    ("large", "said"),
    [
        ({"message": "x" * 2**20}, "does not fit into TO: message 'large' (bytes of JSON) is 10"),
        ({"thread": "é" * 300}, "does not fit into TO: thread_id (UTF-8 bytes) is 600, over the limit id_bytes = 512"),
        ({"memory": "x" * 2**19}, "does not fit into TO: the working memory (bytes of JSON) is 524290"),
        ({"metadata": "x" * 2**17}, "does not fit into TO: the metadata (bytes of JSON) is"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_what_to_does_not_take_is_named_before_anything_of_its_thread_is_written(
    large: dict[str, str], said: str, tmp_path: Path
) -> None:
    wide = Limits(2**12, 2**22, 1000, 2**23, 2**20, 2**18, 2**12)

    async with (
        Memory(f"memory://{uuid.uuid4().hex}") as source,
        Memory(_url(tmp_path, "to")) as target,
    ):
        source.store.store.limits = wide
        thread = source.thread("r", large.get("thread", "t"))
        await thread.append(*[f"small {number}" for number in range(300)])
        await thread.append(Message.user(large.get("message", "hello"), id="large"))
        if "memory" in large:
            await thread.working_memory.put(large["memory"])
        if "metadata" in large:
            await thread.set_metadata({"large": large["metadata"]})
        with pytest.raises(Refused) as refused:
            await copy_thread(source.store, target.store, Thread("r", thread.thread_id))
        assert said in str(refused.value)
        assert [info async for info in target.resource("r").threads()] == []


async def test_a_commit_that_to_takes_only_in_parts_is_written_in_parts(tmp_path: Path) -> None:
    async with Memory(f"memory://{uuid.uuid4().hex}") as source, Memory(_url(tmp_path, "to")) as target:
        source.store.store.limits = Limits(commit_messages=10_000, commit_bytes=2**26)
        await source.thread("r", "many").append(*[f"number {number}" for number in range(950)])
        await source.thread("r", "large").append(*["x" * (2**20 - 1000) for _ in range(7)])
        await _all(source, target)
        assert await _differences(source, target) == []


def test_a_source_that_is_not_there_is_an_error_and_is_not_made(tmp_path: Path) -> None:
    told = _copy(_url(tmp_path, "from"), _url(tmp_path, "to"))
    assert told.exit_code == 1
    assert "there is no store at sqlite://" in told.stderr
    assert "give the URL of one as FROM" in told.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_store_under_two_names_is_an_error_and_is_left_as_it_is(filled: tuple[str, int], tmp_path: Path) -> None:
    before = _export(filled[0])
    (tmp_path / "folder").mkdir()
    for name in (filled[0], f"sqlite:///{tmp_path}/folder/../from.db", f"{filled[0]}?synchronous=normal"):
        told = _copy(filled[0], name)
        assert told.exit_code == 1
        assert "FROM and TO are the same store" in told.stderr
    assert _export(filled[0]) == before


def test_an_empty_store_is_told_from_another_empty_store(tmp_path: Path) -> None:
    source, target = _url(tmp_path, "from"), _url(tmp_path, "to")

    async def nothing(memory: Memory) -> None:
        assert not await memory.thread("r", "t").exists()

    _in(source, nothing)
    assert "the same store" in _copy(source, source).stderr
    assert _messages_copied(_copy(source, target, "--verify")) == 0
    assert _export(target) == []


def test_a_file_and_its_copy_are_two_stores(filled: tuple[str, int], tmp_path: Path) -> None:
    """They have the same epochs, and what was lost in one may be brought back from the other."""
    (tmp_path / "backup.db").write_bytes((tmp_path / "from.db").read_bytes())
    place = (conversations()[0]["resource_id"], conversations()[0]["thread_id"])
    before = _export(filled[0])
    _in(filled[0], lambda memory: memory.thread(*place).delete())
    assert _messages_copied(_copy(_url(tmp_path, "backup"), filled[0], "--verify")) == len(
        conversations()[0]["messages"]
    )
    assert _export(filled[0]) == before


def test_a_thread_without_info_is_equal_to_one_whose_info_was_taken_away(tmp_path: Path) -> None:
    source, target = _url(tmp_path, "from"), _url(tmp_path, "to")
    _in(source, lambda memory: memory.thread("r", "t").append("hello"))
    _messages_copied(_copy(source, target, "--verify"))
    docs = _in(target, lambda memory: memory.store.load(Thread("r", "t"))).docs
    assert docs[INFO].body is None
    assert json.dumps(_export(target)) == json.dumps(_export(source))
