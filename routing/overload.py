"""Overload: how late the event loop is, folded into three levels.

Law of this file: a level is raised within a second and lowered slowly, one at a time. Raised: more
than half of the last seven measurements are above a threshold (one long pause, such as a collection
of garbage or an import, is one measurement and means nothing). Lowered: for `calm_s` without a break
the middle one was at most half the threshold of the level. More lag never gives a lower level.

Why the lag: a loop at 100 % CPU that is only asked what it can do is on time (0.2 ms late with eight
models that wait for nobody), one that cannot keep up is late for everything by one round of all that
is ready. Measured on two cores: idle 0.5 ms, 50 streams of 50 tokens a second 0.5 ms, 250 of
them (more than three times what that machine carries) 105 to 130 ms; see docs/operations.md. Memory is not
asked here: admission refuses by bytes already, lane by lane.

What a level does is in `shedding.py`, `thinning.py` and `flush.py`. After LinkedIn's Hodor (lateness
of a heartbeat as the detector) and Google's SRE book, chapters 21 and 22.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from laneway.routing.errors import ConfigError

__all__ = ["OverloadDetector", "OverloadPolicy"]

_SAMPLES: Final = 7
"""At ten a second: four late ones in a row raise a level after half a second and their own lateness."""
_RELIEF: Final = 0.5
"""A level ends below this share of its threshold, so that noise around a threshold changes nothing."""


@dataclass(frozen=True, slots=True)
class OverloadPolicy:
    """When which level begins and ends.

    Attributes:
        lag_s: lag of the loop in seconds above which levels 1, 2 and 3 begin. From a question to the
            first text of its answer the loop makes about ten turns (counted: 10 embedded, 15 over gRPC with
            the client on the same loop): 50 ms each are half a second, which people notice; 200 ms two
            seconds; 500 ms five, where clients begin to give up.
        calm_s: how long it must be calm before a level ends, seconds.
    """

    lag_s: tuple[float, float, float] = (0.05, 0.2, 0.5)
    calm_s: float = 10.0

    def __post_init__(self) -> None:
        """Raise ConfigError for thresholds that do not rise, or no time to be calm."""
        if not all(a < b for a, b in pairwise((0.0, *self.lag_s))):
            raise ConfigError(f"overload lag_s {self.lag_s} must be three rising numbers of seconds above 0")
        if not self.calm_s > 0:
            raise ConfigError(f"overload calm_s {self.calm_s} must be above 0 seconds")


class OverloadDetector:
    """Folds measurements of one loop into a level."""

    __slots__ = ("_calm_since", "_level", "_policy", "_samples")

    def __init__(self, policy: OverloadPolicy | None = None) -> None:
        self._policy = policy or OverloadPolicy()
        self._samples = deque([0.0] * _SAMPLES, _SAMPLES)
        self._level = 0
        self._calm_since: float | None = None

    @property
    def level(self) -> int:
        """0 (none) to 3."""
        return self._level

    @property
    def lag_s(self) -> float:
        """The middle one of the last seven measurements, seconds."""
        return sorted(self._samples)[_SAMPLES // 2]

    def sample(self, lag_s: float, now: float) -> int:
        """Take one measurement in and return the level.

        Args:
            lag_s: how much later than asked for the loop called a timer.
            now: monotonic seconds; measurements come at least a few times a second.
        """
        self._samples.append(lag_s)
        lag_s, limits = self.lag_s, self._policy.lag_s
        reached = sum(lag_s > limit for limit in limits)
        if reached > self._level:
            self._level, self._calm_since = reached, None
        elif not self._level or lag_s > limits[self._level - 1] * _RELIEF:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= self._policy.calm_s:
            self._level, self._calm_since = self._level - 1, None
        return self._level
