"""Messages and their parts, and the two functions that turn them into records and back.

A message holds parts; a part is of a known kind or of any other, which is kept as it came. Every field that is not
known here is kept too, in messages and in parts (`extra="allow"`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC
from functools import cache
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    ValidationError,
    field_validator,
)

from threadkeep.errors import InvalidContent
from threadkeep.port.canonical import sorted_json
from threadkeep.port.ids import new_id

INTERRUPTED: Final = "interrupted"
"""The key, in an assistant message's metadata, of "cancelled" or "failed": it is what was said of an answer before its
run was cancelled or failed."""


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


_KNOWN: Final = frozenset({"text", "reasoning", "tool_call", "tool_result", "file", "source", "data"})


class UnknownPart(PartBase):
    """A part of a kind that this version does not know, kept as it came."""

    type: str

    @field_validator("type")
    @classmethod
    def _is_unknown(cls, kind: str) -> str:
        if kind in _KNOWN:
            raise ValueError(f"a part of kind {kind!r} has fields of its own, and is no UnknownPart")
        return kind


# The kind is read from a field, and not by a function, since pydantic then need not make Python values of it first.
_KnownPart: TypeAlias = Annotated[
    TextPart | ReasoningPart | ToolCallPart | ToolResultPart | FilePart | SourcePart | DataPart, Discriminator("type")
]
Part: TypeAlias = Annotated[_KnownPart | UnknownPart, Field(union_mode="left_to_right")]


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
        mine, theirs = plain_message(self), plain_message(other)
        return mine == theirs and _same_json(mine, theirs)


@cache
def _fields(kind: type[BaseModel]) -> tuple[str, ...]:
    """A model's fields in the order in which they are stored: sorted, so that most digests need no second text."""
    return tuple(sorted(kind.model_fields))


def _plain(model: BaseModel) -> dict[str, Any]:
    value_of = model.__dict__.get
    plain = {name: value for name in _fields(type(model)) if (value := value_of(name)) is not None}
    if model.__pydantic_extra__:
        plain.update(model.__pydantic_extra__)
    return plain


def plain_message(message: Message) -> dict[str, Any]:
    """A message as JSON values, without what the store adds and without fields that say nothing."""
    plain = _plain(message)
    plain["parts"] = [_plain(part) for part in message.parts]
    plain.pop("position", None)
    plain.pop("stored_at", None)
    if not message.metadata:
        plain.pop("metadata", None)
    if message.created_at is not None:
        plain["created_at"] = message.created_at.astimezone(UTC).isoformat(timespec="microseconds")
    return plain


def _same_json(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether values that Python takes for equal have one digest: not so 1, 1.0 and True."""
    try:
        return sorted_json(one) == sorted_json(other)
    except (TypeError, ValueError, RecursionError):
        return True


def first_fault(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False)
    # A part of an unknown kind has, first of all, the fault that its kind is none of the known ones.
    first = next((fault for fault in faults if fault["type"] != "union_tag_invalid"), faults[0])
    steps = [str(step) for step in first["loc"] if not str(step).startswith("tagged-union[")]
    return f"{'.'.join(steps) or 'message'}: {first['msg']}"


def parse_message(value: object) -> Message:
    """A message from JSON values (a dict), or InvalidContent naming the field."""
    try:
        return Message.model_validate(value)
    except ValidationError as error:
        raise InvalidContent(first_fault(error)) from error


def as_messages(given: Iterable[Message | str]) -> list[Message]:
    """Messages as given, strings as messages of the user. Raises InvalidContent for anything else."""
    if isinstance(given, (str, bytes, Mapping, BaseModel)) or not isinstance(given, Iterable):
        raise InvalidContent(f"give a list of messages, not one {type(given).__name__}")
    return [_as_message(item) for item in given]


def _as_message(item: object) -> Message:
    if isinstance(item, Message):
        return item
    if not isinstance(item, str):
        raise InvalidContent(
            f"a message must be a Message or a string, not {type(item).__name__}; parse_message reads JSON values"
        )
    return parse_message({"role": "user", "parts": [{"type": "text", "text": item}]})
