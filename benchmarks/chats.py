"""Messages to measure with: real ones from a file, or made up ones of the same sizes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

WORDS = "the flight from seat to be changed with your reservation please confirm that I can help you today"


def chat_messages(path: Path | None) -> Iterator[dict[str, Any]]:
    """Messages in OpenAI's chat format, without end: those of a file of JSON lines with "messages", or made up."""
    found = _made_up() if path is None else _read(path)
    return cycle(found)


def _read(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [message for line in lines for message in json.loads(line)["messages"] if message["role"] != "system"]
    if not found:
        raise ValueError(f"{path} holds no messages")
    return found


def _made_up() -> list[dict[str, Any]]:
    """Half of them plain text, a quarter tool calls and a quarter results: about 450 bytes each, as real ones have."""
    chance, words = random.Random(0), WORDS.split()

    def text(size: float) -> str:
        return " ".join(chance.choices(words, k=max(1, round(size / 5.5))))

    made: list[dict[str, Any]] = []
    for number in range(500):
        call = {"name": "search", "arguments": json.dumps({"query": text(chance.expovariate(1 / 80))})}
        made += [
            {"role": "user", "content": text(chance.expovariate(1 / 120))},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": f"call_{number}", "type": "function", "function": call}],
            },
            {"role": "tool", "tool_call_id": f"call_{number}", "content": text(chance.expovariate(1 / 700))},
            {"role": "assistant", "content": text(chance.expovariate(1 / 400))},
        ]
    return made
