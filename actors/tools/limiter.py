"""How many calls of one tool may be under way: found by AIMD on the wait in the tool's own queue.

Law of this file: the limit is cut by a tenth when calls that were let in still waited (median over a
100 ms tick above 20 ms) before their executor took them, and grows by one per tick while at least
half of it is used. The wait that counts lies behind the limiter (a worker pool's queue, the event
loop's lag), not in front of it: the line in front only says that demand is high, and cutting on it
would starve the tool. Own queue wait was measured against Vegas and Gradient2 (reliability study F9):
792/390/789 calls per s of 800/400/800 offered with heavy-tailed service, where Vegas got 220/248/365.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from laneway.actors.ports import Clock
from laneway.routing.errors import Overloaded

__all__ = ["AimdLimit", "HasQueue", "Limiter", "LimiterPolicy"]

_MAX_SAMPLES: Final = 128
"""Waits kept per tick: enough for a median, bounded for any rate."""
_SAMPLED: Final = 8
"""One turn in so many measures the loop's lag; a trip through the loop costs more than the rest."""


@runtime_checkable
class HasQueue(Protocol):
    """An invoker whose calls wait for an executor (a worker process) after they were let in."""

    @property
    def queue_wait_s(self) -> float:
        """How long the most recent call waited for its executor, in seconds."""
        ...


@dataclass(frozen=True, slots=True)
class LimiterPolicy:
    """Bounds and pace of the limit.

    Attributes:
        initial, floor, ceiling: concurrent calls.
        target_s: median wait above which the limit is cut. tick_s: how often it is judged.
        cut: factor of a cut. queue: callers that may stand in front of the limit.
    """

    initial: int = 256
    floor: int = 2
    ceiling: int = 1024
    target_s: float = 0.020
    tick_s: float = 0.100
    cut: float = 0.9
    queue: int = 4096


class AimdLimit:
    """The number itself; pure."""

    __slots__ = ("_judged_at", "_limit", "_policy", "_waits")

    def __init__(self, policy: LimiterPolicy, now: float) -> None:
        self._policy = policy
        self._limit = float(policy.initial)
        self._waits: deque[float] = deque(maxlen=_MAX_SAMPLES)
        self._judged_at = now

    @property
    def value(self) -> int:
        """Concurrent calls allowed now."""
        return int(self._limit)

    def observe(self, wait_s: float, in_flight: int, now: float) -> None:
        """Note one wait (seconds, >= 0); once per tick, judge. O(1) amortised."""
        self._waits.append(wait_s)
        if now - self._judged_at < self._policy.tick_s:
            return
        self._judged_at = now
        if _median(self._waits) > self._policy.target_s:
            self._limit = max(float(self._policy.floor), self._limit * self._policy.cut)
        elif in_flight * 2 >= self.value:
            self._limit = min(float(self._policy.ceiling), self._limit + 1)
        self._waits.clear()


class Limiter:
    """Turns for the calls of one tool: first come, first served, within the AIMD limit.

    Args:
        clock: monotonic time.
        policy: bounds.
    """

    __slots__ = ("_clock", "_in_flight", "_limit", "_line", "_policy", "_taken")

    def __init__(self, clock: Clock, policy: LimiterPolicy | None = None) -> None:
        self._policy = policy or LimiterPolicy()
        self._clock = clock
        self._limit = AimdLimit(self._policy, clock.now())
        self._line: deque[asyncio.Future[None]] = deque()
        self._in_flight = 0
        self._taken = 0

    @property
    def limit(self) -> int:
        """Concurrent calls allowed now."""
        return self._limit.value

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Callers in front of the limit."""
        return len(self._line)

    async def take(self) -> None:
        """Wait for a turn, to be given back with `give`; the caller bounds the wait with its own deadline.

        Raises:
            Overloaded: the line in front of the limit is full.
        """
        if self._in_flight < self._limit.value and not self._line:
            self._in_flight += 1
        else:
            await self._stand()
        self._taken += 1
        if self._taken % _SAMPLED:
            return
        granted_at = self._clock.now()
        try:
            await asyncio.sleep(0)  # one trip through the loop: how late it comes back is the loop's queue wait
        except asyncio.CancelledError:
            self.give()
            raise
        self.observe(self._clock.now() - granted_at)

    def give(self) -> None:
        """Give a turn back; the first in line gets it."""
        self._in_flight -= 1
        self._wake()

    def observe(self, wait_s: float) -> None:
        """Note that a call which had its turn waited this long, in seconds, for its executor."""
        self._limit.observe(wait_s, self._in_flight, self._clock.now())

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
        while self._line and self._in_flight < self.limit:
            place = self._line.popleft()
            if not place.done():
                self._in_flight += 1
                place.set_result(None)


def _median(values: Sequence[float]) -> float:
    """Of at least one value; the library for it takes 5 ms to load."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
