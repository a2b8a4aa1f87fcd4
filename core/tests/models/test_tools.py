"""Tools: what a model is told of them, and that nothing a tool does stops the run."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from threadkeep import Memory
from threadkeep.errors import InvalidInput
from threadkeep.messages import ToolCallPart, ToolResultPart
from threadkeep.models import Tool, ToolContext, tool
from threadkeep.models.tools import run_call


class Passenger(BaseModel):
    name: str
    age: int


def book(
    flight: Annotated[str, Field(description="such as HAT001")], passenger: Passenger, bags: int = 1
) -> dict[str, Any]:
    """Book a flight."""
    return {"flight": flight, "name": passenger.name, "bags": bags}


async def wait(schema: str, json: list[int]) -> Any:
    await asyncio.sleep(0)
    return [schema, json]


def run(function: Any, arguments: Any, name: str | None = None) -> ToolResultPart:
    made = function if isinstance(function, Tool) else tool(function)
    call = ToolCallPart(tool_call_id="1", name=name or made.name, arguments=arguments)
    context = ToolContext("alice", "support", "assistant", call, Memory("memory://tools"), lambda event: None)
    return asyncio.run(run_call({made.name: made}, context))


def test_schema_and_description_come_from_the_function() -> None:
    made = tool(book)
    assert (made.name, made.description) == ("book", "Book a flight.")
    assert set(made.parameters["properties"]) == {"flight", "passenger", "bags"}
    assert made.parameters["required"] == ["flight", "passenger"]
    assert made.parameters["properties"]["flight"]["description"] == "such as HAT001"
    assert made.parameters["properties"]["bags"]["default"] == 1
    assert made.parameters["additionalProperties"] is False


def test_arguments_are_validated_into_their_types() -> None:
    result = run(book, '{"flight": "HAT001", "passenger": {"name": "Mia", "age": "31"}}')
    assert (result.result, result.is_error) == ({"flight": "HAT001", "name": "Mia", "bags": 1}, False)


def test_async_functions_and_parameters_named_like_model_attributes() -> None:
    assert run(wait, {"schema": "x", "json": [1]}).result == ["x", [1]]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("{", "not JSON"),
        ("[1]", "must be a JSON object, not list"),
        ('{"flight": "HAT001"}', "passenger: Field required"),
        ('{"flight": 1, "passenger": {"name": "Mia", "age": 31}}', "flight:"),
        ('{"flight": "H", "passenger": {"name": "Mia", "age": 31}, "seat": "1A"}', "seat: Extra"),
    ],
)
def test_wrong_arguments_go_back_to_the_model(arguments: str, told: str) -> None:
    result = run(book, arguments)
    assert result.is_error
    assert told in result.result


def test_a_tool_that_raises_and_one_that_is_missing_are_results() -> None:
    def fail() -> None:
        raise LookupError("no such flight \ud800")

    assert run(fail, "{}").result == "LookupError: no such flight \\ud800"
    assert run(fail, "").is_error
    missing = run(fail, "{}", name="fly")
    assert (missing.is_error, missing.result) == (True, "there is no tool 'fly'; the tools are: fail")


def test_results_are_json_or_the_model_is_told() -> None:
    def passenger() -> Passenger:
        return Passenger(name="Mia", age=31)

    def thing() -> object:
        return object()

    def nan() -> float:
        return float("nan")

    assert run(passenger, "{}").result == {"name": "Mia", "age": 31}
    assert "not JSON" in run(thing, "{}").result
    assert run(nan, "{}").is_error


def test_functions_that_cannot_be_tools_are_refused_by_name() -> None:
    def untyped(a) -> None:  # type: ignore[no-untyped-def]  # the missing type is what is tested
        ...

    def variadic(*a: int) -> None: ...

    with pytest.raises(InvalidInput, match="tool untyped: the parameter 'a' needs a type"):
        tool(untyped)
    with pytest.raises(InvalidInput, match="tool variadic: the parameter 'a' cannot be given by name"):
        tool(variadic)
    with pytest.raises(InvalidInput, match="a tool is a Tool or a function with a name"):
        tool("book")  # type: ignore[arg-type]  # what a careless caller does
