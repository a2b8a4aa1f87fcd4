"""Real conversations for tests: of the file that THREADKEEP_CONVERSATIONS names, of the one beside the repository, or
the few of the same awkwardness that come with the tests."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

VARIABLE = "THREADKEEP_CONVERSATIONS"

_TESTS = Path(__file__).resolve().parents[1]
_BESIDE = _TESTS.parents[1].parent / "shared" / "data" / "airline_conversations.jsonl"
SHIPPED = _TESTS / "data" / "conversations.jsonl"


def conversations_file() -> Path:
    """The file of conversations: resource_id, thread_id, reward and messages (OpenAI chat), one JSON object a line.

    Raises FileNotFoundError where the variable names a file that is not there.
    """
    if named := os.environ.get(VARIABLE):
        if not Path(named).is_file():
            raise FileNotFoundError(f"{VARIABLE} names {named}, which is no file; unset it to use the shipped ones")
        return Path(named)
    return _BESIDE if _BESIDE.is_file() else SHIPPED


def read(path: Path) -> list[dict[str, Any]]:
    """The conversations of a file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


@cache
def conversations() -> list[dict[str, Any]]:
    """The conversations to test with; shared, so not to be changed."""
    return read(conversations_file())
