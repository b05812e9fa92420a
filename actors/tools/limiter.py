"""How many calls of one tool may be under way: found by AIMD on what its calls wait for.

Law of this file: the wait that counts lies behind the limiter, not in front of it: the line in front
only says that demand is high, and cutting on it would starve the tool. What lies behind depends on the
tool: a tool with executors of its own (worker processes, an MCP server's turns) says how long a call
waited for one; one on the event loop waits for the loop, which every eighth turn measures; and what
waits in a service that the tool asks cannot be seen from here, but is told by refusals and timeouts:
each counts as a wait of twice the target. The rule itself is in `routing/aimd.py`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from laneway.actors.ports import Clock
from laneway.routing.aimd import AimdLimit, AimdPolicy
from laneway.routing.errors import Overloaded

__all__ = ["HasQueue", "Limiter", "LimiterPolicy"]

_SAMPLED: Final = 8
"""One turn in so many measures the loop's lag; a trip through the loop costs more than the rest."""


@runtime_checkable
class HasQueue(Protocol):
    """An invoker whose calls may wait for an executor (a worker process) after they were let in."""

    @property
    def queue_wait_s(self) -> float | None:
        """How long the most recent call waited for its executor, in seconds; None: there is nothing to wait for."""
        ...


@dataclass(frozen=True, slots=True)
class LimiterPolicy:
    """Bounds of a tool's calls.

    Attributes:
        calls: of the calls under way. queue: callers that may stand in front of the limit.
    """

    calls: AimdPolicy = field(default_factory=lambda: AimdPolicy(initial=256, floor=2, ceiling=1024))
    queue: int = 4096


class Limiter:
    """Turns for the calls of one tool: first come, first served, within the AIMD limit.

    Args:
        clock: monotonic time.
        policy: bounds.
    """

    __slots__ = ("_clock", "_in_flight", "_limit", "_line", "_most", "_policy", "_taken")

    def __init__(self, clock: Clock, policy: LimiterPolicy | None = None) -> None:
        self._policy = policy or LimiterPolicy()
        self._clock = clock
        self._limit = AimdLimit(self._policy.calls, clock.now())
        self._most = int(self._limit.value)
        self._line: deque[asyncio.Future[None]] = deque()
        self._in_flight = 0
        self._taken = 0

    @property
    def limit(self) -> int:
        """Concurrent calls allowed now."""
        return self._most

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Callers in front of the limit."""
        return len(self._line)

    def take_now(self) -> bool:
        """Take a turn, to be given back with `give`; False if none is free: then `take` one."""
        if self._in_flight >= self._most or self._line:
            return False
        self._in_flight += 1
        self._taken += 1
        if not self._taken % _SAMPLED:
            self._go_round()
        return True

    async def take(self) -> None:
        """Wait for a turn in the line; the caller bounds the wait with its own deadline.

        Raises:
            Overloaded: the line in front of the limit is full.
        """
        if not self.take_now():
            await self._stand()

    def give(self) -> None:
        """Give a turn back; the first in line gets it."""
        self._in_flight -= 1
        if self._line:
            self._wake()

    def observe(self, wait_s: float) -> None:
        """Note that a call which had its turn waited this long, in seconds, for its executor."""
        self._limit.observe(wait_s, self._in_flight, self._clock.now())
        self._most = int(self._limit.value)

    def _go_round(self) -> None:
        """Make one trip through the loop: how late it comes back is the loop's queue wait."""
        asyncio.get_running_loop().call_soon(self._came_back, self._clock.now())

    def _came_back(self, left_at: float) -> None:
        self.observe(self._clock.now() - left_at)

    def overloaded(self) -> None:
        """Note that a call was refused, or not answered in time, by what the tool asks."""
        self.observe(2 * self._policy.calls.target_s)

    async def _stand(self) -> None:
        """Stand in line."""
        if len(self._line) >= self._policy.queue:
            raise Overloaded(
                f"{len(self._line)} calls already wait for this tool; retry after the given time",
                reason="TOOL_QUEUE",
                retry_after_ms=1000,
            )
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.give()  # the turn came with the cancel: hand it on
            elif place in self._line:
                self._line.remove(place)
            raise

    def _wake(self) -> None:
        while self._line and self._in_flight < self._most:
            place = self._line.popleft()
            if not place.done():
                self._in_flight += 1
                self._taken += 1
                if not self._taken % _SAMPLED:
                    self._go_round()
                place.set_result(None)
