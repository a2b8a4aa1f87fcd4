"""Tools: typed functions that a model may call, with a JSON Schema and validation by pydantic."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import PydanticSerializationError, to_jsonable_python

from threadkeep.errors import InvalidContent, InvalidInput
from threadkeep.limits import canonical_json
from threadkeep.messages import ToolCallPart, ToolResultPart


class ArgumentError(Exception):
    """The arguments of a call are not what the tool takes. It goes back to the model, and not to the caller."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: its name, what it is for, the JSON Schema of its arguments, and the function behind it.

    `call` takes the arguments as one dict and gives any JSON value. It raises ArgumentError for arguments that it
    does not take, and anything else where it fails; the model is told of either.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    call: Callable[[dict[str, Any]], Awaitable[Any]]


def tool(function: Callable[..., Any], *, name: str | None = None, description: str | None = None) -> Tool:
    """A tool from a typed function, plain or async. A plain one runs in a thread, so that it may block.

    Name and description are the function's own name and docstring unless given. Raises InvalidInput for a function
    whose parameters cannot be given by name, or have no type.
    """
    label = str(name or getattr(function, "__name__", ""))
    if not label:
        raise InvalidInput(f"a tool is a Tool or a function with a name, not {function!r}")
    arguments = _arguments_model(function, label)
    names = {field: info.alias or field for field, info in arguments.model_fields.items()}

    async def call(given: dict[str, Any]) -> Any:
        try:
            valid = arguments.model_validate(given)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(str(step) for step in fault['loc']) or 'arguments'}: {fault['msg']}"
                for fault in error.errors(include_url=False, include_input=False)
            )
            raise ArgumentError(faults) from error
        keywords = {names[field]: getattr(valid, field) for field in valid.model_fields_set}
        if inspect.iscoroutinefunction(function):
            return await function(**keywords)
        return await asyncio.to_thread(function, **keywords)

    schema = arguments.model_json_schema(by_alias=True)
    schema.pop("title", None)
    return Tool(label, description or inspect.getdoc(function) or "", schema, call)


def _arguments_model(function: Callable[..., Any], label: str) -> type[BaseModel]:
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for index, parameter in enumerate(inspect.signature(function).parameters.values()):
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise InvalidInput(f"tool {label}: the parameter {parameter.name!r} cannot be given by name")
        if parameter.name not in hints:
            raise InvalidInput(f"tool {label}: the parameter {parameter.name!r} needs a type")
        default = ... if parameter.default is parameter.empty else parameter.default
        # The field has a name of its own, so that a parameter may be called `json` or `_x`.
        fields[f"argument_{index}"] = (hints[parameter.name], Field(default, alias=parameter.name))
    return create_model(label, __config__=ConfigDict(extra="forbid"), **fields)


async def run_call(call: ToolCallPart, tools: dict[str, Tool]) -> ToolResultPart:
    """The result of a model's call. Whatever goes wrong is a result with `is_error`, so that the model can go on."""
    try:
        value = await _run(call, tools)
        return ToolResultPart(tool_call_id=call.tool_call_id, name=call.name, result=value)
    except Exception as error:  # noqa: BLE001 - a tool is the user's code and may raise anything
        text = str(error) if isinstance(error, ArgumentError) else f"{type(error).__name__}: {error}"
        text = text.encode(errors="backslashreplace").decode()
        return ToolResultPart(tool_call_id=call.tool_call_id, name=call.name, result=text, is_error=True)


async def _run(call: ToolCallPart, tools: dict[str, Tool]) -> Any:
    if call.name not in tools:
        raise ArgumentError(f"there is no tool {call.name!r}; the tools are: {', '.join(tools) or 'none'}")
    arguments = call.arguments
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError as error:
            raise ArgumentError(f"the arguments are not JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise ArgumentError(f"the arguments must be a JSON object, not {type(arguments).__name__}")
    value = await tools[call.name].call(arguments)
    try:
        value = to_jsonable_python(value)
    except PydanticSerializationError as error:
        raise InvalidContent(f"the result of {call.name} is not JSON: {error}") from error
    canonical_json(value, f"the result of {call.name}")
    return value
