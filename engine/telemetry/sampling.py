"""Which events are traced: decided once, when an event comes in.

Law of this file: pure. A client's word counts first: what it does not record is not recorded here,
and what it records is followed, up to a rate, so that no client decides what tracing costs. Of the
rest a random share begins a trace here, up to the same rate. Chance and time are arguments.
"""

from __future__ import annotations

from collections.abc import Callable

from laneway.routing.shaper import Gcra
from laneway.routing.traceparent import parse

__all__ = ["Sampler"]


class Sampler:
    """Decides per event; holds the state of its two rates.

    Args:
        ratio: share of events without a traceparent that begin a trace, 0 to 1.
        follow: trace what a client traces.
        traces_per_s: most traces begun per second in the long run, and as many at once; likewise of
            those followed, counted apart.
        random: uniform in [0, 1).

    Attributes:
        capped: events that were not traced only because of a rate.
    """

    __slots__ = ("_begun_due", "_follow", "_followed_due", "_random", "_rate", "_ratio", "capped")

    def __init__(self, ratio: float, *, follow: bool, traces_per_s: float, random: Callable[[], float]) -> None:
        self.capped = 0
        self._ratio = ratio
        self._follow = follow
        self._random = random
        self._rate = Gcra(traces_per_s, max(1.0, traces_per_s))
        self._begun_due = self._followed_due = float("-inf")

    def wants(self, trace: str, now: float) -> bool:
        """Return whether an event is traced. O(1), 0.1 us for one that is not.

        Args:
            trace: the client's traceparent; empty or invalid counts as none. now: monotonic seconds.
        """
        parts = parse(trace) if trace else None
        if parts is None:
            if self._random() >= self._ratio:
                return False
            self._begun_due, wait_s = self._rate.offer(self._begun_due, now)
        elif not self._follow or not parts.sampled:
            return False
        else:
            self._followed_due, wait_s = self._rate.offer(self._followed_due, now)
        self.capped += wait_s > 0
        return not wait_s > 0
