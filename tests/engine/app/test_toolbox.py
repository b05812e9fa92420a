"""Adding tools."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.ports import Principal
from laneway.engine.app.toolbox import Toolbox
from laneway.engine.tooling.functions import function_tool
from laneway.routing.errors import ConfigError


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
