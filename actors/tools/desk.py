"""What is remembered about one tool between its calls: its breaker, its limit, its budget of retries.

Law of this file: a desk outlives its tool: a successor of the same name is served at the same one, with
what is known about that name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from laneway.actors.meters import MUTE
from laneway.actors.ports import Clock, Context, Probe, ToolInvoker
from laneway.actors.tools.breaker import Breaker
from laneway.actors.tools.deadlines import Deadlines
from laneway.actors.tools.limiter import HasQueue, Limiter, LimiterPolicy
from laneway.actors.tools.retries import RetryBudget

__all__ = ["Desk", "Effect", "Prepares", "ToolStatistics"]


Effect: TypeAlias = Callable[[Context], Awaitable[str]]
"""A call whose arguments are good: given its context, it runs once and returns JSON text."""


@runtime_checkable
class Prepares(Protocol):
    """An invoker that can judge arguments before anything is started."""

    def prepare(self, arguments: Mapping[str, Any]) -> Effect:
        """Return the call of these arguments, to be run at most once; nothing has begun.

        Raises ToolArguments, with the path as reason, if they do not fit the schema.
        """
        ...


class Desk:
    """What is remembered about one tool between its calls, and what is looked up about it once.

    Attributes:
        prepare: see `Prepares`; a tool that judges nothing before has one too.
        took: measures a call, in seconds.
    """

    __slots__ = (
        "breaker",
        "budget",
        "deadlines",
        "limiter",
        "name",
        "prepare",
        "queue",
        "repeatable",
        "timeout_s",
        "took",
        "tool",
    )

    def __init__(self, tool: ToolInvoker, clock: Clock, policy: LimiterPolicy, probe: Probe = MUTE) -> None:
        self.serve(tool)
        self.took = probe.histogram("tool.seconds", tool=self.name)
        self.breaker = Breaker()
        self.limiter = Limiter(clock, policy)
        self.deadlines = Deadlines(clock)
        self.budget = RetryBudget()

    def serve(self, tool: ToolInvoker) -> None:
        """Serve this tool, or its successor of the same name; what it can do is asked once, not per call."""
        self.tool, spec = tool, tool.spec
        self.prepare: Callable[[Mapping[str, Any]], Effect] = (
            tool.prepare if isinstance(tool, Prepares) else partial(partial, tool.invoke)
        )
        self.queue = tool if isinstance(tool, HasQueue) else None
        self.name = spec.name
        self.timeout_s = spec.timeout_s
        self.repeatable = spec.idempotent or not spec.effects

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


class ToolStatistics(NamedTuple):
    """One tool at one moment.

    Attributes:
        limit: calls that may run at once. in_flight: calls that run. waiting: calls in front of them.
        breaker: "closed", "half_open" or "open".
    """

    limit: int
    in_flight: int = 0
    waiting: int = 0
    breaker: str = "closed"
