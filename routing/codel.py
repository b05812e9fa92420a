"""When a flow that keeps waiting is thinned out: CoDel, by the time an event has waited.

Law of this file: a flow whose events have waited above the target for a whole interval on end loses one
from its head, and goes on losing them, the more often the longer it lasts (interval / sqrt(count)), until
one comes out within the target or is its flow's last. A burst that is through within the interval loses
nothing; a lone event is never lost; whoever stays below the target does not pay for others, since each
flow (tenant, session) is judged by itself, as in RFC 8290.

RFC 8289, section 5 (its pseudo-code, asked per event instead of holding the queue). Target and interval
are a hundred times those of a network: events of this lane are progress, presence and logs, which are
stale after seconds, not after milliseconds, and a burst of some seconds is ordinary. The ratio of the two
is the RFC's (section 4.4: a target of 5 to 10 % of the interval).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import Final

from laneway.routing.errors import ConfigError

__all__ = ["Codel", "CodelPolicy"]

_MAX_FLOWS: Final = 1024
"""Flows above the target that are remembered; beyond it the longest known begins anew."""
_RECENT: Final = 16
"""Intervals within which a flow that is back above the target goes on where it left off (RFC 8289, 5.4)."""


@dataclass(frozen=True, slots=True)
class CodelPolicy:
    """When a flow is thinned out.

    Attributes:
        target_s: wait that is fine for ever; infinity: nothing is ever dropped.
        interval_s: how long all waits must be above it first.

    Raises:
        ConfigError: a time of 0 or below.
    """

    target_s: float = 0.5
    interval_s: float = 5.0

    def __post_init__(self) -> None:
        """Raise ConfigError for times that mean nothing."""
        if not self.target_s > 0 or not 0 < self.interval_s < inf:
            raise ConfigError("CoDel needs a target and an interval above 0 s; an infinite target turns it off")


class _Flow:
    """What is remembered of one flow that was above the target."""

    __slots__ = ("above_until", "count", "drop_at", "dropping", "last_count")

    def __init__(self) -> None:
        self.above_until = inf
        """When it has been above the target for an interval; infinity: it is not."""
        self.dropping = False
        self.drop_at = -inf
        self.count = self.last_count = 0


class Codel:
    """Decides over each event as it comes out. Every call O(1)."""

    __slots__ = ("_flows", "_policy", "target_s")

    def __init__(self, policy: CodelPolicy) -> None:
        self._policy = policy
        self.target_s = policy.target_s
        self._flows: dict[tuple[str, str], _Flow] = {}

    def forget(self) -> None:
        """The queue is empty: nothing is above the target any more."""
        self._flows.clear()

    def within(self, key: tuple[str, str]) -> None:
        """An event of this flow came out within the target, or nothing waits behind it."""
        if self._flows and (flow := self._flows.get(key)) is not None:
            flow.above_until, flow.dropping = inf, False

    def above(self, key: tuple[str, str], now: float) -> bool:
        """An event of this flow came out after more than the target, and others wait behind it: drop it?"""
        flow = self._flows.get(key)
        if flow is None:
            if len(self._flows) >= _MAX_FLOWS:
                del self._flows[next(iter(self._flows))]
            flow = self._flows[key] = _Flow()
        if flow.above_until == inf:
            flow.above_until = now + self._policy.interval_s
            return False
        if flow.dropping:
            if now < flow.drop_at:
                return False
            flow.count += 1
            flow.drop_at += self._policy.interval_s / sqrt(flow.count)
            return True
        if now < flow.above_until:
            return False
        self._begin(flow, now)
        return True

    def _begin(self, flow: _Flow, now: float) -> None:
        interval_s, gained = self._policy.interval_s, flow.count - flow.last_count
        recent = now - flow.drop_at < _RECENT * interval_s
        flow.count = gained if gained > 1 and recent else 1
        flow.last_count, flow.dropping = flow.count, True
        flow.drop_at = now + interval_s / sqrt(flow.count)
