"""The conversation of a client, as an agent takes it: messages, OpenAI's chat messages, or the AI SDK's UI messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from pydantic import BaseModel

from threadkeep.errors import InvalidContent, InvalidInput
from threadkeep.formats.ai_sdk import messages_from_ui
from threadkeep.formats.openai import messages_from_openai
from threadkeep.messages.model import Message, as_messages
from threadkeep.messages.reconcile import Ids

Conversation: TypeAlias = Sequence[Message] | Sequence[Mapping[str, Any]]
"""Messages, or JSON objects of one of the formats of `threadkeep.formats`: those with `parts` are UI messages, others
OpenAI's chat messages."""

_UI_MESSAGE: Final = "a UI message"
_CHAT_MESSAGE: Final = "a chat message of OpenAI's"


def read_conversation(conversation: Conversation, ids: Ids) -> list[Message]:
    """The messages of a conversation.

    Answers to approvals that UI messages hold are left there: a client can say anything, and whether its word is enough
    is the application's to decide. Raises InvalidContent for what cannot be read, and InvalidInput where messages have
    no ids and `ids` says that they keep them.
    """
    given: Any = conversation
    if isinstance(given, str | bytes | Mapping | BaseModel) or not isinstance(given, Iterable):
        raise InvalidContent(f"give a list of messages, not one {type(given).__name__}")
    items: list[Any] = list(given)
    kinds = [_kind(item) for item in items]
    for index, kind in enumerate(kinds):
        if kind != kinds[0]:
            raise InvalidContent(
                f"message {index} is {kind}, message 0 {kinds[0]}; give a conversation in one format, "
                "or convert it by threadkeep.formats"
            )
    if _UI_MESSAGE in kinds:
        return messages_from_ui(items)
    if _CHAT_MESSAGE in kinds:
        messages = messages_from_openai(items)
        for index, (chat, message) in enumerate(zip(items, messages, strict=True)):
            if ids == "stable" and chat.get("id") != message.id:
                raise InvalidInput(
                    f"ids='stable' means that every message keeps its id, and message {index} has none; "
                    "give each an 'id', or say ids='fresh'"
                )
        return messages
    return as_messages(items)


def _kind(item: object) -> str:
    """What an item of a conversation is, in words."""
    if isinstance(item, Mapping):
        return _UI_MESSAGE if "parts" in item else _CHAT_MESSAGE
    # Text stands for a message of the user.
    return "a Message" if isinstance(item, Message | str) else f"a {type(item).__name__}"
