"""The simulated tool: its effect is written down where no crash of an engine reaches it.

Law of this file: an effect begins when the tool was called, whatever becomes of the call.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any, Final

from laneway.actors.ports import Context, ToolSpec
from tests.simulation.faults import Faults
from tests.simulation.history import History
from tests.simulation.loop import Lifetime

__all__ = ["Weatherman"]

_SPEC: Final = ToolSpec("weather", "Says how the weather is.", {"type": "object"}, timeout_s=3.0)


class Weatherman:
    """A tool with effects: says that it is sunny, fails, or takes too long, as the call's id has it."""

    def __init__(self, faults: Faults, history: History, lifetime: Lifetime) -> None:
        self._faults = faults
        self._history = history
        self._lifetime = lifetime

    @property
    def spec(self) -> ToolSpec:
        """Its catalogue row."""
        return _SPEC

    async def invoke(self, arguments: Mapping[str, Any], context: Context) -> str:
        """Run once."""
        call = str(arguments["of"])
        if self._lifetime.alive:
            self._history.effects[context.tenant, context.session, call] += 1
        mood = random.Random(call).random()
        await self._faults.pause(0.0, 0.1)
        if mood < 0.2:
            raise RuntimeError("this tool fails sometimes")
        if mood < 0.25:
            await asyncio.sleep(30.0)
        return '"sunny"'
