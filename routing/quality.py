"""Quality: how good one client's network is, in three grades, and what each grade changes.

Law of this file: grades are sticky. A worse one is taken after two measurements in a row, a better
one after five that are better by a fifth, because a plan that flaps is worse than either plan.
Of two bad measurements in a row the better one counts at once, a single one is noise; good ones are
smoothed as TCP smooths its round trip (RFC 6298: 7/8 old + 1/8 new), but of four in a row the worst
counts at once: round trips are measured seldom. A client may ack as seldom as it likes: of an ack's
lag only what goes beyond its own pause counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final, NamedTuple

__all__ = ["PLANS", "Grade", "GradePlan", "Quality", "within"]


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

_GRADES: Final = tuple(Grade)
_RTT_S: Final = (0.150, 0.400)
"""Up to the first: GOOD; up to the second: FAIR; beyond: POOR."""
_ACK_LAG_S: Final = (0.300, 1.000)
_GOODPUT_BYTES_PER_S: Final = (65_536, 16_384)
"""At least the first: GOOD; at least the second: FAIR; below: POOR."""
_LASTS: Final = 8
"""Samples after which an old goodput or lag says nothing: only a saturated link can measure the one, only a
client that acks often the other."""
_SATURATED_BYTES: Final = 16_384
"""Bytes acked in one lag from which on they measure the network and not how much there was to say."""
_WORSE_AFTER: Final = 2
_BETTER_AFTER: Final = 5
_MARGIN: Final = 0.8
_SMOOTHING: Final = 0.125
_BAD_IN_A_ROW: Final = 2
_GOOD_IN_A_ROW: Final = 4


class _Estimate:
    """One smoothed measurement.

    Args:
        worse: 1 if larger is worse, -1 if smaller is.
        lasts: samples without it after which it is forgotten; 0 = never.
    """

    __slots__ = ("_age", "_lasts", "_newest", "_worse", "value")

    def __init__(self, worse: int, lasts: int = 0) -> None:
        self.value: float | None = None
        self._newest: list[float] = []  # a deque would take 600 bytes of every link
        self._worse = worse
        self._lasts = lasts
        self._age = 0

    def take(self, new: float | None) -> None:
        """Fold a measurement in; None = none this time."""
        if new is None:
            self._age += 1
            if self._lasts and self._age > self._lasts:
                self.value = None
            return
        self._age = 0
        new *= self._worse  # from here on: the larger, the worse
        old = new if self.value is None else self.value * self._worse
        self._newest = [*self._newest[1 - _GOOD_IN_A_ROW :], new]
        value = max(old, min(self._newest[-_BAD_IN_A_ROW:])) if new > old else old + (new - old) * _SMOOTHING
        if len(self._newest) == _GOOD_IN_A_ROW:
            value = min(value, max(self._newest))
        self.value = value * self._worse


class Quality:
    """Measurements of one link, folded into a grade."""

    __slots__ = ("_acked_at", "_goodput", "_lag", "_probe", "_rtt", "_run", "grade")

    def __init__(self) -> None:
        self.grade = Grade.GOOD
        self._rtt = _Estimate(1)
        self._lag = _Estimate(1, _LASTS)
        self._goodput = _Estimate(-1, _LASTS)
        self._probe: tuple[int, int, float] | None = None  # (seq, position acked when it was sent, sent at)
        self._acked_at: float | None = None  # when the newest ack came
        self._run = 0  # > 0: worse measurements in a row; < 0: better ones

    @property
    def rtt_s(self) -> float | None:
        """Smoothed round trip in seconds, or None before the first measurement."""
        return self._rtt.value

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
        before, self._acked_at = self._acked_at, now
        if self._probe is None or seq < self._probe[0]:
            return self.grade
        _, position, sent_at = self._probe
        self._probe = None
        lag_s = max(0.0, now - sent_at)
        moved = acked_position - position
        saturated = moved >= _SATURATED_BYTES and lag_s > 0
        return self.sample(
            ack_lag_s=_beyond_its_pause(lag_s, lag_s if before is None else now - before),
            goodput_bytes_per_s=moved / lag_s if saturated else None,
        )

    def sample(
        self,
        *,
        rtt_s: float | None = None,
        ack_lag_s: float | None = None,
        goodput_bytes_per_s: float | None = None,
    ) -> Grade:
        """Fold measurements in and return the grade.

        Args:
            rtt_s: ping to pong, or how long a pong is waited for already. ack_lag_s: event sent to its ack.
            goodput_bytes_per_s: acked bytes per second, only while there was always more to send.
        """
        self._rtt.take(rtt_s)
        self._lag.take(ack_lag_s)
        self._goodput.take(goodput_bytes_per_s)
        seen = self._seen(1.0)
        if seen > self.grade:
            self._run = max(self._run, 0) + 1
            if self._run >= _WORSE_AFTER:
                self.grade, self._run = Grade(self.grade + 1), 0
        elif self.grade and self._seen(_MARGIN) < self.grade:  # none is better than the best
            self._run = min(self._run, 0) - 1
            if -self._run >= _BETTER_AFTER:
                self.grade, self._run = Grade(self.grade - 1), 0
        else:
            self._run = 0
        return self.grade

    def _seen(self, margin: float) -> Grade:
        """Return the worst grade any measurement asks for, with thresholds tightened by `margin`."""
        worst = 0
        for value, (fair, poor) in ((self._rtt.value, _RTT_S), (self._lag.value, _ACK_LAG_S)):
            if value is not None and value > fair * margin:
                worst = 2 if value > poor * margin else worst or 1
        goodput = self._goodput.value
        if goodput is not None and goodput * margin < _GOODPUT_BYTES_PER_S[0]:
            worst = 2 if goodput * margin < _GOODPUT_BYTES_PER_S[1] else worst or 1
        return _GRADES[worst]


def within(grade: Grade, chunk_chars: int, flush_s: float) -> GradePlan:
    """Return what a link follows at a grade, given what was agreed: a good network gets just that."""
    asked = PLANS[grade]
    return GradePlan(min(chunk_chars, asked.chunk_chars), max(flush_s, asked.flush_s) if grade else flush_s)


def _beyond_its_pause(lag_s: float, pause_s: float) -> float | None:
    """Return what of an ack's lag is the network's, given the pause since the ack before; None = nobody knows."""
    if pause_s < lag_s:
        return lag_s - pause_s
    return lag_s if lag_s <= _ACK_LAG_S[0] else None
