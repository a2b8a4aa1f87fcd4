"""Messages to the records that a store keeps, and back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, timedelta
from hashlib import sha256
from typing import Any, Final

from pydantic import (
    ValidationError,
)

from threadkeep.errors import InvalidContent, StoreDamaged
from threadkeep.messages.model import Message, TextPart, first_fault, plain_message
from threadkeep.port.canonical import canonical_forms
from threadkeep.port.ids import check_id
from threadkeep.port.limits import Limits, check_size
from threadkeep.port.store import Record, Stored
from threadkeep.port.times import EPOCH


def _checked(message: Message) -> dict[str, Any]:
    """A message as JSON values that can be read again, or InvalidContent: pydantic's model_copy checks nothing."""
    try:
        if message.created_at is not None and message.created_at.tzinfo is None:
            raise InvalidContent(f"created_at: {message.created_at} has no time zone; give it one, such as UTC")
        plain = plain_message(message)
        Message.__pydantic_validator__.validate_python(plain)
    except ValidationError as error:
        raise InvalidContent(first_fault(error)) from error
    except OverflowError as error:
        raise InvalidContent(f"created_at: {message.created_at} is not within the years 1 to 9999 of UTC") from error
    except (AttributeError, TypeError) as error:
        raise InvalidContent(
            f"message {message.id[:40]!r} has a field of a wrong type ({error}); "
            "model_copy and model_construct do not check, Message(...) and parse_message do"
        ) from error
    return plain


def _simple_message(message: Message) -> dict[str, Any] | None:
    """What `_checked` gives for a message of texts only, which most are, told by types alone; None for any other."""
    fields = message.__dict__.get
    message_id, role, name, parts = fields("id"), fields("role"), fields("name"), fields("parts")
    if not (
        type(message) is Message
        and type(message_id) is str
        and type(role) is str
        and type(parts) is list
        and fields("metadata") == {}
        and fields("created_at") is None
        and fields("provider") is None
        and not message.__pydantic_extra__
    ):
        return None
    texts = [_simple_part(part) for part in parts]
    if None in texts:
        return None
    if name is None:
        return {"id": message_id, "parts": texts, "role": role}
    return {"id": message_id, "name": name, "parts": texts, "role": role} if type(name) is str else None


def _simple_part(part: object) -> dict[str, str] | None:
    if type(part) is not TextPart or part.__pydantic_extra__:
        return None
    fields = part.__dict__.get
    text = fields("text")
    if type(text) is not str or fields("type") != "text" or fields("provider") is not None:
        return None
    return {"text": text, "type": "text"}


def encode(message: Message, limits: Limits) -> Record:
    """The record of a message: JSON text that reads back equal, and a digest that is equal for equal messages.

    Raises InvalidId, InvalidContent or LimitExceeded. The digest is SHA-256 over the JSON text with sorted keys: the
    order of keys is kept, and tells nothing apart.
    """
    check_id("message id", message.id, limits)
    simple = _simple_message(message)
    plain = _checked(message) if simple is None else simple
    body, in_order = canonical_forms(plain, "message", simple=simple is not None)
    check_size("message_bytes", body, limits, "message", message.id)
    return Record(message.id, sha256(in_order).hexdigest(), body)


_PLACED: Final = ("position", "stored_at")


def decode(stored: Sequence[Stored]) -> list[Message]:
    """The messages of stored records, with `position` and `stored_at`.

    Raises StoreDamaged where a body is not that of a message.
    """
    validate = Message.__pydantic_validator__.validate_json
    messages: list[Message] = []
    last, moment = -1, EPOCH
    try:
        for position, at, _, _, body in stored:
            message: Message = validate(body)
            if at != last:
                # The messages of one commit have one time.
                last, moment = at, EPOCH + timedelta(0, 0, at)
            # Messages are frozen for everyone else; these are not yet given to anyone.
            fields = message.__dict__
            fields["position"] = position
            fields["stored_at"] = moment
            message.__pydantic_fields_set__.update(_PLACED)
            messages.append(message)
    except ValidationError as error:
        raise StoreDamaged(f"a stored message cannot be read: {error.errors(include_url=False)[0]['msg']}") from error
    return messages


def dump(message: Message) -> dict[str, Any]:
    """A message as JSON values, with its position and `stored_at` where it has them; `parse_message` reads it."""
    plain = plain_message(message)
    if message.position is not None:
        plain["position"] = message.position
    if message.stored_at is not None:
        plain["stored_at"] = message.stored_at.astimezone(UTC).isoformat(timespec="microseconds")
    return plain


def batches(stored: Sequence[Stored | Record], count: int, size: int) -> list[tuple[Record, ...]]:
    """Records in commits of at most `count` records and about `size` bytes; at least one commit."""
    filled: list[list[Record]] = [[]]
    bytes_filled = 0
    for entry in stored:
        weight = len(entry.body.encode())
        if filled[-1] and (len(filled[-1]) == count or bytes_filled + weight > size):
            filled.append([])
            bytes_filled = 0
        filled[-1].append(Record(entry.id, entry.digest, entry.body))
        bytes_filled += weight
    return [tuple(batch) for batch in filled]
