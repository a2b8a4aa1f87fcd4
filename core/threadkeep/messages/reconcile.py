"""Full histories from clients: which of the messages sent are stored already, and which are new.

Clients that send the whole conversation with every request keep ids (`stable`), or make new ones each time (`fresh`).
By id where ids can be trusted, else by place in the sequence; never by content alone, since people say "yes" twice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from threadkeep.errors import Diverged, InvalidInput
from threadkeep.messages.model import INTERRUPTED, Message, Part, ReasoningPart, TextPart, ToolResultPart, UnknownPart
from threadkeep.port.canonical import canonical_json
from threadkeep.port.ids import new_id

Ids: TypeAlias = Literal["stable", "fresh"]

_INSTRUCTIONS = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Reconciled:
    """A client's history beside the stored one: `known` stands for its beginning, one to one, and `new` is the rest.

    Where client and store agree, `new` and `beyond` are empty and `grown` is None.
    """

    known: tuple[Message, ...]
    """Stored messages, for as many messages of the client's from its first on."""
    new: tuple[Message, ...]
    """The client's messages after these, as they came: to be appended."""
    beyond: tuple[Message, ...]
    """Stored messages after the known ones: the client repeats an older request. `new` is empty then."""
    grown: Message | None = None
    """The last of `known` with the parts that it has gained: its stored id and fields, the client's further parts.

    An update, to be written in place of the stored message and before `new`.
    """


def reconcile_histories(stored: Sequence[Message], incoming: Sequence[Message], ids: Ids) -> Reconciled:
    """What of a client's history is known and what is new. `stored` is the whole thread, in order.

    stable: messages are the same if their ids are. The client may have left out the beginning; what it sends of the
    stored messages must follow each other there. A known id that says something else (`same_content`) is an edit.

    fresh: ids are not looked at; the client's first message is the stored first, and so on. Clients that leave out
    anything but the instructions cannot be told from edits, and need stable ids.

    Either way, a client that sends no message of role system or developer first may have been spared the stored ones:
    they are passed over, and are neither in `known` nor in `beyond`.

    Of an answer that was interrupted (`metadata["interrupted"]`) a client may have got less than was stored, or more.

    The last stored message may come back grown if it is an assistant's: see `Reconciled.grown`.

    Raises Diverged with the index, in `incoming`, of the first message that is not the stored one (edited,
    regenerated, out of order), and InvalidInput for ids that are neither stable nor fresh, and for stable ids of which
    one comes twice. InvalidContent for values that are not JSON.
    """
    if ids not in ("stable", "fresh"):
        raise InvalidInput(f"ids are 'stable' (kept by the client) or 'fresh' (new each time), not {ids!r}")
    places = {message.id: place for place, message in enumerate(stored)} if ids == "stable" else {}
    if ids == "stable":
        _check_distinct(incoming)
    start = _start(stored, incoming, places)
    count = min(len(incoming), len(stored) - start)
    grown = None
    for index in range(count):
        ours, theirs = stored[start + index], incoming[index]
        if ids == "stable" and ours.id != theirs.id:
            raise Diverged(index, _other_id(ours, theirs, places))
        difference = _difference(ours, theirs)
        if difference is None or _other_part(ours, theirs):
            continue
        grown = _grown(ours, theirs) if start + index == len(stored) - 1 else None
        if grown is None:
            raise Diverged(index, difference)
    for index in range(count, len(incoming)):
        if incoming[index].id in places:
            raise Diverged(
                index, f"message {incoming[index].id!r} is stored before this place; the order is another one"
            )
    return Reconciled(
        tuple(stored[start : start + count]), tuple(incoming[count:]), tuple(stored[start + count :]), grown
    )


def stored_beside(stored: Sequence[Message], incoming: Sequence[Message], ids: Ids, index: int) -> Message | None:
    """The stored message that the client's at `index` stands beside; None where the stored ones have ended before."""
    places = {message.id: place for place, message in enumerate(stored)} if ids == "stable" else {}
    place = _start(stored, incoming, places) + index
    return stored[place] if place < len(stored) else None


def unused_ids(new: Sequence[Message], stored: Sequence[Message]) -> list[Message]:
    """Messages of a client whose ids mean nothing: one that is taken already is replaced."""
    taken = {message.id for message in stored}
    renamed = []
    for message in new:
        renamed.append(message.model_copy(update={"id": new_id()}) if message.id in taken else message)
        taken.add(message.id)
    return renamed


def same_content(a: Message, b: Message) -> bool:
    """Whether two messages say the same, whatever a client loses on the way.

    Role and parts count, in order. Ids, times, metadata, position and provider data do not; nor do these, which
    clients are known to drop or to write in another way:

    - a name that only one of the two has;
    - reasoning, text parts that are empty (null and "" beside tool calls), fields that are null;
    - of tool calls, whether the arguments are an object or its JSON text; in objects, the order of keys;
    - of tool results, the tool's name and `is_error`, and whether the result is a JSON value or its text;
    - whether a whole number is written 1 or 1.0. True is not 1.
    """
    return _difference(a, b) is None


class _Said(NamedTuple):
    place: int
    part: Part


def _said(message: Message) -> list[_Said]:
    """The parts that count, with their indexes."""
    return [
        _Said(place, part)
        for place, part in enumerate(message.parts)
        if not isinstance(part, ReasoningPart) and not (isinstance(part, TextPart) and not part.text)
    ]


def _same_parts(ours: Sequence[_Said], theirs: Sequence[_Said]) -> bool:
    return len(ours) == len(theirs) and all(
        _same_part(mine.part, other.part) for mine, other in zip(ours, theirs, strict=True)
    )


def _same_part(one: Part, other: Part) -> bool:
    mine, theirs = _plain(one), _plain(other)
    if all(isinstance(value, str) for value in mine.values()) and mine == theirs:
        return True
    return _text(mine) == _text(theirs)


def _plain(part: Part) -> dict[str, Any]:
    """The fields that count and say something."""
    plain = {name: value for name, value in part if value is not None and name != "provider"}
    if isinstance(part, ToolResultPart):
        plain.pop("name", None)
        del plain["is_error"]
    elif isinstance(part, UnknownPart) and part.provider is not None and "openai" in part.provider:
        plain["openai"] = part.provider["openai"]
    return plain


_READ = {"tool_call": "arguments", "tool_result": "result"}


def _text(plain: dict[str, Any]) -> str:
    """What a part's fields say, as text to compare."""
    field = _READ.get(plain["type"], "")
    read = {field: _read(plain.get(field))} if field else {}
    try:
        return json.dumps(_canonical(plain | read), sort_keys=True)
    except RecursionError:
        # Text may mean JSON that is nested deeper than Python can walk; it is compared as the text that it is.
        return canonical_json(plain, "part")
    except (TypeError, ValueError):
        canonical_json(plain, "part")
        raise


def _read(value: Any) -> Any:
    """The JSON value that a text means, or the text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _canonical(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _canonical(item) for key, item in value.items()}
        case list():
            return [_canonical(item) for item in value]
    return value


def _start(stored: Sequence[Message], incoming: Sequence[Message], places: dict[str, int]) -> int:
    """The place of the stored message that the client's first must be."""
    if not incoming:
        return 0
    if incoming[0].id in places:
        return places[incoming[0].id]
    if incoming[0].role in _INSTRUCTIONS:
        return 0
    return next((place for place, message in enumerate(stored) if message.role not in _INSTRUCTIONS), len(stored))


def _grown(ours: Message, theirs: Message) -> Message | None:
    if ours.role != "assistant" or theirs.role != "assistant" or _other_name(ours, theirs):
        return None
    before, after = _said(ours), _said(theirs)
    if len(before) >= len(after) or not _same_parts(before, after[: len(before)]):
        return None
    first = after[len(before) - 1].place + 1 if before else 0
    gained = [part for part in theirs.parts[first:] if not (isinstance(part, ReasoningPart) and part in ours.parts)]
    return ours.model_copy(update={"parts": [*ours.parts, *gained]})


def _other_part(ours: Message, theirs: Message) -> bool:
    """Whether the stored message is an answer that was interrupted, and the client has another part of the same."""
    if INTERRUPTED not in ours.metadata or theirs.role != ours.role or _other_name(ours, theirs):
        return False
    plain = all(isinstance(said.part, TextPart) for said in (*_said(ours), *_said(theirs)))
    return plain and (ours.text.startswith(theirs.text) or theirs.text.startswith(ours.text))


def _check_distinct(incoming: Sequence[Message]) -> None:
    seen: dict[str, int] = {}
    for index, message in enumerate(incoming):
        if seen.setdefault(message.id, index) != index:
            raise InvalidInput(
                f"the history has the message id {message.id!r} at {seen[message.id]} and at {index}; "
                "give each message an id of its own, or use ids='fresh'"
            )


def _other_id(ours: Message, theirs: Message, places: dict[str, int]) -> str:
    if theirs.id in places:
        return f"message {theirs.id!r} is stored elsewhere, and {ours.id!r} is stored here"
    return f"message {theirs.id!r} is not stored, and {ours.id!r} is stored here"


def _difference(ours: Message, theirs: Message) -> str | None:
    if ours.role != theirs.role:
        return f"its role is {theirs.role!r}, that of the stored message {ours.id!r} is {ours.role!r}"
    if _other_name(ours, theirs):
        return f"its name is {theirs.name!r}, that of the stored message {ours.id!r} is {ours.name!r}"
    if not _same_parts(_said(ours), _said(theirs)):
        return f"it does not say what the stored message {ours.id!r} says"
    return None


def _other_name(ours: Message, theirs: Message) -> bool:
    return ours.name is not None and theirs.name is not None and ours.name != theirs.name
