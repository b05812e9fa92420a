"""Quality: how good one client's network is, in three grades, and what each grade changes.

Law of this file: grades are sticky. A worse one is taken after two measurements in a row, a better
one after five that are better by a fifth, because a plan that flaps is worse than either plan.
Measurements are smoothed as TCP smooths its round trip (RFC 6298: 7/8 old + 1/8 new).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final, NamedTuple

__all__ = ["PLANS", "Grade", "GradePlan", "Quality"]


class Grade(IntEnum):
    """How good the network is; a smaller number is better."""

    GOOD = 0
    FAIR = 1
    POOR = 2


class GradePlan(NamedTuple):
    """What a grade asks of a link."""

    chunk_chars: int
    flush_s: float


PLANS: Final[Mapping[Grade, GradePlan]] = MappingProxyType(
    {
        Grade.GOOD: GradePlan(200, 0.010),
        Grade.FAIR: GradePlan(100, 0.025),
        Grade.POOR: GradePlan(50, 0.050),
    }
)
"""Small chunks on a poor network, so that a loss or a stall holds little text back; longer waits for
company, so that they do not cost more frames."""

_RTT_S: Final = (0.150, 0.400)
"""Up to the first: GOOD; up to the second: FAIR; beyond: POOR."""
_ACK_LAG_S: Final = (0.300, 1.000)
_GOODPUT_BYTES_PER_S: Final = (65_536, 16_384)
"""At least the first: GOOD; at least the second: FAIR; below: POOR."""
_GOODPUT_LASTS: Final = 8
"""Samples after which an old goodput says nothing: a link that is not saturated cannot measure it anew."""
_SATURATED_BYTES: Final = 16_384
"""Bytes acked in one lag from which on they measure the network and not how much there was to say."""
_WORSE_AFTER: Final = 2
_BETTER_AFTER: Final = 5
_MARGIN: Final = 0.8
_SMOOTHING: Final = 0.125


class Quality:
    """Measurements of one link, folded into a grade."""

    __slots__ = ("_goodput", "_goodput_age", "_lag", "_probe", "_rtt", "_run", "grade")

    def __init__(self) -> None:
        self.grade = Grade.GOOD
        self._rtt: float | None = None
        self._lag: float | None = None
        self._goodput: float | None = None
        self._goodput_age = 0
        self._probe: tuple[int, int, float] | None = None  # (seq, position acked when it was sent, sent at)
        self._run = 0  # > 0: worse measurements in a row; < 0: better ones

    @property
    def rtt_s(self) -> float | None:
        """Smoothed round trip in seconds, or None before the first measurement."""
        return self._rtt

    @property
    def plan(self) -> GradePlan:
        """What the present grade asks for."""
        return PLANS[self.grade]

    def sent(self, seq: int, acked_position: int, now: float) -> None:
        """Note a sent frame; one at a time is followed to its ack."""
        if self._probe is None:
            self._probe = (seq, acked_position, now)

    def acked(self, seq: int, acked_position: int, now: float) -> Grade:
        """Note an ack; measures once the followed frame is covered. Returns the grade."""
        if self._probe is None or seq < self._probe[0]:
            return self.grade
        _, position, sent_at = self._probe
        self._probe = None
        lag_s = max(0.0, now - sent_at)
        moved = acked_position - position
        saturated = moved >= _SATURATED_BYTES and lag_s > 0
        return self.sample(ack_lag_s=lag_s, goodput_bytes_per_s=moved / lag_s if saturated else None)

    def sample(
        self,
        *,
        rtt_s: float | None = None,
        ack_lag_s: float | None = None,
        goodput_bytes_per_s: float | None = None,
    ) -> Grade:
        """Fold measurements in and return the grade.

        Args:
            rtt_s: ping to pong. ack_lag_s: event sent to its ack.
            goodput_bytes_per_s: acked bytes per second, only while there was always more to send.
        """
        self._rtt = _smooth(self._rtt, rtt_s)
        self._lag = _smooth(self._lag, ack_lag_s)
        self._goodput_age = 0 if goodput_bytes_per_s is not None else self._goodput_age + 1
        if self._goodput_age > _GOODPUT_LASTS:
            self._goodput = None
        self._goodput = _smooth(self._goodput, goodput_bytes_per_s)
        seen = self._seen(1.0)
        if seen > self.grade:
            self._run = max(self._run, 0) + 1
            if self._run >= _WORSE_AFTER:
                self.grade, self._run = Grade(self.grade + 1), 0
        elif self._seen(_MARGIN) < self.grade:
            self._run = min(self._run, 0) - 1
            if -self._run >= _BETTER_AFTER:
                self.grade, self._run = Grade(self.grade - 1), 0
        else:
            self._run = 0
        return self.grade

    def _seen(self, margin: float) -> Grade:
        """Return the worst grade any measurement asks for, with thresholds tightened by `margin`."""
        worst = 0
        for value, limits in ((self._rtt, _RTT_S), (self._lag, _ACK_LAG_S)):
            if value is not None:
                worst = max(worst, sum(value > limit * margin for limit in limits))
        if self._goodput is not None:
            worst = max(worst, sum(self._goodput * margin < limit for limit in _GOODPUT_BYTES_PER_S))
        return Grade(worst)


def _smooth(old: float | None, new: float | None) -> float | None:
    if new is None or old is None:
        return old if new is None else new
    return old + (new - old) * _SMOOTHING
