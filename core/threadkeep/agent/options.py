"""What an agent recalls of a thread and what it may remember, for an agent and for a single call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, RootModel
from pydantic.errors import PydanticUserError

from threadkeep.errors import InvalidInput
from threadkeep.handles.working_memory import MemoryScope
from threadkeep.messages.model import Message
from threadkeep.messages.windows import estimate_tokens
from threadkeep.port.checks import MAX_COUNT, is_int
from threadkeep.port.limits import KIB

LAST: Final = 40
"""Messages that a model is shown where neither `last` nor `tokens` is given."""
LAST_WITH_TOKENS: Final = 400
"""Messages that are loaded where `tokens` is given and `last` is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryOptions:
    """What the model is shown of the past, and what it may note for later. Raises InvalidInput.

    An agent has its options; a call that is given others uses those instead of them, as a whole:
    `dataclasses.replace(agent.options, recall=False)` changes one of them.
    """

    last: int | None = None
    """At most so many of the newest messages before the turn's own. None: 40, or 400 with `tokens`."""
    tokens: int | None = None
    """At most so many tokens of messages, cut in chunks, so that most prompts begin as the one before did: see
    `threadkeep.messages.windows.token_window`. Instructions, working memory and tools come on top."""
    count_tokens: Callable[[Message], int] = estimate_tokens
    """How many tokens a message takes. The default counts bytes; see `threadkeep.messages.windows.estimate_tokens`."""
    working_memory: MemoryScope | None = None
    """Whose working memory is in the prompt, with a tool that changes it: "thread" or "resource". None: off."""
    template: str | None = None
    """The form of a working memory that is Markdown text: the model is asked to keep to it, and replaces the text."""
    schema: type[BaseModel] | None = None
    """The pydantic model of a working memory that is a JSON object: the model patches it, and every value is validated.

    With neither template nor schema the working memory is Markdown text of any form."""
    working_memory_bytes: int = 16 * KIB
    """The largest working memory, as JSON text, that the model may write: all of it is in every prompt."""
    read_only: bool = False
    """Nothing is written: not the turn's messages, nor working memory, nor a title."""
    recall: bool = True
    """False: the model is shown the turn's own messages and nothing from before, no working memory either.

    The turn is stored all the same."""

    def __post_init__(self) -> None:
        for name, least in (("last", 0), ("tokens", 1), ("working_memory_bytes", 1)):
            value = getattr(self, name)
            if value is not None and not is_int(value, least, MAX_COUNT):
                raise InvalidInput(f"{name} is a whole number from {least} to {MAX_COUNT}, not {value!r}")
        if self.working_memory_bytes is None:
            raise InvalidInput("working_memory_bytes is a number of bytes, not None")
        if not callable(self.count_tokens):
            raise InvalidInput(f"count_tokens is a function from a Message to a number, not {self.count_tokens!r}")
        if self.working_memory not in (None, "thread", "resource"):
            raise InvalidInput(f"working_memory is 'thread', 'resource' or None, not {self.working_memory!r}")
        if self.template is not None and not isinstance(self.template, str):
            raise InvalidInput(f"template is Markdown text, not {type(self.template).__name__}")
        if self.schema is not None:
            _check_schema(self.schema)
        if self.template is not None and self.schema is not None:
            raise InvalidInput("a working memory has a template (Markdown text) or a schema (a JSON object), not both")
        if self.working_memory is None and (self.template is not None or self.schema is not None):
            raise InvalidInput(
                "a template or schema needs working_memory='thread' or 'resource', which says whose it is"
            )
        for name in ("read_only", "recall"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInput(f"{name} is True or False, not {getattr(self, name)!r}")

    @property
    def loaded(self) -> int:
        """How many messages before the turn's own are loaded."""
        if not self.recall:
            return 0
        if self.last is not None:
            return self.last
        return LAST if self.tokens is None else LAST_WITH_TOKENS


def as_options(given: MemoryOptions | None) -> MemoryOptions:
    """Options as given, the default ones for None. Raises InvalidInput."""
    if given is None:
        return MemoryOptions()
    if not isinstance(given, MemoryOptions):
        raise InvalidInput(f"options are MemoryOptions(...), not {given!r}")
    return given


def _check_schema(schema: object) -> None:
    if not isinstance(schema, type) or not issubclass(schema, BaseModel) or issubclass(schema, RootModel):
        raise InvalidInput(f"schema is a subclass of pydantic.BaseModel with fields, not {schema!r}")
    try:
        schema.model_json_schema()
    except PydanticUserError as error:
        raise InvalidInput(f"schema {schema.__name__} cannot be described to a model: {error.message}") from error
