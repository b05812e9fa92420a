"""A tool's desk: what a call waited for reaches the limiter, and a successor finds it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from laneway.actors.ports import Context, ToolSpec
from laneway.actors.tools.desk import Desk
from laneway.actors.tools.limiter import LimiterPolicy
from laneway.routing.aimd import AimdPolicy


class Clock:
    at = 0.0

    def now(self) -> float:
        return self.at


class Tool:
    def __init__(self, wait_s: float | None) -> None:
        self.queue_wait_s = wait_s
        self.spec = ToolSpec("t", "", {})

    async def invoke(self, arguments: Mapping[str, Any], context: Context) -> str:
        return str(arguments)


@pytest.mark.parametrize(
    ("wait_s", "late", "limit"), [(0.05, False, 90), (0.0, False, 100), (None, False, 100), (None, True, 90)]
)
def test_the_limit_follows_what_calls_waited_for(wait_s: float | None, late: bool, limit: int) -> None:
    """A wait for an executor, or no room where it is served, cuts; a tool with nothing to wait for says nothing."""
    clock = Clock()
    desk = Desk(Tool(wait_s), clock, LimiterPolicy(AimdPolicy(initial=100, floor=2)))
    clock.at = 0.1
    desk.measure(late)
    assert desk.statistics().limit == limit


def test_a_successor_is_served_with_what_is_known() -> None:
    """Another tool of the same name keeps the limit, and is asked anew what it can do."""
    clock = Clock()
    desk = Desk(Tool(0.05), clock, LimiterPolicy(AimdPolicy(initial=100, floor=2)))
    clock.at = 0.1
    desk.measure(False)
    desk.serve(successor := Tool(None))
    assert desk.statistics().limit == 90
    assert asyncio.run(desk.prepare({"x": 1})(None)) == "{'x': 1}"  # type: ignore[arg-type] # it asks nothing of it
    assert (desk.tool, desk.queue) == (successor, successor)
