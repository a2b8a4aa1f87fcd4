"""Messages and their parts, and the two functions that turn them into records and back.

A message holds parts; a part is of a known kind or of any other, which is kept as it came. Every field that is not
known here is kept too, in messages and in parts (`extra="allow"`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
)

from threadkeep.errors import InvalidContent, StoreDamaged
from threadkeep.limits import Limits, canonical_json, check_id, check_size, sorted_json
from threadkeep.store import Record, Stored

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


def new_id() -> str:
    """A fresh id: 32 hexadecimal digits, random (UUID 4)."""
    return uuid.uuid4().hex


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC."""
    return (moment - EPOCH) // MICROSECOND


def from_micros(micros: int) -> datetime:
    """The instant, in UTC, of a number of microseconds since 1970 UTC."""
    return EPOCH + micros * MICROSECOND


class _Kept(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class PartBase(_Kept):
    """What every part has."""

    provider: dict[str, Any] | None = None
    """What the model's provider sent along, verbatim."""


class TextPart(PartBase):
    """Text."""

    type: Literal["text"] = "text"
    text: str


class ReasoningPart(PartBase):
    """What a model thought; some providers sign it and want the signature back."""

    type: Literal["reasoning"] = "reasoning"
    text: str = ""
    signature: str | None = None


class ToolCallPart(PartBase):
    """A model's call of a tool. `arguments` is the JSON text as the model wrote it, or the object that it means."""

    type: Literal["tool_call"] = "tool_call"
    tool_call_id: str
    name: str
    arguments: str | dict[str, Any]


class ToolResultPart(PartBase):
    """A tool's answer to the call of the same `tool_call_id`, in any message. `result` is any JSON value."""

    type: Literal["tool_result"] = "tool_result"
    tool_call_id: str
    name: str | None = None
    result: Any = None
    is_error: bool = False


class FilePart(PartBase):
    """A file: by `url`, or as base64 text in `data`."""

    type: Literal["file"] = "file"
    media_type: str | None = None
    url: str | None = None
    data: str | None = None
    filename: str | None = None


class SourcePart(PartBase):
    """Something that an answer rests on."""

    type: Literal["source"] = "source"
    source_id: str | None = None
    url: str | None = None
    title: str | None = None


class DataPart(PartBase):
    """Structured data of the application's own; any JSON value."""

    type: Literal["data"] = "data"
    name: str | None = None
    data: Any = None


class UnknownPart(PartBase):
    """A part of a kind that this version does not know, kept as it came."""

    type: str


_KNOWN: Final = frozenset({"text", "reasoning", "tool_call", "tool_result", "file", "source", "data"})


def _kind(part: object) -> str:
    kind = part.get("type") if isinstance(part, dict) else getattr(part, "type", None)
    return kind if isinstance(kind, str) and kind in _KNOWN else "unknown"


Part: TypeAlias = Annotated[
    Annotated[TextPart, Tag("text")]
    | Annotated[ReasoningPart, Tag("reasoning")]
    | Annotated[ToolCallPart, Tag("tool_call")]
    | Annotated[ToolResultPart, Tag("tool_result")]
    | Annotated[FilePart, Tag("file")]
    | Annotated[SourcePart, Tag("source")]
    | Annotated[DataPart, Tag("data")]
    | Annotated[UnknownPart, Tag("unknown")],
    Discriminator(_kind),
]


class Message(_Kept):
    """One message of a thread. Messages never change: the same id with another body is a conflict.

    `id` is unique in its thread and made up where none is given. `role` is an open set: system, user, assistant, tool
    and whatever else comes. `created_at` is the caller's and stays None where none is given, so that the same
    message built a second time is equal to the first.

    `position` and `stored_at` are the store's: they are set on messages that were read, ignored on append, and play
    no part in equality.
    """

    id: str = Field(default_factory=new_id)
    role: str
    parts: list[Part] = Field(default_factory=list)
    name: str | None = None
    """Who of the role speaks, such as the name of an agent."""
    created_at: AwareDatetime | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    provider: dict[str, Any] | None = None
    """What the model's provider sent along, verbatim."""
    position: int | None = None
    stored_at: AwareDatetime | None = None

    @classmethod
    def user(cls, text: str, **fields: Any) -> Self:
        """A user's message of one text part; `fields` are the message's other fields."""
        return cls(role="user", parts=[TextPart(text=text)], **fields)

    @classmethod
    def assistant(cls, text: str, **fields: Any) -> Self:
        """An assistant's message of one text part; `fields` are the message's other fields."""
        return cls(role="assistant", parts=[TextPart(text=text)], **fields)

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def tool_calls(self) -> list[ToolCallPart]:
        """The tool calls, in order."""
        return [part for part in self.parts if isinstance(part, ToolCallPart)]

    @property
    def tool_results(self) -> list[ToolResultPart]:
        """The tool results, in order."""
        return [part for part in self.parts if isinstance(part, ToolResultPart)]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return _plain_message(self) == _plain_message(other)


def _plain(model: BaseModel) -> dict[str, Any]:
    plain = {name: value for name, value in model.__dict__.items() if value is not None}
    if model.__pydantic_extra__:
        plain.update(model.__pydantic_extra__)
    return plain


def _plain_message(message: Message) -> dict[str, Any]:
    """A message as JSON values, without what the store adds and without fields that say nothing."""
    plain = _plain(message)
    plain["parts"] = [_plain(part) for part in message.parts]
    plain.pop("position", None)
    plain.pop("stored_at", None)
    if not message.metadata:
        del plain["metadata"]
    if message.created_at is not None:
        plain["created_at"] = message.created_at.astimezone(UTC).isoformat(timespec="microseconds")
    return plain


def parse_message(value: object) -> Message:
    """A message from JSON values (a dict), or InvalidContent naming the field."""
    try:
        return Message.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "message"
        raise InvalidContent(f"{place}: {first['msg']}") from error


def encode(message: Message, limits: Limits) -> Record:
    """The record of a message: JSON text that reads back equal, and a digest that is equal for equal messages.

    Raises InvalidId, InvalidContent or LimitExceeded. The digest is SHA-256 over the JSON text with sorted keys: the
    order of keys is kept, and tells nothing apart.
    """
    check_id("message id", message.id, limits)
    plain = _plain_message(message)
    body = canonical_json(plain, "message")
    check_size("message_bytes", body, limits, f"message {message.id[:40]!r}")
    return Record(message.id, sha256(sorted_json(plain).encode()).hexdigest(), body)


_many: Final = TypeAdapter(list[Message])


def decode(stored: Sequence[Stored]) -> list[Message]:
    """The messages of stored records, with `position` and `stored_at`. One pass over one JSON text, for speed."""
    if not stored:
        return []
    text = ",".join(
        f'{{"position":{entry.position},"stored_at":"{from_micros(entry.at).isoformat()}",{entry.body[1:]}'
        for entry in stored
    )
    try:
        return _many.validate_json(f"[{text}]")
    except ValidationError as error:
        raise StoreDamaged(f"a stored message cannot be read: {error.errors(include_url=False)[0]['msg']}") from error


def dump(message: Message) -> dict[str, Any]:
    """A message as JSON values, with its position and `stored_at` where it has them; `parse_message` reads it."""
    plain = _plain_message(message)
    if message.position is not None:
        plain["position"] = message.position
    if message.stored_at is not None:
        plain["stored_at"] = message.stored_at.astimezone(UTC).isoformat(timespec="microseconds")
    return plain


def as_messages(given: Iterable[Message | str]) -> list[Message]:
    """Messages as given, strings as messages of the user."""
    return [Message.user(item) if isinstance(item, str) else item for item in given]
