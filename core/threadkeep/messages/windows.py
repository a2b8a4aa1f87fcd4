"""Windows of a thread that a model can be called with: no result without its call, and no more tokens than allowed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final

from threadkeep.errors import InvalidInput
from threadkeep.messages.model import FilePart, Message, Part, TextPart, ToolCallPart, ToolResultPart
from threadkeep.port.canonical import sorted_json

NO_RESULT: Final = "The call was interrupted, and no result of it is known."
"""What a model is told in place of a result that is missing."""


BYTES_PER_TOKEN: Final = 3
"""Bytes of UTF-8 that are counted as one token. Tokenizers take about 4 of English text and about 3 of JSON, code and
most other languages; the smaller number errs on the side of a window that is too small."""
MESSAGE_TOKENS: Final = 4
"""What a message takes beyond its contents: its role and the marks around it."""
FILE_TOKENS: Final = 1600
"""What a file is counted as, whatever its size: about the most that providers charge for one image."""

_GOLDEN: Final = 0x9E3779B97F4A7C15
"""2**64 divided by the golden ratio. Its multiples, modulo 2**64, spread evenly (Knuth, TAOCP 3, 6.4)."""


def pair_safe(messages: Sequence[Message]) -> list[Message]:
    """A window without the messages that hold a tool result whose call lies before the window.

    A result answers the nearest call of its id before it, in an earlier message or earlier in its own: ids repeat in
    real conversations, so a later call of the same id is not the one that was answered. Where a message is left out,
    so is every other whose call or result it holds, that neither stands alone. Everything else stays, in order;
    calls without a result are pending and stay, and a second result of one call stays too.

    For windows that go to a model. Pages of a whole thread lose messages by it: join the pages first.
    """
    caller: dict[str, int] = {}
    pairs: list[tuple[int, int]] = []
    dropped: set[int] = set()
    for index, message in enumerate(messages):
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                caller[part.tool_call_id] = index
            elif isinstance(part, ToolResultPart):
                if part.tool_call_id in caller:
                    pairs.append((caller[part.tool_call_id], index))
                else:
                    dropped.add(index)
    size = -1
    while size != len(dropped):
        size = len(dropped)
        for pair in pairs:
            if not dropped.isdisjoint(pair):
                dropped.update(pair)
    return [message for index, message in enumerate(messages) if index not in dropped]


def with_calls(messages: Sequence[Message], start: int) -> int:
    """The latest place up to `start` from which on no result is without its call, as far as the call is there."""
    caller: dict[str, int] = {}
    needed: list[tuple[int, int]] = []
    for index, message in enumerate(messages):
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                caller[part.tool_call_id] = index
            elif isinstance(part, ToolResultPart) and part.tool_call_id in caller:
                needed.append((caller[part.tool_call_id], index))
    # From the last result on, so that what a call brings along is seen, too.
    for call, result in sorted(needed, key=lambda pair: pair[1], reverse=True):
        if result >= start > call:
            start = call
    return start


def pending_calls(messages: Sequence[Message]) -> list[ToolCallPart]:
    """The tool calls of the last turn that no result answers yet, in order.

    The last turn is what follows the newest message of role user, or everything where there is none. A result answers
    one call: the first unanswered one of its id in the newest message that has one. An id called again after it was
    answered is pending again.
    """
    start = max((index for index, message in enumerate(messages) if message.role == "user"), default=-1) + 1
    return [call for _, call in unanswered(messages[start:])]


def together(messages: Sequence[Message]) -> list[Message]:
    """The messages, with each that holds nothing but results directly after the one that called.

    Where runs interleave, other messages may stand between the two, and providers refuse that. Results of several
    messages' calls in one stay where they are.
    """
    caller: dict[str, int] = {}
    moved: dict[int, list[Message]] = {}
    places: list[int] = []
    for index, message in enumerate(messages):
        caller.update({call.tool_call_id: index for call in message.tool_calls})
        callers = {caller.get(result.tool_call_id) for result in message.tool_results}
        place = callers.pop() if len(callers) == 1 else None
        if place is None or len(message.tool_results) < len(message.parts):
            places.append(index)
        else:
            moved.setdefault(place, []).append(message)
    return [message for index in places for message in (messages[index], *moved.get(index, ()))]


def settle(messages: Sequence[Message]) -> list[Message]:
    """The messages, with a result of error for each call that has none, after the results of its message.

    A run that ended between a call and its result leaves such a call behind when the user goes on, and providers
    refuse a call without a result, or with one that does not follow it (see `together`). For what goes to a model:
    the results made up here are not stored.
    """
    messages = together(messages)
    waiting: dict[int, list[ToolCallPart]] = {}
    for index, call in unanswered(messages):
        while index + 1 < len(messages) and messages[index + 1].role == "tool":
            index += 1
        waiting.setdefault(index, []).append(call)
    settled: list[Message] = []
    for index, message in enumerate(messages):
        settled.append(message)
        for call in waiting.get(index, ()):
            part = ToolResultPart(tool_call_id=call.tool_call_id, name=call.name, result=NO_RESULT, is_error=True)
            settled.append(Message(role="tool", parts=[part]))
    return settled


def unanswered(messages: Sequence[Message]) -> list[tuple[int, ToolCallPart]]:
    """The calls that no result answers, in order, with the index of their message."""
    waiting: list[tuple[int, ToolCallPart]] = []
    for index, message in enumerate(messages):
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                waiting.append((index, part))
            elif isinstance(part, ToolResultPart):
                same = [entry for entry in waiting if entry[1].tool_call_id == part.tool_call_id]
                if same:
                    newest = max(place for place, _ in same)
                    answered = next(entry for entry in same if entry[0] == newest)
                    waiting = [entry for entry in waiting if entry is not answered]
    return waiting


def estimate_tokens(message: Message) -> int:
    """About how many tokens a message takes, without a tokenizer: a third of its bytes, rounded up, and 4.

    Text counts as it is and every other part as its JSON text; a file counts as 1,600. A model's own tokenizer is
    more exact: give a function that uses it as `count_tokens`.
    """
    return MESSAGE_TOKENS + sum(map(_part_tokens, message.parts))


def _part_tokens(part: Part) -> int:
    if isinstance(part, FilePart):
        return FILE_TOKENS
    text = part.text if isinstance(part, TextPart) else sorted_json(part.model_dump(exclude_none=True))
    return -(-len(text.encode(errors="replace")) // BYTES_PER_TOKEN)


def token_window(
    messages: Sequence[Message],
    *,
    tokens: int,
    count_tokens: Callable[[Message], int] = estimate_tokens,
    most: int | None = None,
    keep: str | None = None,
) -> list[Message]:
    """The newest messages of a thread that fit into `tokens` (and are at most `most`), cut in chunks.

    Where all fit, all are there. Else the window does not slide by a message with each turn, which would make every
    prompt unlike the one before and its cache worthless: it begins at a message of a user from which on the messages
    fill between half of the budget and the whole. Of these the beginning is the one whose position, multiplied by the
    golden ratio, has the smallest fraction. That message stays the same while others are appended, until the
    budget is full or one further on has a smaller fraction; then the window skips ahead, by about a third of the
    budget on average. It never goes back. The rule needs nothing but the messages, so that every process cuts alike.

    Where no message of a user lies there, any message serves; `keep` is the id of a message that is never cut off, nor
    are those after it, however large they are. Results whose calls are cut off are left out (`pair_safe`).
    Raises InvalidInput where `count_tokens` gives anything but a number from 0 up.
    """
    newest_first = list(accumulate(_checked_count(count_tokens(message)) for message in reversed(messages)))
    filled = [
        max(used / tokens, 0.0 if most is None else count / most) for count, used in enumerate(newest_first, start=1)
    ][::-1]
    if not messages or filled[0] <= 1:
        return pair_safe(messages)
    place = next((index for index, message in enumerate(messages) if message.id == keep), len(messages) - 1)
    last = with_calls(messages, place)
    fitting = [index for index in range(last + 1) if filled[index] <= 1] or [last]
    chunk = [index for index in fitting if filled[index] >= 0.5] or fitting[:1]
    begins = [index for index in chunk if messages[index].role == "user"] or chunk
    return pair_safe(messages[min(begins, key=lambda index: _spread(messages, index)) :])


def _checked_count(count: object) -> float:
    if not isinstance(count, int | float) or isinstance(count, bool) or not 0 <= count < float("inf"):
        raise InvalidInput(f"count_tokens gives a number of tokens from 0 up, not {count!r}")
    return count


def _spread(messages: Sequence[Message], index: int) -> int:
    """The fraction, as a number of 64 bits, that a message's position gets."""
    position = messages[index].position
    if position is None:
        # A message that is not stored yet will get the position after the last one that is.
        known = next((place for place in range(index, -1, -1) if messages[place].position is not None), None)
        position = index + 1 if known is None else (messages[known].position or 0) + index - known
    return position * _GOLDEN % 2**64
