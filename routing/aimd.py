"""A limit found by additive increase and multiplicative decrease on the wait behind it.

Law of this file: once per tick the median of the waits that were observed is judged: above the target
the limit is cut by a tenth, else it grows by a step if at least half of it is used. Only what came in
after the last cut is judged: the rest speaks of the limit before it, and to cut on it again would cut
too deep (TCP cuts once per round trip for the same reason).

The wait is the own queue's, not a response time: it was measured against Vegas and Gradient2, at twice
to four times the load that can be served (792/390/789 calls per s of 800/400/800 possible with
heavy-tailed service, where Vegas got 220/248/365): response times of models and tools vary by nature.
Tick, cut and step as in that study; the rule is Chiu and Jain's (1989).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from laneway.routing.errors import ConfigError

__all__ = ["TICK_S", "AimdLimit", "AimdPolicy", "Waits"]

TICK_S: Final = 0.100
"""How often a limit is judged."""
_CUT: Final = 0.9
_MAX_SAMPLES: Final = 128
"""Waits kept per tick: enough for a median, bounded for any rate."""


@dataclass(frozen=True, slots=True)
class AimdPolicy:
    """Bounds of a limit.

    Attributes:
        initial, floor, ceiling: of the limit, at least 1.
        target_s: median wait above which it is cut. tick_s: how often it is judged.

    Raises:
        ConfigError: bounds that contradict each other.
    """

    initial: float
    floor: float
    ceiling: float = inf
    target_s: float = 0.020
    tick_s: float = TICK_S

    def __post_init__(self) -> None:
        """Raise ConfigError for bounds that cannot be kept."""
        if not 1 <= self.floor <= self.initial <= self.ceiling:
            raise ConfigError("a limit needs 1 <= floor <= initial <= ceiling")
        if not self.target_s > 0 or not self.tick_s > 0:
            raise ConfigError("a limit's target and tick must be above 0")


class Waits:
    """The waits of one tick.

    Args:
        tick_s: how long it is. now: when it begins.
    """

    __slots__ = ("_ends_at", "_samples", "_since", "_tick_s")

    def __init__(self, tick_s: float, now: float) -> None:
        self._tick_s = tick_s
        self._ends_at = now + tick_s
        self._since = -inf
        self._samples: list[float] = []

    def note(self, wait_s: float, now: float) -> float | None:
        """Note one wait that ended now (seconds, at least 0); at the end of a tick, return the median, else None.

        O(1) amortised. None as well for a tick in which nothing was noted that counts.
        """
        samples = self._samples
        if now - wait_s >= self._since:
            if len(samples) == _MAX_SAMPLES:
                del samples[: _MAX_SAMPLES // 2]
            samples.append(wait_s)
        if now < self._ends_at:
            return None
        self._ends_at = now + self._tick_s
        median = _median(samples) if samples else None
        samples.clear()
        return median

    def begin(self, now: float) -> None:
        """From now on only waits count that began after now."""
        self._since = now
        self._samples.clear()


class AimdLimit:
    """The number itself.

    Args:
        now: monotonic seconds.
    """

    __slots__ = ("_limit", "_policy", "_waits")

    def __init__(self, policy: AimdPolicy, now: float) -> None:
        self._policy = policy
        self._limit = float(policy.initial)
        self._waits = Waits(policy.tick_s, now)

    @property
    def value(self) -> float:
        """How much is allowed now."""
        return self._limit

    def observe(self, wait_s: float, used: float, now: float, step: float = 1.0) -> bool:
        """Note one wait; at the end of a tick, judge, and return True if the limit was cut. O(1) amortised.

        Args:
            wait_s: seconds, at least 0, of a wait that ended now.
            used: how much of the limit is in use now.
            step: what it may grow by.
        """
        median_s = self._waits.note(wait_s, now)
        if median_s is None:
            return False
        if median_s > self._policy.target_s:
            self._limit = max(float(self._policy.floor), self._limit * _CUT)
            self._waits.begin(now)
            return True
        if used * 2 >= int(self._limit):
            self._limit = min(float(self._policy.ceiling), self._limit + step)
        return False


def _median(values: Sequence[float]) -> float:
    """Of at least one value; the library for it takes 5 ms to load."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
