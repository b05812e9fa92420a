"""Python callables as tools, on the loop and in real worker processes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import BaseModel

from laneway.actors.ports import Context
from laneway.engine.runtime.workers import WorkerPool
from laneway.engine.tooling.functions import FunctionTool, function_tool, tool
from laneway.routing.errors import ConfigError, ToolArguments, ToolDenied, ToolError

NO_CONTEXT = cast("Context", SimpleNamespace(trace=""))
"""Of an event that is not sampled."""


class Place(BaseModel):
    lat: float
    lon: float


@dataclass
class Weather:
    place: str
    celsius: int


async def forecast(place: Place, days: int = 1) -> list[Weather]:
    """Tell the weather."""
    return [Weather(f"{place.lat}/{place.lon}", 20 + day) for day in range(days)]


def run(made: FunctionTool, **arguments: Any) -> Any:
    return json.loads(asyncio.run(made.invoke(arguments, NO_CONTEXT)))


@pytest.fixture
def cities() -> Iterator[Any]:
    """The module of tools, importable here and (sys.path travels) in workers."""
    folder = str(Path(__file__).parent)
    sys.path.insert(0, folder)
    try:
        import city_tools  # type: ignore[import-not-found] # found through the line above

        yield city_tools
    finally:
        sys.path.remove(folder)
        sys.modules.pop("city_tools", None)


def with_pool(check: Callable[[WorkerPool], Awaitable[None]]) -> None:
    async def main() -> None:
        pool = WorkerPool(1)
        try:
            await check(pool)
        finally:
            await pool.close()

    asyncio.run(main())


def test_an_async_function_runs_on_the_loop_with_its_own_types() -> None:
    """JSON in, models to the function, dataclasses back as JSON text."""
    made = function_tool(forecast)
    assert run(made, place={"lat": 1, "lon": 2}, days=2)[1] == {"place": "1.0/2.0", "celsius": 21}
    assert made.spec.description == "Tell the weather."
    assert made.spec.schema["required"] == ["place"]
    assert made.queue_wait_s is None  # it waits for nothing but the loop, and must not say that it waited for 0 s


def test_the_schema_and_the_docstring_describe_it(cities: Any) -> None:
    """Name, prose and each parameter's line reach the catalogue row; unknown arguments are excluded."""

    async def check(pool: WorkerPool) -> None:
        spec = function_tool(cities.population, pool).spec
        assert spec.name == "population"
        assert spec.description == "How many people live in a city."
        assert spec.schema["properties"]["city"]["description"] == "its English name."
        assert spec.schema["properties"]["factor"]["description"] == "multiplier, for forecasts."
        assert spec.schema["properties"]["factor"]["default"] == 1.0
        assert spec.schema["additionalProperties"] is False

    with_pool(check)


def test_a_plain_function_runs_in_a_worker(cities: Any) -> None:
    """Plain JSON arguments, and annotated types converted in the worker."""

    async def check(pool: WorkerPool) -> None:
        made = function_tool(cities.population, pool)
        assert json.loads(await made.invoke({"city": "Oslo", "factor": "2"}, NO_CONTEXT))["people"] == 1_400_000
        named = function_tool(cities.weekday, pool)
        assert json.loads(await named.invoke({"day": "2026-11-21"}, NO_CONTEXT)) == "Saturday"
        assert (named.spec.name, named.spec.timeout_s, named.spec.idempotent, named.spec.effects) == (
            "day_name", 9.0, True, False,
        )  # fmt: skip
        with pytest.raises(ToolArguments):
            await named.invoke({"day": "someday"}, NO_CONTEXT)

    with_pool(check)


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({}, "place"),
        ({"place": {"lat": 1, "lon": "east"}}, "place.lon"),
        ({"place": {"lat": 1, "lon": 2}, "days": "many"}, "days"),
        ({"place": {"lat": 1, "lon": 2}, "extra": 1}, "extra"),
    ],
)
def test_arguments_that_do_not_fit_name_their_path(arguments: dict[str, Any], path: str) -> None:
    """INVALID_ARGUMENT with the path as reason, from check and from invoke alike."""
    made = function_tool(forecast)
    with pytest.raises(ToolArguments) as caught:
        made.prepare(arguments)
    assert caught.value.reason == path
    with pytest.raises(ToolArguments):
        run(made, **arguments)


def test_inline_functions_lambdas_and_contexts() -> None:
    """inline=True keeps a plain function on the loop; a Context parameter is filled in and not shown."""

    def who(context: Context, greeting: str = "hi") -> str:
        return f"{greeting} {context.session}"

    class Here:
        session = "s1"

    made = function_tool(who, inline=True)
    assert list(made.spec.schema["properties"]) == ["greeting"]
    assert asyncio.run(made.invoke({}, cast("Context", Here()))) == '"hi s1"'
    assert run(function_tool(lambda x: x, inline=True, name="echo"), x=[1, None]) == [1, None]


def test_the_decorator_leaves_the_function_as_it_was() -> None:
    """Bare and with options; overrides at `function_tool` win."""

    @tool
    async def plain(a: int) -> int:
        return a

    @tool(name="other", scopes=frozenset({"pay"}))
    async def special(a: int) -> int:
        return a

    assert asyncio.run(plain(1)) == 1
    assert function_tool(plain).spec.name == "plain"
    assert function_tool(special).spec.scopes == {"pay"}
    assert function_tool(special, name="third").spec.name == "third"


def test_what_a_function_raises_is_a_typed_error() -> None:
    """Its own ToolError passes, anything else becomes ToolError with its type; so does a result that is not JSON."""

    async def denied() -> None:
        raise ToolDenied("not today")

    async def broken() -> None:
        raise ZeroDivisionError("1/0")

    async def strange() -> object:
        return object()

    with pytest.raises(ToolDenied):
        run(function_tool(denied))
    for function, reason in ((broken, "ZeroDivisionError"), (strange, "RESULT_NOT_JSON")):
        with pytest.raises(ToolError) as caught:
            run(function_tool(function))
        assert caught.value.reason == reason


def test_what_a_function_raises_by_mistake_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """With its traceback, which the answer does not have; a refusal on purpose is not."""

    async def broken() -> None:
        raise ZeroDivisionError("1/0")

    async def denied() -> None:
        raise ToolDenied("on purpose")

    for function in (broken, denied):
        with pytest.raises(ToolError):
            run(function_tool(function))
    (record,) = caplog.records
    assert record.getMessage() == "tool broken raised"
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_what_cannot_be_a_tool_says_why() -> None:
    """Starred parameters, closures without inline, a Context in a worker, no pool, no name, unknown options."""

    def closure(a: int) -> int:
        return a

    def starred(*args: int) -> int:
        return sum(args)

    async def unreadable(a: "Nowhere") -> None:  # type: ignore[name-defined] # noqa: F821, UP037
        """Annotated with a name that does not exist."""

    pool = WorkerPool(1)
    for attempt, told in (
        (lambda: function_tool(closure, pool), "module level"),
        (lambda: function_tool(starred, inline=True), "named arguments"),
        (lambda: function_tool(unreadable), "annotate"),
        (lambda: function_tool(json.dumps), "named arguments"),
        (lambda: function_tool(_takes_context, pool), "Context"),
        (lambda: function_tool(_module_level), "worker pool"),
        (lambda: function_tool(lambda: 1, inline=True), "name="),
        (lambda: function_tool(forecast, timeouts=3), "ToolOptions"),
    ):
        with pytest.raises(ConfigError, match=told):
            attempt()


def _module_level(a: int) -> int:
    return a


def _takes_context(context: Context) -> str:
    return context.session
