"""A circuit breaker: a tool that keeps breaking is left alone for a while instead of waited for.

Law of this file: decisions come from the last 20 results of the last 10 s and nothing else. With at
least 10 of them and half or more broken it opens; while open every call is refused at once with the
time to come back; then one probe decides, and each failed probe doubles the pause (1 to 30 s).
The scheme is Nygard's (Release It!); the constants are DESIGN's reliability study, section 4 item 12.
Only results that speak about the tool's health belong here: a caller's bad arguments do not.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["Breaker", "BreakerPolicy"]


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to open and for how long.

    Attributes:
        samples: results looked at, at most. window_s: and not older than this.
        least: results needed before it may open. ratio: broken share that opens it, 0 to 1.
        pause_s: first pause. pause_cap_s: longest pause.
    """

    samples: int = 20
    window_s: float = 10.0
    least: int = 10
    ratio: float = 0.5
    pause_s: float = 1.0
    pause_cap_s: float = 30.0


class Breaker:
    """State of one tool's breaker. Pure: `now` is monotonic seconds.

    Each admitted call (`allow` returned 0.0) is followed by exactly one `record` or `forget`.
    """

    __slots__ = ("_open_until", "_pause_s", "_policy", "_probing", "_results")

    def __init__(self, policy: BreakerPolicy | None = None) -> None:
        self._policy = policy or BreakerPolicy()
        self._results: deque[tuple[float, bool]] = deque(maxlen=self._policy.samples)
        self._open_until: float | None = None
        self._pause_s = self._policy.pause_s
        self._probing = False

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half_open`` (a probe is under way)."""
        if self._open_until is None:
            return "closed"
        return "half_open" if self._probing else "open"

    def allow(self, now: float) -> float:
        """Return 0.0 if a call may go, else seconds until it is worth asking again (> 0)."""
        if self._open_until is None:
            return 0.0
        if now < self._open_until:
            return self._open_until - now
        if self._probing:
            return self._pause_s
        self._probing = True
        return 0.0

    def record(self, healthy: bool, now: float) -> None:
        """Note how an admitted call ended. O(samples)."""
        if self._open_until is not None:
            if self._probing:
                self._judge_probe(healthy, now)
            return  # a straggler from before it opened says nothing new
        self._results.append((now, healthy))
        if healthy:
            return
        recent = [good for at, good in self._results if now - at <= self._policy.window_s]
        broken = recent.count(False)
        if len(recent) >= self._policy.least and broken >= self._policy.ratio * len(recent):
            self._open(now)

    def forget(self) -> None:
        """An admitted call ended without saying anything about the tool (cancelled, bad arguments)."""
        self._probing = False

    def _judge_probe(self, healthy: bool, now: float) -> None:
        self._probing = False
        if healthy:
            self._open_until = None
            self._pause_s = self._policy.pause_s
            return
        self._pause_s = min(self._pause_s * 2, self._policy.pause_cap_s)
        self._open_until = now + self._pause_s

    def _open(self, now: float) -> None:
        self._open_until = now + self._pause_s
        self._results.clear()
