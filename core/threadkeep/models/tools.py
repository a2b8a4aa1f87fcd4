"""Tools: typed functions that a model may call, with a JSON Schema and validation by pydantic."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import ErrorDetails, PydanticSerializationError, to_jsonable_python

from threadkeep.errors import InvalidContent, InvalidInput
from threadkeep.messages.model import ToolCallPart, ToolResultPart
from threadkeep.port.canonical import canonical_json
from threadkeep.port.checks import is_number

if TYPE_CHECKING:
    from threadkeep.handles.memory import Memory


class ArgumentError(Exception):
    """The arguments of a call are not what the tool takes. It goes back to the model, and not to the caller."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know of the run that calls it. A function gets it by a parameter with this type."""

    resource_id: str
    thread_id: str
    agent: str
    """The name of the agent."""
    call: ToolCallPart
    memory: Memory
    emit: Callable[[Any], None]
    """Gives the run's caller an event, at once. Loop-bound: to be called by asynchronous functions only."""


Approves: TypeAlias = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: its name, what it is for, the JSON Schema of its arguments, and the function behind it.

    `call` takes the arguments as one dict and gives any JSON value. It raises ArgumentError for arguments that it
    does not take, and anything else where it fails; the model is told of either. It is None for a tool that the
    client runs: the run stops at its call, and a later request brings the result.

    `timeout`: seconds after which the model is told that it took too long; None for no bound. What runs in a thread
    cannot be stopped and goes on unheeded. `needs_approval`: whether somebody has to agree before it runs, or a
    function of the arguments that says so. `parallel` False: no other call of the same message runs beside it.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    call: Callable[[dict[str, Any], ToolContext], Awaitable[Any]] | None
    timeout: float | None = None
    needs_approval: bool | Approves = False
    parallel: bool = True

    def __post_init__(self) -> None:
        if self.timeout is not None and not (is_number(self.timeout) and self.timeout > 0):
            raise InvalidInput(f"tool {self.name}: timeout is a number of seconds above 0, or None, not {self.timeout}")
        if not isinstance(self.needs_approval, bool) and not callable(self.needs_approval):
            raise InvalidInput(f"tool {self.name}: needs_approval is True, False or a function of the arguments")


def tool(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    needs_approval: bool | Approves = False,
    parallel: bool = True,
) -> Tool:
    """A tool from a typed function, plain or async. A plain one runs in a thread, so that it may block.

    Name and description are the function's own name and docstring unless given; the other arguments are those of
    `Tool`. A parameter of type ToolContext is none of the tool's: the run fills it in.
    Raises InvalidInput for a function whose parameters cannot be given by name, or have no type.
    """
    label = str(name or getattr(function, "__name__", ""))
    if not label:
        raise InvalidInput(f"a tool is a Tool or a function with a name, not {function!r}")
    arguments, contexts = _arguments_model(function, label)
    names = {field: info.alias or field for field, info in arguments.model_fields.items()}

    async def call(given: dict[str, Any], context: ToolContext) -> Any:
        try:
            valid = arguments.model_validate(given)
        except ValidationError as error:
            raise ArgumentError(faults_in(error.errors(include_url=False, include_input=False))) from error
        keywords = {names[field]: getattr(valid, field) for field in valid.model_fields_set}
        keywords.update(dict.fromkeys(contexts, context))
        if inspect.iscoroutinefunction(function):
            return await function(**keywords)
        return await asyncio.to_thread(function, **keywords)

    schema = arguments.model_json_schema(by_alias=True)
    schema.pop("title", None)
    described = description or inspect.getdoc(function) or ""
    return Tool(label, described, schema, call, timeout, needs_approval, parallel)


def faults_in(errors: Sequence[ErrorDetails]) -> str:
    """What is wrong with values, for a model: each fault with the path to it."""
    return "; ".join(
        f"{'.'.join(str(step) for step in error['loc']) or 'arguments'}: {error['msg']}" for error in errors
    )


def client_tool(
    name: str, *, description: str = "", parameters: dict[str, Any] | type[BaseModel] | None = None
) -> Tool:
    """A tool that the client runs. `parameters` is a JSON Schema of an object, or a pydantic model; none unless given.

    A run stops at its call with Finished("client_tools"), and a later request brings the result: see `Agent.stream`.
    """
    if not name:
        raise InvalidInput("a tool needs a name")
    if parameters is None:
        parameters = {"type": "object", "properties": {}, "additionalProperties": False}
    elif isinstance(parameters, type) and issubclass(parameters, BaseModel):
        parameters = parameters.model_json_schema()
    canonical_json(parameters, f"the parameters of tool {name}")
    return Tool(name, description, parameters, None)


def _arguments_model(function: Callable[..., Any], label: str) -> tuple[type[BaseModel], list[str]]:
    """The model of a function's arguments, and the names of its parameters for the context."""
    contexts: list[str] = []
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for index, parameter in enumerate(inspect.signature(function).parameters.values()):
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise InvalidInput(f"tool {label}: the parameter {parameter.name!r} cannot be given by name")
        if parameter.name not in hints:
            raise InvalidInput(f"tool {label}: the parameter {parameter.name!r} needs a type")
        if hints[parameter.name] is ToolContext:
            contexts.append(parameter.name)
            continue
        # For pydantic, `...` is a field without a default.
        default = ... if parameter.default is parameter.empty else parameter.default
        # The field has a name of its own, so that a parameter may be called `json` or `_x`.
        fields[f"argument_{index}"] = (hints[parameter.name], Field(default, alias=parameter.name))
    return create_model(label, __config__=ConfigDict(extra="forbid"), **fields), contexts


def call_arguments(call: ToolCallPart) -> dict[str, Any]:
    """The arguments of a call as the object that they mean. Raises ArgumentError."""
    arguments = call.arguments
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise ArgumentError(f"the arguments are not JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise ArgumentError(f"the arguments must be a JSON object, not {type(arguments).__name__}")
    return arguments


async def run_call(tools: Mapping[str, Tool], context: ToolContext, *, timeout: float | None = None) -> ToolResultPart:
    """The result of the context's call. Whatever goes wrong is a result with `is_error`, so that the model can go on.

    `timeout` is the bound, in seconds, of a tool that has none of its own.
    """
    call = context.call
    try:
        return ToolResultPart(
            tool_call_id=call.tool_call_id, name=call.name, result=await _run(tools, context, timeout)
        )
    except Exception as error:  # noqa: BLE001 - a tool is the user's code and may raise anything
        told = str(error) if isinstance(error, ArgumentError) else f"{type(error).__name__}: {error}"
        return failure(call, told)


def failure(call: ToolCallPart, text: str) -> ToolResultPart:
    """A result that tells the model what went wrong."""
    text = text.encode(errors="backslashreplace").decode()
    return ToolResultPart(tool_call_id=call.tool_call_id, name=call.name, result=text, is_error=True)


async def _run(tools: Mapping[str, Tool], context: ToolContext, timeout: float | None) -> Any:
    call = context.call
    chosen = tools.get(call.name)
    if chosen is None:
        raise ArgumentError(f"there is no tool {call.name!r}; the tools are: {', '.join(tools) or 'none'}")
    if chosen.call is None:
        raise ArgumentError(f"{call.name!r} is run by the client, whose result has not come")
    arguments = call_arguments(call)
    seconds = timeout if chosen.timeout is None else chosen.timeout
    value = await _bounded(chosen.call(arguments, context), call.name, seconds)
    try:
        value = to_jsonable_python(value)
    except PydanticSerializationError as error:
        raise InvalidContent(f"the result of {call.name} is not JSON: {error}") from error
    canonical_json(value, f"the result of {call.name}")
    return value


async def _bounded(work: Awaitable[Any], name: str, seconds: float | None) -> Any:
    if seconds is None:
        return await work
    try:
        async with asyncio.timeout(seconds) as bound:
            return await work
    except TimeoutError:
        # A tool's own TimeoutError is an error like any other.
        if not bound.expired():
            raise
        raise ArgumentError(f"{name} was stopped after {seconds:g} seconds without a result") from None
