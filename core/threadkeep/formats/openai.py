"""OpenAI chat messages, the format of Chat Completions, to messages and back.

One chat message is one message, and comes back as it was: `to_openai(from_openai(chat)) == chat` for any chat message
of JSON values that has a role. What a message has a field for stands there and nowhere else; the rest is kept in
`provider["openai"]`:

- of a message, `fields` (the fields that have no place, verbatim) and `content` (how an unusual content was written);
- of a part, `content`, `tool_call` or `function_call`: the chat form without what the part's own fields hold, or all
  of it where the part is unknown.

Keys are written in one fixed order, since their order tells nothing apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from datetime import datetime
from typing import Any, Final, TypeGuard

from threadkeep.errors import InvalidContent, InvalidInput
from threadkeep.formats.steps import split_steps
from threadkeep.messages.model import FilePart, Message, Part, TextPart, ToolCallPart, ToolResultPart, UnknownPart
from threadkeep.port.canonical import canonical_json
from threadkeep.port.ids import new_id

LEGACY_CALL_ID: Final = "function_call"
"""The tool_call_id of the older `function_call` and of its `function` message, which have no id of their own."""

_AUDIO_FORMATS: Final = {"audio/mpeg": "mp3", "audio/x-wav": "wav", "audio/wave": "wav"}
_AUDIO_TYPES: Final = {"mp3": "audio/mpeg"}
_PLAIN_CALL: Final = {"type": "function", "function": {}}


def from_openai(
    chat_message: Mapping[str, Any],
    *,
    id: str | None = None,
    created_at: datetime | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Message:
    """The message of one chat message.

    Text content is a text part; of a list, text is text parts, images, audio and files are file parts and all else is
    an unknown part `openai:TYPE`. Tool calls follow the content, arguments as the verbatim string. The content of a
    `tool` message with a tool_call_id is the result of its one tool_result part, its name that part's name.

    `id` is the message's id, by default the chat message's own `id` field if it has one, else a fresh one.
    Raises InvalidContent where it is no mapping or has no role.
    """
    if not isinstance(chat_message, Mapping):
        raise InvalidContent(
            f"a chat message is a mapping with a role and a content, not {type(chat_message).__name__}; "
            "wrap text as {'role': 'user', 'content': text}"
        )
    fields = deepcopy(dict(chat_message))
    role = fields.pop("role", None)
    if not isinstance(role, str):
        raise InvalidContent(f"a chat message needs a role, a string such as 'user'; this one has {role!r}")
    if id is None:
        own = fields.get("id")
        id = own if isinstance(own, str) and own else new_id()
    kept: dict[str, Any] = {}
    name = None
    if _answers_call(role, fields):
        parts: list[Part] = [_import_result(role, fields, kept)]
    else:
        name = fields.pop("name") if isinstance(fields.get("name"), str) else None
        parts = _import_content(role, fields, kept)
    if fields:
        kept["fields"] = fields
    return Message(
        id=id,
        role=role,
        parts=parts,
        name=name,
        created_at=created_at,
        metadata=dict(metadata or {}),
        provider={"openai": kept} if kept else None,
    )


def messages_from_openai(
    chat_messages: Iterable[Mapping[str, Any]], *, ids: Sequence[str] | None = None
) -> list[Message]:
    """The messages of chat messages, one of each; `ids` gives their ids, in the same order.

    Raises InvalidContent naming the index of the chat message that cannot be read, and InvalidInput where there are
    more or fewer ids than chat messages.
    """
    chats = list(chat_messages)
    if ids is not None and len(ids) != len(chats):
        raise InvalidInput(f"{len(chats)} chat messages need as many ids, not {len(ids)}")
    messages = []
    for index, chat in enumerate(chats):
        try:
            messages.append(from_openai(chat, id=None if ids is None else ids[index]))
        except InvalidContent as error:
            raise InvalidContent(f"chat message {index}: {error}") from error
    return messages


def to_openai(message: Message) -> dict[str, Any]:
    """The one chat message of a message; see `messages_to_openai` for what is written and what is left out.

    Raises InvalidContent where it takes more than one, as for two tool results, and for a file that has no chat form.
    """
    chats = _expand(message)
    if len(chats) != 1:
        raise InvalidContent(
            f"message {message.id[:40]!r} takes {len(chats)} chat messages, since each tool result is one of its own; "
            "use messages_to_openai"
        )
    return chats[0]


def messages_to_openai(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The chat messages of messages, as a model is called with them.

    A message with tool results becomes several: what was said and called in its role, then a `tool` message for each
    result, after the message with its call. A result that is no string is written as JSON text, and so are arguments
    that are an object. Reasoning, sources, data and unknown parts that are not OpenAI's have no chat form and are left
    out. Raises InvalidContent for a file that has none, such as a PDF by URL.
    """
    return [chat for message in messages for chat in _expand(message)]


def _answers_call(role: str, fields: dict[str, Any]) -> bool:
    if role == "tool":
        return isinstance(fields.get("tool_call_id"), str)
    return role == "function" and isinstance(fields.get("name"), str)


def _import_result(role: str, fields: dict[str, Any], kept: dict[str, Any]) -> ToolResultPart:
    if "content" not in fields:
        kept["content"] = "missing"
    elif not isinstance(fields["content"], str):
        kept["content"] = "value"
    return ToolResultPart(
        tool_call_id=fields.pop("tool_call_id") if role == "tool" else LEGACY_CALL_ID,
        name=fields.pop("name") if isinstance(fields.get("name"), str) else None,
        result=fields.pop("content", None),
    )


def _import_content(role: str, fields: dict[str, Any], kept: dict[str, Any]) -> list[Part]:
    """The parts of content and calls, which are taken out of `fields`; `kept` learns how the content was written."""
    parts: list[Part] = []
    written = "missing"
    content = fields.get("content")
    if "content" in fields and (content is None or isinstance(content, str | list)):
        del fields["content"]
        if content is None:
            written = "null"
        elif isinstance(content, str):
            written = "text"
            parts.append(TextPart(text=content))
        else:
            written = "list"
            parts.extend(_import_item(item) for item in content)
    if written == "missing" or _content(role, parts, None) != content:
        kept["content"] = written
    if isinstance(fields.get("tool_calls"), list) and fields["tool_calls"]:
        parts.extend(_import_call(call) for call in fields.pop("tool_calls"))
    match fields.get("function_call"):
        case {"name": str(name), "arguments": str(arguments), **rest}:
            del fields["function_call"]
            provider = {"openai": {"function_call": rest}}
            parts.append(ToolCallPart(tool_call_id=LEGACY_CALL_ID, name=name, arguments=arguments, provider=provider))
    return parts


def _import_item(item: Any) -> Part:
    """The part of one entry of a content list."""
    match item:
        case {"type": "text", "text": str(text), **rest}:
            plain = rest == {}
            return TextPart(text=text, provider=None if plain else {"openai": {"content": {"type": "text", **rest}}})
        case {"type": "image_url", "image_url": {"url": str(url), **inner}, **rest}:
            form = {"type": "image_url", "image_url": inner, **rest}
            return FilePart(url=url, media_type=_media_type(url) or "image/*", provider={"openai": {"content": form}})
        case {"type": "input_audio", "input_audio": {"data": str(data), "format": str(kind), **inner}, **rest}:
            form = {"type": "input_audio", "input_audio": {"format": kind, **inner}, **rest}
            media_type = _AUDIO_TYPES.get(kind, f"audio/{kind}")
            return FilePart(data=data, media_type=media_type, provider={"openai": {"content": form}})
        case {"type": "file", "file": {**inner}, **rest}:
            filename = inner.pop("filename") if isinstance(inner.get("filename"), str) else None
            held = inner.pop("file_data") if isinstance(inner.get("file_data"), str) else None
            form = {"type": "file", "file": inner, **rest}
            where: dict[str, Any] = {"data": held}
            if _is_data_url(held):
                where = {"url": held, "media_type": _media_type(held)}
            return FilePart(filename=filename, provider={"openai": {"content": form}}, **where)
    return _unknown("content", item)


def _import_call(call: Any) -> Part:
    """The part of one entry of `tool_calls`."""
    match call:
        case {"id": str(call_id), "type": "custom", "custom": {"name": str(name), "input": str(text), **inner}, **rest}:
            form = {"type": "custom", "custom": inner, **rest}
            return ToolCallPart(
                tool_call_id=call_id, name=name, arguments=text, provider={"openai": {"tool_call": form}}
            )
        case {"id": str(call_id), "function": {"name": str(name), "arguments": str() | dict() as arguments, **inner}}:
            if isinstance(arguments, dict):
                inner["arguments"] = deepcopy(arguments)
            form = {key: value for key, value in call.items() if key != "id"} | {"function": inner}
            provider = None if form == _PLAIN_CALL else {"openai": {"tool_call": form}}
            return ToolCallPart(tool_call_id=call_id, name=name, arguments=arguments, provider=provider)
    return _unknown("tool_call", call)


def _unknown(place: str, form: Any) -> UnknownPart:
    kind = form.get("type") if isinstance(form, dict) else None
    name = f"openai:{kind}" if isinstance(kind, str) else "openai"
    return UnknownPart(type=name, provider={"openai": {place: form}})


def _is_data_url(url: object) -> TypeGuard[str]:
    return isinstance(url, str) and url.startswith("data:")


def _media_type(url: object) -> str | None:
    """The media type that a data URL names."""
    if not _is_data_url(url):
        return None
    return url[5:].partition(",")[0].partition(";")[0] or None


_NOTHING: Final = object()


def _form(part: Part, place: str) -> Any:
    """What was kept of a part's chat form, copied, or _NOTHING."""
    kept = (part.provider or {}).get("openai")
    return deepcopy(kept[place]) if isinstance(kept, dict) and place in kept else _NOTHING


def _expand(message: Message) -> list[dict[str, Any]]:
    steps = split_steps(message.parts, _has_form)
    kept = (message.provider or {}).get("openai")
    kept = kept if isinstance(kept, dict) else {}
    written = kept.get("content")
    chats: list[dict[str, Any]] = []
    for said, results in steps:
        if said or not results:
            chats.append(_say(message, said, written if not chats else None))
        for result in results:
            chats.append(_answer(message.role, result, written if not chats else None))
    fields = kept.get("fields")
    if isinstance(fields, dict):
        chats[0].update({key: deepcopy(value) for key, value in fields.items() if key not in chats[0]})
    return chats


def _has_form(part: Part) -> bool:
    if isinstance(part, UnknownPart):
        return _form(part, "content") is not _NOTHING or _form(part, "tool_call") is not _NOTHING
    return isinstance(part, TextPart | FilePart | ToolCallPart)


def _say(message: Message, parts: Sequence[Part], written: str | None) -> dict[str, Any]:
    calls = []
    function_call = None
    for part in parts:
        if isinstance(part, ToolCallPart):
            legacy = _form(part, "function_call")
            if isinstance(legacy, dict):
                function_call = {"arguments": _arguments(part), "name": part.name, **legacy}
            else:
                calls.append(_call(part))
        elif isinstance(part, UnknownPart) and (form := _form(part, "tool_call")) is not _NOTHING:
            calls.append(form)
    chat: dict[str, Any] = {"role": message.role}
    content = _content(message.role, parts, written)
    if content is not _NOTHING:
        # The order in which the client libraries dump an assistant's message.
        chat = {"content": content} | chat if message.role == "assistant" else chat | {"content": content}
    if message.name is not None:
        chat["name"] = message.name
    if calls:
        chat["tool_calls"] = calls
    if function_call is not None:
        chat["function_call"] = function_call
    return chat


def _content(role: str, parts: Sequence[Part], written: str | None) -> Any:
    """The content of a chat message: a string for one plain text, else a list; or _NOTHING where it has none."""
    items = []
    for part in parts:
        if isinstance(part, TextPart):
            form = _form(part, "content")
            items.append({"type": "text", "text": part.text, **(form if isinstance(form, dict) else {})})
        elif isinstance(part, FilePart):
            items.append(_file(part))
        elif isinstance(part, UnknownPart) and (form := _form(part, "content")) is not _NOTHING:
            items.append(form)
    if not items:
        return _empty_content(role, written)
    match items:
        case [{"type": "text", "text": str(text), **rest}] if not rest and written != "list":
            return text
    return items


def _empty_content(role: str, written: str | None) -> Any:
    """A content without items, as it was written, or as its role has it where that is not known."""
    match written:
        case "missing":
            return _NOTHING
        case "null":
            return None
        case "list":
            return []
        case "text":
            return ""
    return None if role == "assistant" else ""


def _answer(role: str, part: ToolResultPart, written: str | None) -> dict[str, Any]:
    legacy = role == "function" and part.tool_call_id == LEGACY_CALL_ID
    chat: dict[str, Any] = {"role": "function"} if legacy else {"role": "tool", "tool_call_id": part.tool_call_id}
    if part.name is not None:
        chat["name"] = part.name
    if isinstance(part.result, str) or (written == "value"):
        chat["content"] = deepcopy(part.result)
    elif written != "missing" or part.result is not None:
        chat["content"] = canonical_json(part.result, "a tool's result")
    return chat


def _arguments(part: ToolCallPart) -> str:
    return part.arguments if isinstance(part.arguments, str) else canonical_json(part.arguments, "arguments")


def _call(part: ToolCallPart) -> dict[str, Any]:
    form = _form(part, "tool_call")
    if not isinstance(form, dict):
        form = dict(_PLAIN_CALL)
    if form.get("type") == "custom":
        return {
            "custom": {"input": _arguments(part), "name": part.name, **form.pop("custom", {})},
            "id": part.tool_call_id,
        } | form
    inner = form.pop("function", {})
    as_object = inner.pop("arguments", _NOTHING) is not _NOTHING
    arguments = deepcopy(part.arguments) if as_object else _arguments(part)
    return {"function": {"arguments": arguments, "name": part.name, **inner}, "id": part.tool_call_id} | form


def _file(part: FilePart) -> dict[str, Any]:
    form = _form(part, "content")
    if not isinstance(form, dict):
        return _native_file(part)
    match form:
        case {"type": "image_url", "image_url": dict(inner)}:
            form["image_url"] = {"url": part.url, **inner}
        case {"type": "input_audio", "input_audio": dict(inner)}:
            form["input_audio"] = {"data": part.data, **inner}
        case {"type": "file", "file": dict(inner)}:
            form["file"] = _named(part, part.url if part.data is None else part.data) | inner
    return form


def _named(part: FilePart, data: str | None) -> dict[str, Any]:
    named = {"filename": part.filename, "file_data": data}
    return {key: value for key, value in named.items() if value is not None}


def _native_file(part: FilePart) -> dict[str, Any]:
    """The chat form of a file that did not come from one."""
    media_type = part.media_type or _media_type(part.url)
    if part.data is None and part.url is None:
        raise InvalidContent("a file part without url and data has no chat form; give it one of them")
    kind = (media_type or "").partition("/")[0]
    url = part.url if part.data is None else f"data:{media_type or 'application/octet-stream'};base64,{part.data}"
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    if not _is_data_url(url):
        raise InvalidContent(
            f"a file of media type {media_type!r} by URL has no chat form, only an image has; "
            "give it as base64 in data, or set its media_type to image/* if it is an image"
        )
    if kind == "audio":
        audio = _AUDIO_FORMATS.get(media_type or "", (media_type or "").partition("/")[2])
        return {"type": "input_audio", "input_audio": {"data": url.partition(",")[2], "format": audio}}
    return {"type": "file", "file": _named(part, url)}
