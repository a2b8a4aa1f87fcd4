"""Processors: in the order given, and nothing of what they may not change gets through."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from threadkeep.agent import hooks, processors
from threadkeep.agent.hooks import RunContext
from threadkeep.agent.processors import Processors, register_processor
from threadkeep.errors import InvalidInput, PluginError, ProcessorFailed
from threadkeep.messages import Message, TextPart, ToolCallPart, ToolResultPart

WHERE = RunContext("support", "ann", "t")
CALL = Message(id="c", role="assistant", parts=[ToolCallPart(tool_call_id="1", name="f", arguments="{}")])
RESULT = Message(id="r", role="tool", parts=[ToolResultPart(tool_call_id="1", name="f", result="ok")])
SAID = [Message.user("one", id="a"), CALL, RESULT, Message.assistant("two", id="b"), Message.user("three", id="d")]

Hook = Callable[[Sequence[Message]], Any]


class Both:
    """A processor whose two hooks do the same."""

    def __init__(self, change: Hook) -> None:
        self.change = change

    def before_model(self, messages: Sequence[Message]) -> Any:
        return self.change(messages)

    def before_commit(self, messages: Sequence[Message]) -> Any:
        return self.change(messages)


def run(given: Sequence[object], hook: str, messages: Sequence[Message] = SAID) -> list[Message]:
    ready = Processors(given)
    return asyncio.run(
        ready.before_model(messages, WHERE) if hook == "before_model" else ready.before_commit(messages, WHERE)
    )


def said(text: str) -> Both:
    return Both(
        lambda messages: [
            message.model_copy(update={"parts": [TextPart(text=f"{message.text}{text}")]}) if message.text else message
            for message in messages
        ]
    )


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "_registered", {})


@pytest.mark.parametrize("hook", ["before_model", "before_commit"])
def test_they_run_in_the_order_given_each_on_what_the_one_before_made(hook: str) -> None:
    register_processor("two", said("2"))
    after = run([said("1"), "two", said("3")], hook)
    assert [message.text for message in after] == ["one123", "", "", "two123", "three123"]
    assert [message.id for message in after] == [message.id for message in SAID]
    assert SAID[0].text == "one", "what was given is not changed"


def test_hooks_may_be_async_marked_or_functions_of_a_module_and_leave_arguments_out() -> None:
    class Later:
        async def before_model(self, messages: Sequence[Message], context: RunContext) -> list[Message]:
            assert context == WHERE
            await asyncio.sleep(0)
            return list(messages[1:])

    class Marked:
        @hooks.hookimpl
        def before_model(self, context: RunContext) -> None:
            assert context.agent == "support"

    module = ModuleType("plain")
    module.__dict__["before_model"] = lambda messages: messages[2:]
    assert run([Later(), Marked(), module], "before_model") == SAID[3:]
    assert run([Later(), Marked(), module], "before_commit") == SAID


def test_before_the_model_messages_may_be_left_out_pairs_together_and_parts_changed() -> None:
    def shorten(messages: Sequence[Message]) -> list[Message]:
        return [message for message in messages if message.id not in ("c", "r")]

    assert [message.id for message in run([Both(shorten)], "before_model")] == ["a", "b", "d"]


def without(*ids: str) -> Hook:
    return lambda messages: [message for message in messages if message.id not in ids]


def changed(of: str, **fields: Any) -> Hook:
    return lambda messages: [message.model_copy(update=fields) if message.id == of else message for message in messages]


@pytest.mark.parametrize(
    ("hook", "change", "says"),
    [
        ("before_model", without("c"), "it left a tool result without its call"),
        ("before_model", without("r"), "it left a tool call without its result"),
        ("before_model", without("d"), "it left out the last message, 'd'"),
        ("before_model", lambda messages: [], "it left out the last message"),
        ("before_model", changed("r", parts=[]), "it left a tool call without its result"),
        ("before_model", changed("c", parts=[]), "it left a tool result without its call"),
        ("before_commit", without("b"), r"it left out messages that are to be stored: \['b'\]"),
        ("before_commit", changed("r", parts=[]), "it changed the tool calls or results of message 'r'"),
        (
            "before_commit",
            changed("c", parts=[ToolCallPart(tool_call_id="2", name="f", arguments="{}")]),
            "it changed the tool calls or results of message 'c'",
        ),
        (
            "before_commit",
            changed("c", parts=[ToolCallPart(tool_call_id="1", name="g", arguments="{}")]),
            "it changed the tool calls or results of message 'c'",
        ),
        *(
            (hook, change, says)
            for hook in ("before_model", "before_commit")
            for change, says in (
                (changed("a", id="z"), "it made up the message 'z', or changed an id"),
                (lambda messages: [*messages, Message.user("more", id="m")], "it made up the message 'm'"),
                (lambda messages: [*messages[:3], messages[4], messages[3]], "it moved or doubled the message 'b'"),
                (lambda messages: [messages[0], *messages], "it moved or doubled the message 'a'"),
                (changed("a", role="system"), "it changed the role of message 'a'"),
                (lambda messages: "hello", "it gave str and not a list of messages"),
                (lambda messages: [message.text for message in messages], "it gave list and not a list of messages"),
                (lambda messages: 1 / 0, "ZeroDivisionError: division by zero"),
            )
        ),
    ],
)
def test_what_breaks_a_rule_is_refused_by_name(hook: str, change: Hook, says: str) -> None:
    register_processor("breaks", Both(change))
    with pytest.raises(ProcessorFailed, match=says) as refusal:
        run(["breaks"], hook)
    assert (refusal.value.processor, refusal.value.hook) == ("breaks", hook)
    assert str(refusal.value).startswith(f"{hook} of processor 'breaks' failed: ")
    assert not refusal.value.retryable


def test_what_it_raised_is_the_cause() -> None:
    with pytest.raises(ProcessorFailed) as refusal:
        run([Both(lambda messages: 1 / 0)], "before_commit")
    assert isinstance(refusal.value.__cause__, ZeroDivisionError)
    assert refusal.value.processor == "Both"


def test_calls_that_were_open_before_may_stay_open() -> None:
    assert run([said("!")], "before_model", [SAID[0], CALL, SAID[4]])[1] == CALL


@pytest.mark.parametrize(
    ("wrong", "kind", "says"),
    [
        (["nobody"], InvalidInput, "there is no processor 'nobody'; installed or registered: known"),
        ("known", InvalidInput, "processors is a list"),
        ([object()], PluginError, "has neither before_model nor before_commit"),
        ([said], PluginError, "has neither"),
    ],
)
def test_what_is_no_processor_is_refused(wrong: Any, kind: type[Exception], says: str) -> None:
    register_processor("known", said("1"))
    with pytest.raises(kind, match=says):
        Processors(wrong)


def test_hooks_with_arguments_that_no_run_gives_are_refused() -> None:
    class Wrong:
        def before_model(self, messages: Sequence[Message], user: str) -> None:
            raise AssertionError

    with pytest.raises(PluginError, match="user"):
        Processors([Wrong()])
    with pytest.raises(PluginError, match="the processor 'wrong' is not usable"):
        register_processor("wrong", Wrong())
    with pytest.raises(InvalidInput, match="non-empty string"):
        register_processor("", said("1"))


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group=processors.GROUP)


def test_installed_processors_are_found_by_name_and_only_the_one_named_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loud_words.py").write_text("def before_model(messages):\n    return messages[-1:]\n", encoding="utf-8")
    (tmp_path / "broken_words.py").write_text("raise RuntimeError('broken')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    found = [
        entry("loud", "loud_words"),
        entry("broken", "broken_words"),
        entry("twice", "loud_words"),
        entry("twice", "broken_words"),
    ]

    def installed(*, group: str, name: str | None = None) -> list[EntryPoint]:
        return [each for each in found if each.group == group and name in (None, each.name)]

    monkeypatch.setattr(processors, "entry_points", installed)
    assert run(["loud"], "before_model") == SAID[-1:]
    assert "broken_words" not in sys.modules
    with pytest.raises(PluginError, match=r"'broken' \(broken_words\) does not import: broken"):
        Processors(["broken"])
    with pytest.raises(PluginError, match="'twice' is claimed by more than one plugin: broken_words, loud_words"):
        Processors(["twice"])
    with pytest.raises(InvalidInput, match="installed or registered: broken, loud, twice"):
        Processors(["quiet"])
    sys.modules.pop("loud_words", None)


def test_a_message_that_is_given_twice_may_stay_twice() -> None:
    twice = [SAID[0], SAID[0]]
    assert [message.text for message in run([said("!")], "before_commit", twice)] == ["one!", "one!"]


async def test_no_processor_changes_nothing() -> None:
    ready = Processors([])
    calls: list[Awaitable[list[Message]]] = [ready.before_model(SAID, WHERE), ready.before_commit(SAID, WHERE)]
    for call in calls:
        assert await call == SAID
