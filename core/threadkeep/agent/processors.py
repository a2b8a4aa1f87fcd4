"""Processors: what may look at messages, and change them, before the model sees them and before they are stored.

A processor is an object or module with one or both of the hooks of `threadkeep.agent.hooks`. An agent's processors run
in the order in which they are given to it, each on what the one before it made; the name of an installed or registered
processor stands for it. No processor runs that an agent does not name: installing a package changes no prompt.

Installed processors are entry points of the group `threadkeep.processors`.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any, Final

import pluggy

from threadkeep.agent import hooks
from threadkeep.agent.hooks import RunContext
from threadkeep.errors import InvalidInput, PluginError, ProcessorFailed
from threadkeep.messages.model import Message, ToolCallPart, ToolResultPart
from threadkeep.messages.windows import pair_safe, unanswered

GROUP: Final = "threadkeep.processors"

HOOKS: Final = frozenset({"before_model", "before_commit"})


class _Hooks(pluggy.PluginManager):
    """Takes methods with the hooks' names whether they are marked or not."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        found = super().parse_hookimpl_opts(plugin, name)
        if found is None and name in HOOKS and inspect.isroutine(getattr(plugin, name, None)):
            return {
                "wrapper": False,
                "hookwrapper": False,
                "optionalhook": False,
                "tryfirst": False,
                "trylast": False,
                "specname": None,
            }
        return found


_registered: dict[str, object] = {}


def register_processor(name: str, processor: object) -> None:
    """Let a name stand for a processor in this process. The later one of a name counts, also over an installed one.

    Raises PluginError where it is none, InvalidInput for an empty name.
    """
    if not name:
        raise InvalidInput(f"a processor's name is a non-empty string, not {name!r}")
    _managed(processor, name)
    _registered[name] = processor


class Processors:
    """An agent's processors, in order.

    Raises InvalidInput for a name that is not known, and PluginError for what is no processor.
    """

    def __init__(self, given: Sequence[object]) -> None:
        if isinstance(given, str):
            raise InvalidInput(f"processors is a list of processors or names of processors, not {given!r}")
        self._managers: list[tuple[str, pluggy.PluginManager]] = []
        for each in given:
            name = each if isinstance(each, str) else _name_of(each)
            self._managers.append((name, _managed(_named(each) if isinstance(each, str) else each, name)))

    async def before_model(self, messages: Sequence[Message], context: RunContext) -> list[Message]:
        """The messages after every processor's `before_model`. Raises ProcessorFailed."""
        return await self._through("before_model", list(messages), context, _check_shown)

    async def before_commit(self, messages: Sequence[Message], context: RunContext) -> list[Message]:
        """The messages after every processor's `before_commit`. Raises ProcessorFailed."""
        return await self._through("before_commit", list(messages), context, _check_stored)

    async def _through(
        self,
        hook: str,
        messages: list[Message],
        context: RunContext,
        check: Callable[[list[Message], list[Message]], str | None],
    ) -> list[Message]:
        if not messages:
            return messages
        for name, manager in self._managers:
            try:
                made: Any = getattr(manager.hook, hook)(messages=list(messages), context=context)
                if inspect.isawaitable(made):
                    made = await made
            except Exception as error:
                raise ProcessorFailed(name, hook, f"{type(error).__name__}: {error}") from error
            if made is None:
                continue
            if not isinstance(made, list | tuple) or not all(isinstance(message, Message) for message in made):
                raise ProcessorFailed(name, hook, f"it gave {type(made).__name__} and not a list of messages")
            after: list[Message] = list(made)
            fault = check(messages, after)
            if fault is not None:
                raise ProcessorFailed(name, hook, fault)
            messages = after
        return messages


def _check_shown(before: list[Message], after: list[Message]) -> str | None:
    fault = _in_order(before, after)
    if fault is not None:
        return fault
    if before and (not after or after[-1].id != before[-1].id):
        return f"it left out the last message, {before[-1].id!r}, which is the one to be answered"
    if len(pair_safe(after)) < len(after):
        return "it left a tool result without its call"
    if _open(after) - _open(before):
        return "it left a tool call without its result"
    return None


def _check_stored(before: list[Message], after: list[Message]) -> str | None:
    fault = _in_order(before, after)
    if fault is not None:
        return fault
    if len(after) < len(before):
        missing = {message.id for message in before} - {message.id for message in after}
        return f"it left out messages that are to be stored: {sorted(missing)}"
    for one, other in zip(before, after, strict=True):
        if _pairs(one) != _pairs(other):
            return f"it changed the tool calls or results of message {one.id!r}, and not only what they say"
    return None


def _in_order(before: list[Message], after: list[Message]) -> str | None:
    known = {message.id for message in before}
    rest = iter(before)
    for message in after:
        if message.id not in known:
            return f"it made up the message {message.id!r}, or changed an id"
        given = next((each for each in rest if each.id == message.id), None)
        if given is None:
            return f"it moved or doubled the message {message.id!r}"
        if message.role != given.role:
            return f"it changed the role of message {message.id!r}"
    return None


def _pairs(message: Message) -> list[tuple[str, str, str | None]]:
    """The calls and results of a message, in order, without what they say."""
    return [
        (part.type, part.tool_call_id, part.name)
        for part in message.parts
        if isinstance(part, ToolCallPart | ToolResultPart)
    ]


def _open(messages: list[Message]) -> Counter[tuple[str, str]]:
    """The calls that no result answers, by message and call id."""
    return Counter((messages[index].id, call.tool_call_id) for index, call in unanswered(messages))


def _named(name: str) -> object:
    if name in _registered:
        return _registered[name]
    claims = {entry.value: entry for entry in entry_points(group=GROUP, name=name)}
    if not claims:
        known = sorted({*_registered, *(entry.name for entry in entry_points(group=GROUP))})
        raise InvalidInput(f"there is no processor {name!r}; installed or registered: {', '.join(known) or 'none'}")
    if len(claims) > 1:
        raise PluginError(f"processor {name!r} is claimed by more than one plugin: {', '.join(sorted(claims))}")
    (entry,) = claims.values()
    try:
        return entry.load()
    except Exception as error:
        raise PluginError(f"the processor {name!r} ({entry.value}) does not import: {error}") from error


def _name_of(processor: object) -> str:
    return str(getattr(processor, "__name__", None) or type(processor).__name__)


def _managed(processor: object, name: str) -> pluggy.PluginManager:
    manager = _Hooks("threadkeep")
    manager.add_hookspecs(hooks)
    try:
        manager.register(processor, name=name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"the processor {name!r} is not usable: {error}") from error
    if not manager.get_hookcallers(processor):
        raise PluginError(f"the processor {name!r} has neither before_model nor before_commit: {processor!r}")
    return manager
