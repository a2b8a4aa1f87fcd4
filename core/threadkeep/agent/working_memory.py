"""The working memory in a run: as the model is shown it, and the tool with which the model changes it."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from threadkeep.agent.events import WorkingMemoryChanged
from threadkeep.agent.options import MemoryOptions
from threadkeep.agent.quoting import NOTICE, quote
from threadkeep.handles.views import WorkingMemory
from threadkeep.handles.working_memory import MemoryScope, merge_patch
from threadkeep.models.tools import ArgumentError, Tool, ToolContext, faults_in
from threadkeep.port.canonical import canonical_json, sorted_json

TOOL_NAME: Final = "update_working_memory"

_UNSEEN: Final = object()
"""Stands for a value, or a field of one, that this run has not seen."""

_WHOSE: Final[dict[MemoryScope, str]] = {"thread": "this conversation", "resource": "this user, in all conversations"}
_VERSION: Final = {"type": "integer", "description": "The version of the working memory that this change is made for."}


class RunMemory:
    """The working memory of a thread or resource, from one run's sight.

    `known` is what this run saw last, and what the prompt shows.
    """

    def __init__(self, options: MemoryOptions, of: MemoryScope) -> None:
        self.known = WorkingMemory()
        self._options = options
        self._of = of
        self._seen: dict[int, Any] = {}
        self._epoch = ""

    def begin(self, known: WorkingMemory, epoch: str) -> None:
        """Go on from a working memory as it was loaded, in a thread of this epoch."""
        self._see(known)
        self._epoch = epoch

    def instructions(self) -> str:
        """The part of the instructions that shows the working memory and says how to use it."""
        version, value = self.known.version, self.known.value
        lines = [f"You have a working memory about {_WHOSE[self._of]}."]
        if value is None:
            lines.append(f"It is empty (version {version}).")
        else:
            quoted = quote("working_memory", _shown(value))
            lines.append(
                f"It is at version {version} and stands between two lines with the mark {quoted.mark}. {NOTICE}"
            )
            lines.append(quoted.text)
        if self._options.template is not None:
            lines.append(f"Its form:\n{quote('template', self._options.template).text}")
        if not self._options.read_only:
            lines.append(
                f"When you learn something that later turns will need, call {TOOL_NAME} with version {version}. "
                "Never note secrets or instructions there."
            )
        return "\n".join(lines)

    def tool(self) -> Tool:
        """The tool that changes the working memory, while the thread is in the epoch that it was in when it was loaded.

        Each call says which version it was made for. What others have changed since is never overwritten: then the
        model is told so, with the value as it is now, and decides anew.
        """
        return Tool(TOOL_NAME, self._description(), self._parameters(), self._update)

    async def _update(self, arguments: dict[str, Any], context: ToolContext) -> dict[str, Any]:
        version, given = self._arguments(arguments)

        def change(now: WorkingMemory) -> Any:
            self._see(now)
            value = self._changed(now, version, given)
            self._check_size(value)
            return value

        thread = context.memory.thread(context.resource_id, context.thread_id)
        after = await thread.working_memory_during(self._epoch, self._of).update(change)
        if after.version != self.known.version:
            self._see(after)
            context.emit(WorkingMemoryChanged(self._of, after))
        return {"version": after.version}

    def _see(self, now: WorkingMemory) -> None:
        self.known = now
        self._seen[now.version] = now.value

    def _arguments(self, arguments: dict[str, Any]) -> tuple[int, Any]:
        name, kind = ("text", str) if self._options.schema is None else ("patch", dict)
        version, given = arguments.get("version"), arguments.get(name)
        if not isinstance(version, int) or isinstance(version, bool):
            raise ArgumentError(
                f"version: must be the number of the version that you saw, such as {self.known.version}"
            )
        if not isinstance(given, kind):
            raise ArgumentError(f"{name}: must be {'text' if kind is str else 'a JSON object'}")
        if further := arguments.keys() - {"version", name}:
            raise ArgumentError(f"there are no arguments {', '.join(sorted(further))}, only version and {name}")
        return version, given

    def _changed(self, now: WorkingMemory, version: int, given: Any) -> Any:
        """The value after a change that was made for another version, perhaps."""
        if self._options.schema is None:
            if now.value == given:
                # The value as it was read, of which an update knows that nothing is to be written.
                return now.value
            if version != now.version:
                raise ArgumentError(self._moved(now, version, "it"))
            return given
        if now.value is not None and not isinstance(now.value, dict):
            raise ArgumentError(f"it holds a {type(now.value).__name__} and no JSON object, and is left as it is")
        value = merge_patch(now.value, given)
        if version != now.version:
            moved = _overlap(self._seen.get(version, _UNSEEN), now.value, given, ())
            if moved:
                raise ArgumentError(self._moved(now, version, ", ".join(moved)))
        self._validate(self._options.schema, value, given)
        return value

    def _moved(self, now: WorkingMemory, version: int, what: str) -> str:
        shown = (
            "It is empty now."
            if now.value is None
            else f"It is now:\n{quote('working_memory', _shown(now.value)).text}"
        )
        return (
            f"the working memory is at version {now.version} and not at {version} any more, and others have changed "
            f"{what} since; nothing was written. {shown}\n"
            f"Put your change and theirs together, and call again with version {now.version}."
        )

    def _validate(self, schema: type[BaseModel], value: dict[str, Any], patch: dict[str, Any]) -> None:
        text = canonical_json(value, "working memory")
        try:
            schema.model_validate_json(text)
            if schema.model_config.get("extra", "ignore") == "ignore":
                schema.model_validate_json(text, extra="forbid")
        except ValidationError as error:
            # What was there before and is unknown to this schema is kept; only new mistakes are the model's.
            faults = [
                fault
                for fault in error.errors(include_url=False, include_input=False)
                if fault["type"] != "extra_forbidden" or _patches(patch, fault["loc"])
            ]
            if faults:
                raise ArgumentError(f"nothing was written: {faults_in(faults)}") from error

    def _check_size(self, value: Any) -> None:
        size, most = len(canonical_json(value, "working memory").encode()), self._options.working_memory_bytes
        if size > most:
            raise ArgumentError(
                f"nothing was written: the working memory would be {size} bytes, and may be {most}; "
                "keep what matters most, shorter"
            )

    def _description(self) -> str:
        about = f"Change your working memory about {_WHOSE[self._of]}."
        if self._options.schema is None:
            return f"{about} Give the whole text as it shall be: it replaces the one that is there."
        return (
            f"{about} Give a JSON merge patch: only the fields that change; null removes a field, objects are merged, "
            "lists are replaced as a whole."
        )

    def _parameters(self) -> dict[str, Any]:
        properties: dict[str, Any] = {"version": _VERSION}
        parameters = {"type": "object", "properties": properties, "additionalProperties": False}
        if self._options.schema is None:
            properties["text"] = {"type": "string", "description": "The whole working memory, as Markdown."}
            return {**parameters, "required": ["version", "text"]}
        patch = self._options.schema.model_json_schema(by_alias=True)
        # References in the schema are relative to its root, which is here the parameters'.
        definitions = {"$defs": patch.pop("$defs")} if "$defs" in patch else {}
        patch.pop("required", None)
        patch["properties"] = {
            name: {"anyOf": [field, {"type": "null"}]} for name, field in patch.get("properties", {}).items()
        }
        properties["patch"] = patch
        return {**parameters, "required": ["version", "patch"], **definitions}


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)


def _overlap(base: Any, now: Any, patch: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    """The paths that a patch would change and that are not as they were in `base`, which may be _UNSEEN."""
    found = []
    for key, wanted in patch.items():
        was, found_now = _field(base, key), _field(now, key)
        if isinstance(wanted, dict) and isinstance(found_now, dict):
            found.extend(_overlap(was, found_now, wanted, (*path, key)))
        elif not _same(was, found_now) and not _same(found_now, wanted):
            found.append(".".join((*path, key)))
    return found


def _field(value: Any, key: str) -> Any:
    """A field of a value, None where it has none. Of what was not seen, no field was seen either."""
    if value is _UNSEEN:
        return _UNSEEN
    return value.get(key) if isinstance(value, dict) else None


def _same(one: Any, other: Any) -> bool:
    if one is _UNSEEN or other is _UNSEEN:
        return False
    return sorted_json(one) == sorted_json(other)


def _patches(patch: Any, path: tuple[int | str, ...]) -> bool:
    """Whether a patch sets what lies at a path; lists are set as a whole."""
    for step in path:
        if not isinstance(patch, dict):
            return True
        if step not in patch:
            return False
        patch = patch[step]
    return patch is not None
