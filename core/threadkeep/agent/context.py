"""What the model is shown: a request made of what was loaded of the thread and what the turn has said."""

from __future__ import annotations

from collections.abc import Sequence

from threadkeep.agent.options import MemoryOptions
from threadkeep.agent.turn import Turn
from threadkeep.messages.model import INTERRUPTED, Message
from threadkeep.messages.windows import pair_safe, settle, token_window, with_calls


def shown(turn: Turn, options: MemoryOptions) -> list[Message]:
    """The messages of the next call of the model in a turn: as many as the options say, and all that the turn has said.

    No result is shown without its call, and calls that no result answers are shown with one of error. The turn's own
    messages begin after the assistant spoke last, and are always shown. What is there of an answer that did not come to
    an end is not shown in its own turn, which will replace it.
    """
    said = [message for message in turn.said if INTERRUPTED not in message.metadata]
    if options.recall and options.loaded and options.tokens is not None:
        window = token_window(
            [*turn.context, *said],
            tokens=options.tokens,
            count_tokens=options.count_tokens,
            most=options.loaded,
            keep=turn.anchor.id,
        )
        place = next(index for index, message in enumerate(window) if message.id == turn.anchor.id)
        return [*settle(window[: place + 1]), *window[place + 1 :]]
    own = with_calls(turn.context, own_messages(turn.context))
    start = max(0, own - options.loaded)
    return [*settle(pair_safe(turn.context[start:])), *said]


def own_messages(context: Sequence[Message]) -> int:
    """Where, in what was loaded up to a turn's last message, the messages of the turn's request begin."""
    spoken = [index for index, message in enumerate(context[:-1]) if message.role in ("assistant", "tool")]
    return spoken[-1] + 1 if spoken else 0


def instructions_with(*parts: str | None) -> str | None:
    """Instructions of several parts, each a paragraph of its own; None where there is nothing to say."""
    return "\n\n".join(part for part in parts if part) or None
