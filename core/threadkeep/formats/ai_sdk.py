"""UI messages of the AI SDK (versions 5 and 6), the format of its chat front ends, to messages and back.

`from_ui` and `to_ui` go one to one and lose nothing: `to_ui(from_ui(ui)) == ui` for any UI message of JSON values. What
a part has a field for stands there, the rest is kept in its `provider["ai_sdk"]`. A tool part is a tool_call part,
followed by a tool_result part once it has an output or an error.

A front end has one assistant's message for a whole turn, the agent loop stores one for each step and one for each
tool's result. `messages_to_ui` folds the latter into the former, and `messages_from_ui` takes it apart again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

from threadkeep.errors import InvalidContent
from threadkeep.messages.approval import Approval
from threadkeep.messages.model import (
    DataPart,
    FilePart,
    Message,
    Part,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UnknownPart,
)
from threadkeep.port.canonical import canonical_json

_KEY: Final = "ai_sdk"
_FOLDED: Final = "threadkeep"
"""The key in a folded UI message's metadata that says which messages it is made of: [[id, role], ...]."""

_STEP: Final = {"type": "step-start"}

_ROLES: Final = ("system", "user", "assistant")
_CALLED: Final = frozenset({"input-available", "approval-requested", "approval-responded"})
_ANSWERED: Final = frozenset({"output-available", "output-error", "output-denied"})
_DENIED: Final = "the call was denied"


def from_ui(ui_message: Mapping[str, Any]) -> Message:
    """The message of one UI message, with its id and metadata.

    A tool part whose input is still streaming, and parts of unknown kinds, are unknown parts `ai_sdk:TYPE`.
    Raises InvalidContent naming what is missing.
    """
    fields, parts = _read(ui_message)
    return _message(fields, [part for form in parts for part in _import(form)])


def to_ui(message: Message) -> dict[str, Any]:
    """The one UI message of a message, its parts and metadata. Unknown parts of other formats are left out.

    Raises InvalidContent for a role that front ends do not have; `messages_to_ui` takes any.
    """
    if message.role not in _ROLES:
        raise InvalidContent(
            f"a UI message has the role system, user or assistant, not {message.role!r}; use messages_to_ui"
        )
    ui: dict[str, Any] = {"id": message.id, "role": message.role, "parts": list(_export(message.parts))}
    kept = _kept(message)
    if message.metadata or kept.pop("metadata", None) == "empty":
        ui["metadata"] = deepcopy(message.metadata)
    fields: dict[str, Any] = kept.get("fields", {})
    return ui | fields


def messages_from_ui(ui_messages: Iterable[Mapping[str, Any]]) -> list[Message]:
    """The messages of a front end's conversation, as the agent loop stores them.

    Of an assistant's message, each step is one message of role "assistant", and each tool's result one of role
    "tool" after it. They get the ids that `messages_to_ui` gave along in the metadata; where it gave none, the first
    has the UI message's own id, and the others ids made from it, the same each time.
    Raises InvalidContent naming the index of the message that cannot be read.
    """
    messages: list[Message] = []
    for index, ui in enumerate(ui_messages):
        try:
            messages.extend(_unfold(ui))
        except InvalidContent as error:
            raise InvalidContent(f"UI message {index}: {error}") from error
    return messages


def messages_to_ui(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The UI messages of messages: what assistant and tools said one after another is one, the rest is one to one.

    A folded message has the id of its first. Roles that front ends do not have count as the system's.
    """
    folded: list[dict[str, Any]] = []
    group: list[Message] = []
    for message in messages:
        if message.role in ("assistant", "tool", "function"):
            group.append(message)
            continue
        folded.extend(_fold(group))
        group = []
        shown = message if message.role in _ROLES else message.model_copy(update={"role": "system"})
        folded.append(to_ui(shown))
    return [*folded, *_fold(group)]


def approvals_from_ui(ui_messages: Iterable[Mapping[str, Any]]) -> list[Approval]:
    """The answers to calls that waited for approval in the last message of a front end's conversation.

    Only where it is the assistant's: what somebody said afterwards has gone on without them.
    Raises InvalidContent for a message that cannot be read.
    """
    messages = list(ui_messages)
    if not messages:
        return []
    fields, forms = _read(messages[-1])
    if fields["role"] != "assistant":
        return []
    answers = []
    for form in forms:
        match form:
            case {
                "toolCallId": str(call_id),
                "state": "approval-responded",
                "approval": {"approved": bool(approved), **rest},
            }:
                reason = rest.get("reason")
                answers.append(Approval(call_id, approved, reason if isinstance(reason, str) else None))
    return answers


def _read(ui: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    if not isinstance(ui, Mapping):
        raise InvalidContent(f"a UI message is a mapping with id, role and parts, not {type(ui).__name__}")
    fields = deepcopy(dict(ui))
    for name in ("id", "role"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise InvalidContent(
                f"a UI message needs {name}, a string that is not empty; this one has {fields.get(name)!r}"
            )
    parts = fields.pop("parts", None)
    if not isinstance(parts, list):
        hint = (
            "; version 4 had content instead, which the AI SDK's own migration converts" if "content" in fields else ""
        )
        raise InvalidContent(f"a UI message needs parts, a list{hint}")
    return fields, parts


def _message(fields: dict[str, Any], parts: list[Part]) -> Message:
    metadata = fields.pop("metadata", None) if isinstance(fields.get("metadata"), dict) else None
    kept: dict[str, Any] = {"metadata": "empty"} if metadata == {} else {}
    id, role = fields.pop("id"), fields.pop("role")
    if fields:
        kept["fields"] = fields
    return Message(id=id, role=role, parts=parts, metadata=metadata or {}, provider={_KEY: kept} if kept else None)


def _kept(held: Message | Part) -> dict[str, Any]:
    kept = (held.provider or {}).get(_KEY)
    return deepcopy(kept) if isinstance(kept, dict) else {}


def _provider(rest: Mapping[Any, Any]) -> dict[str, Any] | None:
    return {_KEY: dict(rest)} if rest else None


def _import(form: Any) -> Iterator[Part]:
    """Our parts of one UI part."""
    match form:
        case {"type": "text", "text": str(text), **rest}:
            yield TextPart(text=text, provider=_provider(rest))
        case {"type": "reasoning", "text": str(text), **rest}:
            yield ReasoningPart(text=text, provider=_provider(rest))
        case {"type": "file", "url": str(url), "mediaType": str(media_type), **rest}:
            filename = rest.pop("filename") if isinstance(rest.get("filename"), str) else None
            yield FilePart(url=url, media_type=media_type, filename=filename, provider=_provider(rest))
        case {"type": "source-url", "sourceId": str(source_id), "url": str(url), **rest}:
            title = rest.pop("title") if isinstance(rest.get("title"), str) else None
            yield SourcePart(source_id=source_id, url=url, title=title, provider=_provider(rest))
        case {"type": "source-document", "sourceId": str(source_id), "title": str(title), **rest}:
            provider = _provider({"type": form["type"]} | rest)
            yield SourcePart(source_id=source_id, title=title, provider=provider)
        case {"type": str(kind), "data": data, **rest} if kind.startswith("data-"):
            yield DataPart(name=kind[5:], data=data, provider=_provider(rest))
        case {"type": str(kind), "toolCallId": str(), "state": str(state)} if _is_tool(form, kind, state):
            yield from _import_tool(form)
        case {"type": str(kind)}:
            yield UnknownPart(type=f"{_KEY}:{kind}", provider={_KEY: form})
        case _:
            raise InvalidContent(f"a part of a UI message is an object with a type, not {form!r}"[:200])


def _is_tool(form: Mapping[str, Any], kind: str, state: str) -> bool:
    named = kind.startswith("tool-") or (kind == "dynamic-tool" and isinstance(form.get("toolName"), str))
    if state == "output-available":
        return named and "output" in form
    if state == "output-error":
        return named and isinstance(form.get("errorText"), str)
    return named and (state in _CALLED or state in _ANSWERED)


def _import_tool(form: dict[str, Any]) -> Iterator[Part]:
    rest = dict(form)
    call_id, kind, state = rest.pop("toolCallId"), rest["type"], rest["state"]
    name = rest["toolName"] if kind == "dynamic-tool" else kind[5:]
    written: dict[str, Any] = {}
    arguments: str | dict[str, Any] = ""
    if "input" not in rest:
        written["input"] = "missing"
    elif isinstance(given := rest.pop("input"), dict):
        arguments = given
    else:
        arguments = canonical_json(given, "input")
        written["input"] = "value"
    output = rest.pop("output") if state == "output-available" else None
    text = rest.pop("errorText") if state == "output-error" else None
    # What still changes is no result yet.
    preliminary = state == "output-available" and rest.get("preliminary") is True
    if preliminary:
        written["output"] = output
    provider = {_KEY: {"form": rest, **written}}
    yield ToolCallPart(tool_call_id=call_id, name=name, arguments=arguments, provider=provider)
    if state == "output-available" and not preliminary:
        yield ToolResultPart(tool_call_id=call_id, name=name, result=output)
    elif state == "output-error":
        yield ToolResultPart(tool_call_id=call_id, name=name, result=text, is_error=True)
    elif state == "output-denied":
        approval = rest.get("approval")
        reason = approval.get("reason") if isinstance(approval, dict) else None
        told = f"{_DENIED}: {reason}" if reason else _DENIED
        yield ToolResultPart(tool_call_id=call_id, name=name, result=told, is_error=True)


def _export(parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    """The UI parts of parts; a result is told with its call."""
    results = [part for part in parts if isinstance(part, ToolResultPart)]
    for part in parts:
        kept = _kept(part)
        match part:
            case TextPart():
                yield {"type": "text", "text": part.text} | kept
            case ReasoningPart():
                yield {"type": "reasoning", "text": part.text} | kept
            case FilePart():
                yield _export_file(part) | kept
            case SourcePart():
                yield _export_source(part) | kept
            case DataPart():
                yield {"type": f"data-{'data' if part.name is None else part.name}", "data": deepcopy(part.data)} | kept
            case ToolCallPart():
                mine = next((each for each in results if each.tool_call_id == part.tool_call_id), None)
                if mine is not None:
                    results.remove(mine)
                yield _export_tool(part, mine, kept)
            case ToolResultPart() if part in results:
                # A result whose call is elsewhere.
                call = ToolCallPart(tool_call_id=part.tool_call_id, name=part.name or "tool", arguments={})
                yield _export_tool(call, part, {})
            case UnknownPart() if part.type.startswith(f"{_KEY}:"):
                yield kept


def _export_file(part: FilePart) -> dict[str, Any]:
    media_type = part.media_type or "application/octet-stream"
    url = part.url if part.data is None else f"data:{media_type};base64,{part.data}"
    named = {} if part.filename is None else {"filename": part.filename}
    return {"type": "file", "mediaType": media_type, "url": url or "", **named}


def _export_source(part: SourcePart) -> dict[str, Any]:
    titled = {} if part.title is None else {"title": part.title}
    if part.url is None:
        return {"type": "source-document", "sourceId": part.source_id or "", "mediaType": "text/plain", **titled}
    return {"type": "source-url", "sourceId": part.source_id or part.url, "url": part.url, **titled}


def _export_tool(call: ToolCallPart, result: ToolResultPart | None, kept: dict[str, Any]) -> dict[str, Any]:
    form = kept.get("form")
    form = form if isinstance(form, dict) else {"type": f"tool-{call.name}", "state": "input-available"}
    form["toolCallId"] = call.tool_call_id
    if kept.get("input") != "missing":
        form["input"] = _input(call, as_value=kept.get("input") == "value")
    if "output" in kept and result is None:
        form["output"] = kept["output"]
    if result is None:
        return form
    if result.is_error:
        if form["state"] == "output-denied":
            return form
        form["state"] = "output-error"
        form["errorText"] = result.result if isinstance(result.result, str) else canonical_json(result.result, "result")
        return form
    form["state"] = "output-available"
    form.pop("preliminary", None)
    form["output"] = deepcopy(result.result)
    return form


def _input(call: ToolCallPart, *, as_value: bool) -> Any:
    if isinstance(call.arguments, dict):
        return deepcopy(call.arguments)
    try:
        value = json.loads(call.arguments or "{}")
    except ValueError:
        return call.arguments
    return value if as_value or isinstance(value, dict) else call.arguments


def _fold(group: Sequence[Message]) -> list[dict[str, Any]]:
    """One UI message of what assistant and tools said one after another."""
    if not group:
        return []
    if len(group) == 1 and group[0].role == "assistant" and group[0].provider and _KEY in group[0].provider:
        return [to_ui(group[0])]
    steps: list[list[Part]] = []
    for message in group:
        if message.role == "assistant" or not steps:
            steps.append([])
        for part in message.parts:
            _home(steps, part).append(part)
    parts: list[dict[str, Any]] = []
    for step in steps:
        parts += [dict(_STEP), *_export(step)]
    made_of = [[message.id, message.role] for message in group]
    metadata = {**deepcopy(group[0].metadata), _FOLDED: made_of}
    return [{"id": group[0].id, "role": "assistant", "parts": parts, "metadata": metadata}]


def _home(steps: Sequence[list[Part]], part: Part) -> list[Part]:
    """The step that a part is shown in: of a result, the newest one that called and has no answer to it yet."""
    if isinstance(part, ToolResultPart):
        for step in reversed(steps):
            calls = [each.tool_call_id for each in step if isinstance(each, ToolCallPart)]
            answered = [each.tool_call_id for each in step if isinstance(each, ToolResultPart)]
            if calls.count(part.tool_call_id) > answered.count(part.tool_call_id):
                return step
    return steps[-1]


def _unfold(ui: Mapping[str, Any]) -> list[Message]:
    fields, forms = _read(ui)
    if fields["role"] != "assistant":
        return [from_ui(ui)]
    metadata = fields.get("metadata")
    made_of = metadata.pop(_FOLDED, None) if isinstance(metadata, dict) else None
    named = _names(made_of)
    steps: list[tuple[list[Part], list[ToolResultPart]]] = [([], [])]
    was_tool = False
    for form in forms:
        parts = list(_import(form))
        is_tool = isinstance(parts[0], ToolCallPart)
        if form == _STEP:
            steps.append(([], []))
            continue
        if steps[-1][1] and not (is_tool and was_tool):
            steps.append(([], []))
        was_tool = is_tool
        steps[-1][0].append(parts[0])
        steps[-1][1].extend(part for part in parts[1:] if isinstance(part, ToolResultPart))
    steps = [step for step in steps if step[0]] or [([], [])]
    own = fields["id"]
    messages: list[Message] = []
    for number, (said, results) in enumerate(steps):
        id = next(named["assistant"], own if number == 0 else f"{own}/{number}")
        if number == 0:
            messages.append(_message({**fields, "id": id}, said))
        else:
            messages.append(Message(id=id, role="assistant", parts=said))
        for result in results:
            id = next(named["tool"], f"{own}/{number}/{result.tool_call_id}")
            messages.append(Message(id=id, role="tool", parts=[result]))
    return messages


def _names(made_of: Any) -> dict[str, Iterator[str]]:
    """The ids that `_fold` gave along, by role."""
    entries = made_of if isinstance(made_of, list) else []
    ids: dict[str, list[str]] = {"assistant": [], "tool": []}
    for entry in entries:
        match entry:
            case [str(id), "assistant"]:
                ids["assistant"].append(id)
            case [str(id), str()]:
                ids["tool"].append(id)
    return {role: iter(each) for role, each in ids.items()}
