"""Messages to what pydantic-ai's models are called with, and their answers to messages.

What a part has a field for stands there; what else the provider sent with it (ids, signatures' origin, details) is
kept in the part's and the message's `provider["pydantic_ai"]`, and goes back to the provider that it came from.
Parts of a kind that we have no name for are unknown parts `pydantic_ai:KIND`, kept whole.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Final

from pydantic import ValidationError
from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    DocumentUrl,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    SystemPromptPart,
    ToolReturnPart,
    UploadedFile,
    UserContent,
    UserPromptPart,
    VideoUrl,
)
from pydantic_ai.usage import RequestUsage

from threadkeep.errors import InvalidContent
from threadkeep.formats.steps import split_steps
from threadkeep.messages.model import (
    FilePart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UnknownPart,
)
from threadkeep.port.canonical import canonical_json

_KEY: Final = "pydantic_ai"
"""The key in `provider` under which a message and its parts keep what has no field."""

_UNKNOWN: Final = f"{_KEY}:"
_NOT_KEPT: Final = frozenset({"parts", "kind", "usage", "timestamp", "metadata", "run_id", "conversation_id", "state"})
"""Fields of a response that are held elsewhere, or that say nothing to a provider."""

_INSTRUCTIONS: Final = frozenset({"system", "developer"})
_USAGE: Final = {
    "cache_read_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "reasoning_tokens": "output_reasoning_tokens",
}
"""Our name of a count that is left out where it is 0 -> pydantic-ai's."""


def from_pydantic_ai(response: ModelResponse) -> Message:
    """The message, of role "assistant", of a model's whole response.

    `metadata` holds `model`, `finish_reason` and `usage` (input_tokens, output_tokens and, where they are not 0,
    cache_read_tokens, cache_write_tokens, reasoning_tokens) as far as the provider told them.
    """
    (plain,) = ModelMessagesTypeAdapter.dump_python([response], mode="json", exclude_none=True)
    metadata: dict[str, Any] = {}
    if response.model_name:
        metadata["model"] = response.model_name
    if response.finish_reason:
        metadata["finish_reason"] = response.finish_reason
    if usage := _usage(response.usage):
        metadata["usage"] = usage
    kept = {key: value for key, value in plain.items() if key not in _NOT_KEPT and value != {}}
    return Message(
        role="assistant",
        parts=[_part(form) for form in plain["parts"]],
        metadata=metadata,
        provider={_KEY: kept} if kept else None,
    )


def to_pydantic_ai(messages: Iterable[Message]) -> list[ModelMessage]:
    """The history that a pydantic-ai model is called with.

    All between two answers is one request, as providers want the results of several calls in one place. A tool's
    result goes as text (JSON text where it is no string), since a JSON value that looks like a file would be taken
    for one. Calls whose id was used before in the history get another one, with their results, since some providers
    refuse such a history. Messages of other roles than system, developer, assistant and tool count as the user's.
    Sources, data and unknown parts of other formats are left out.

    Raises InvalidContent for a file without url and data, or whose base64 cannot be read.
    """
    history: list[ModelMessage] = []
    ids = _Ids()
    for message in messages:
        steps = split_steps(message.parts, _is_sent)
        for said, results in steps:
            if message.role == "assistant":
                if said:
                    history.append(_response(message, said, ids))
            elif said:
                _request(history).extend(_said(message, said))
            if results:
                _request(history).extend(ids.answer(result) for result in results)
    return history


def _usage(usage: RequestUsage) -> dict[str, int]:
    if not usage.has_values():
        return {}
    told = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    for name, theirs in _USAGE.items():
        if count := getattr(usage, theirs):
            told[name] = count
    return told


def _part(form: dict[str, Any]) -> Part:
    """The part of one part of a response, as JSON values."""
    kind = form["part_kind"]
    match form:
        case {"part_kind": "text", "content": str(text), **rest}:
            return TextPart(text=text, provider=_kept(rest))
        case {"part_kind": "thinking", "content": str(text), **rest}:
            return ReasoningPart(text=text, signature=rest.pop("signature", None), provider=_kept(rest))
        case {"part_kind": "tool-call", "tool_name": str(name), "tool_call_id": str(call_id), **rest}:
            arguments = rest.pop("args", "")
            return ToolCallPart(tool_call_id=call_id, name=name, arguments=arguments, provider=_kept(rest))
        case {"part_kind": "file", "content": {"data": str(data), "media_type": str(media_type), **inner}, **rest}:
            inner.pop("kind", None)
            return FilePart(data=_standard(data), media_type=media_type, provider={_KEY: {**rest, "content": inner}})
    return UnknownPart(type=f"{_UNKNOWN}{kind}", provider={_KEY: form})


def _kept(rest: dict[str, Any]) -> dict[str, Any] | None:
    return {_KEY: rest} if rest else None


def _own(provider: dict[str, Any] | None) -> dict[str, Any]:
    kept = (provider or {}).get(_KEY)
    return dict(kept) if isinstance(kept, dict) else {}


def _standard(data: str) -> str:
    """Base64 of the alphabet of URLs, which pydantic writes, in the standard one, which everybody reads."""
    return data.replace("-", "+").replace("_", "/")


def _is_sent(part: Part) -> bool:
    if isinstance(part, UnknownPart):
        return part.type.startswith(_UNKNOWN)
    return isinstance(part, TextPart | ReasoningPart | ToolCallPart | FilePart)


def _request(history: list[ModelMessage]) -> list[ModelRequestPart]:
    """The parts of the request at the end of the history, which is begun where an answer stands there."""
    if not history or not isinstance(history[-1], ModelRequest):
        history.append(ModelRequest(parts=[]))
    parts = history[-1].parts
    assert isinstance(parts, list)  # noqa: S101 - it was made above; the class allows any sequence
    return parts


class _Ids:
    """Tool call ids that are used once in a history."""

    def __init__(self) -> None:
        self._used: Counter[str] = Counter()
        self._newest: dict[str, tuple[str, str]] = {}
        """The id as it was -> the id that is sent for its newest call, and the tool's name."""

    def call(self, part: ToolCallPart) -> str:
        """The id to send for a call."""
        given = part.tool_call_id
        self._used[given] += 1
        sent = given
        if (times := self._used[given]) > 1:
            # Short, and of letters and digits only: some providers allow no more than 40 characters of these.
            sent = f"call_{sha256(f'{times}:{given}'.encode()).hexdigest()[:24]}"
        self._newest[given] = sent, part.name
        return sent

    def answer(self, part: ToolResultPart) -> ToolReturnPart:
        """The answer to the newest call of its id."""
        sent, name = self._newest.get(part.tool_call_id, (part.tool_call_id, part.name or "tool"))
        text = part.result if isinstance(part.result, str) else canonical_json(part.result, "a tool's result")
        outcome: Any = "failed" if part.is_error else "success"
        return ToolReturnPart(tool_name=part.name or name, content=text, tool_call_id=sent, outcome=outcome)


def _response(message: Message, said: Sequence[Part], ids: _Ids) -> ModelResponse:
    parts = [_form(part, ids) for part in said]
    plain = {**_own(message.provider), "kind": "response", "parts": parts}
    try:
        (response,) = ModelMessagesTypeAdapter.validate_json(canonical_json([plain], "message"))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in fault["loc"])
        raise InvalidContent(
            f"provider[{_KEY!r}] of message {message.id[:40]!r} is not what pydantic-ai wrote "
            f"({place}: {fault['msg']}); leave it as it came"
        ) from error
    assert isinstance(response, ModelResponse)  # noqa: S101 - its kind was written above
    return response


def _form(part: Part, ids: _Ids) -> dict[str, Any]:
    """A part of a response as JSON values."""
    kept = _own(part.provider)
    match part:
        case TextPart():
            return {"part_kind": "text", "content": part.text, **kept}
        case ReasoningPart():
            signed = {"signature": part.signature} if part.signature is not None and kept.get("provider_name") else {}
            return {"part_kind": "thinking", "content": part.text, **signed, **kept}
        case ToolCallPart():
            named = {"tool_name": part.name, "tool_call_id": ids.call(part)}
            return {"part_kind": "tool-call", "args": part.arguments or None, **named, **kept}
        case FilePart():
            content = _content(part)
            if isinstance(content, BinaryContent):
                inner = {**kept.pop("content", {}), "kind": "binary", "media_type": content.media_type}
                data = base64.urlsafe_b64encode(content.data).decode()
                return {"part_kind": "file", "content": {**inner, "data": data}, **kept}
            return {"part_kind": "text", "content": f"[file {part.filename or part.url}]"}
    return kept


def _said(message: Message, said: Sequence[Part]) -> list[ModelRequestPart]:
    """What somebody else than the model said."""
    if message.role in _INSTRUCTIONS:
        text = "".join(part.text for part in said if isinstance(part, TextPart))
        return [SystemPromptPart(content=text)] if text else []
    content: list[UserContent] = []
    for part in said:
        if isinstance(part, TextPart):
            content.append(part.text)
        elif isinstance(part, FilePart):
            content.append(_content(part))
    match content:
        case []:
            return []
        case [str(text)]:
            return [UserPromptPart(content=text)]
    return [UserPromptPart(content=content)]


def _content(part: FilePart) -> UserContent:
    media_type = part.media_type
    vendor = _vendor_metadata(part)
    if part.data is not None:
        return _binary(part.data, media_type or "application/octet-stream", vendor)
    if part.url is None:
        return _uploaded(part)
    if part.url.startswith("data:"):
        head, _, data = part.url[5:].partition(",")
        named, _, encoding = head.rpartition(";")
        if encoding != "base64":
            raise InvalidContent("a file's data URL is not base64; write it as data:MEDIA/TYPE;base64,...")
        return _binary(data, media_type or named or "application/octet-stream", vendor)
    family = (media_type or "").partition("/")[0]
    # A type such as image/* says what the file is, and is none that a provider takes.
    exact = None if media_type is None or media_type.endswith("*") else media_type
    kinds: dict[str, type[ImageUrl | AudioUrl | VideoUrl]] = {"image": ImageUrl, "audio": AudioUrl, "video": VideoUrl}
    return kinds.get(family, DocumentUrl)(part.url, media_type=exact, vendor_metadata=vendor)


def _binary(data: str, media_type: str, vendor: dict[str, Any] | None) -> BinaryContent:
    try:
        read = base64.b64decode(_standard(data), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidContent(f"a file's data is not base64: {error}") from error
    return BinaryContent.narrow_type(BinaryContent(read, media_type=media_type, vendor_metadata=vendor))


def _uploaded(part: FilePart) -> UploadedFile:
    """A file that the provider holds."""
    match (part.provider or {}).get("openai"):
        case {"content": {"file": {"file_id": str(file_id)}}}:
            return UploadedFile(file_id, provider_name="openai", media_type=part.media_type)
    raise InvalidContent("a file part without url and data cannot be sent to a model; give it one of them")


def _vendor_metadata(part: FilePart) -> dict[str, Any] | None:
    match (part.provider or {}).get("openai"):
        case {"content": {"image_url": {"detail": str(detail)}}}:
            return {"detail": detail}
    return None
