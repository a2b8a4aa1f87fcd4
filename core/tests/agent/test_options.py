"""Memory options: what they allow, and errors that say what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel, RootModel

from threadkeep.agent.options import MemoryOptions
from threadkeep.errors import InvalidInput


class Profile(BaseModel):
    name: str | None = None


class Names(RootModel[list[str]]):
    pass


class Strange(BaseModel):
    made_by: Callable[[], None]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"last": -1}, "last is a whole number from 0"),
        ({"last": True}, "last is a whole number"),
        ({"last": 2.5}, "last is a whole number"),
        ({"tokens": 0}, "tokens is a whole number from 1"),
        ({"tokens": "8k"}, "tokens is a whole number"),
        ({"count_tokens": 3}, "count_tokens is a function"),
        ({"working_memory": "user"}, "working_memory is 'thread', 'resource' or None, not 'user'"),
        ({"working_memory": True}, "working_memory is 'thread', 'resource' or None"),
        ({"working_memory": "thread", "template": Profile}, "template is Markdown text"),
        ({"working_memory": "thread", "schema": {"type": "object"}}, "schema is a subclass of pydantic.BaseModel"),
        ({"working_memory": "thread", "schema": Names}, "schema is a subclass of pydantic.BaseModel with fields"),
        ({"working_memory": "thread", "schema": Profile(name="x")}, "schema is a subclass"),
        ({"working_memory": "thread", "schema": Strange}, "schema Strange cannot be described to a model"),
        ({"working_memory": "thread", "schema": Profile, "template": "# Name"}, "not both"),
        ({"template": "# Name"}, "needs working_memory='thread' or 'resource'"),
        ({"schema": Profile}, "needs working_memory"),
        ({"working_memory_bytes": 0}, "working_memory_bytes is a whole number from 1"),
        ({"working_memory_bytes": None}, "working_memory_bytes is a number of bytes"),
        ({"read_only": "yes"}, "read_only is True or False"),
        ({"recall": None}, "recall is True or False"),
    ],
)
def test_wrong_options_are_refused_by_name(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        MemoryOptions(**wrong)


def test_how_many_messages_are_loaded() -> None:
    options = MemoryOptions()
    assert options.loaded == 40
    assert replace(options, last=0).loaded == 0
    assert replace(options, tokens=8000).loaded == 400
    assert replace(options, tokens=8000, last=7).loaded == 7
    assert replace(options, last=7, recall=False).loaded == 0
