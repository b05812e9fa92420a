"""What is remembered about one tool between its calls: its breaker, its limit, its budget of retries.

Law of this file: a desk outlives its tool: a successor of the same name is served at the same one, with
what is known about that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from laneway.actors.ports import Clock, ToolInvoker
from laneway.actors.tools.breaker import Breaker
from laneway.actors.tools.deadlines import Deadlines
from laneway.actors.tools.limiter import HasQueue, Limiter, LimiterPolicy
from laneway.actors.tools.retries import RetryBudget

__all__ = ["ChecksArguments", "Desk", "ToolStatistics"]


@runtime_checkable
class ChecksArguments(Protocol):
    """An invoker that can judge arguments before anything is started."""

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Raise ToolArguments, with the path as reason, if they do not fit the schema."""
        ...


class Desk:
    """What is remembered about one tool between its calls."""

    __slots__ = ("breaker", "budget", "check", "deadlines", "limiter", "queue", "repeatable", "tool")

    def __init__(self, tool: ToolInvoker, clock: Clock, policy: LimiterPolicy) -> None:
        self.serve(tool)
        self.breaker = Breaker()
        self.limiter = Limiter(clock, policy)
        self.deadlines = Deadlines(clock)
        self.budget = RetryBudget()

    def serve(self, tool: ToolInvoker) -> None:
        """Serve this tool, or its successor of the same name; what it can do is asked once, not per call."""
        self.tool = tool
        self.check = tool.check if isinstance(tool, ChecksArguments) else None
        self.queue = tool if isinstance(tool, HasQueue) else None
        self.repeatable = tool.spec.idempotent or not tool.spec.effects

    def measure(self, late: bool) -> None:
        """Tell the limiter what a call waited for behind it; `late`: where it was served there was no room."""
        if late:
            self.limiter.overloaded()
        elif self.queue is not None and (wait_s := self.queue.queue_wait_s) is not None:
            self.limiter.observe(wait_s)

    def statistics(self) -> ToolStatistics:
        """Return the gauges of this moment."""
        limiter = self.limiter
        return ToolStatistics(limiter.limit, limiter.in_flight, limiter.waiting, self.breaker.state)


@dataclass(frozen=True, slots=True)
class ToolStatistics:
    """One tool at one moment.

    Attributes:
        limit: calls that may run at once. in_flight: calls that run. waiting: calls in front of them.
        breaker: "closed", "half_open" or "open".
    """

    limit: int
    in_flight: int = 0
    waiting: int = 0
    breaker: str = "closed"
