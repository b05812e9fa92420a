"""Adding tools."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.ports import Principal
from laneway.engine.app.toolbox import Toolbox
from laneway.engine.tooling.functions import function_tool
from laneway.routing.errors import ConfigError
from tests.engine.app import shop


async def weather(city: str) -> str:
    """Today's weather."""
    return f"sunny in {city}"


def test_functions_and_invokers_can_be_added() -> None:
    """As a call, a decorator, a decorator with options, or an object; what was added comes back unchanged."""

    async def main() -> None:
        box = Toolbox()
        assert box.add(weather) is weather

        @box.add(name="storm", scopes=frozenset({"tool:storm"}))
        async def other(city: str) -> str:
            """Tomorrow's weather."""
            return city

        invoker = function_tool(weather, name="third")
        assert box.add(invoker) is invoker
        assert [spec.name for spec in box.specs(Principal("root", scopes=frozenset({"admin"})))] == [
            "storm", "third", "weather",
        ]  # fmt: skip
        assert [spec.name for spec in box.specs(Principal("guest"))] == ["third", "weather"]
        assert box.get("storm") is not None
        assert box.get("rain") is None
        with pytest.raises(ConfigError, match="weather"):
            box.add(weather)
        await box.close()
        await box.close()

    asyncio.run(main())


def test_a_tool_may_be_named_by_its_path() -> None:
    """It is loaded at once and comes back; functions and objects are known by their own path."""

    async def main() -> None:
        box, told = Toolbox(), []
        box.on_change = lambda: told.append(len(box.added))
        assert box.add(f"{shop.__name__}:price", name="cost") is shop.price
        assert box.add(f"{shop.__name__}:ledger") is shop.ledger
        box.add(shop.stock)

        @box.add
        async def closure(word: str) -> str:
            """Nobody else can import it."""
            return word

        names = ["price", "ledger", "stock"]
        assert [tool.path for tool in box.added] == [*(f"{shop.__name__}:{name}" for name in names), None]
        assert told == [1, 2, 3, 4]
        box.catalogue.remove("cost")
        assert [tool.invoker.spec.name for tool in box.added] == ["ledger", "stock", "closure"]
        await box.close()

    asyncio.run(main())


def test_what_is_no_tool_is_refused() -> None:
    """A path that leads nowhere, and a thing that cannot be called."""
    box = Toolbox()
    for tool, says in (
        (f"{shop.__name__}:absent", "has no absent"),
        (f"{shop.__name__}:__name__", "no tool"),
        (7, "7"),
    ):
        with pytest.raises(ConfigError, match=says):
            box.add(tool)
    assert not box.added
