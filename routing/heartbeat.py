"""The heartbeat of a link: when to ping, what a round trip took, and when silence means it is lost.

Law of this file: only one ping is awaited at a time, and any frame is a sign of life. While data flows,
pings ride on its frames, twenty times as often: they stand in the same queue, so their round trip is the data's.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Heartbeat"]

_RIDE_S: Final = 0.5
_RIDES: Final = 20
_LATE_S: Final = 0.150
"""What a good network stays below (`quality.py`)."""


class Heartbeat:
    """Pings and signs of life of one link.

    Args:
        pause_s: between pings. dead_after_s: of silence, then the peer is lost.
        now: monotonic seconds of the link's begin.
    """

    __slots__ = (
        *("_answered", "_awaited", "_dead_after_s", "_heard_at", "_late_at", "_number", "_pause_s", "_pinged_at"),
        "_ride_s",
    )

    def __init__(self, pause_s: float, dead_after_s: float, now: float) -> None:
        self._pause_s = pause_s
        self._dead_after_s = dead_after_s
        self._ride_s = max(_RIDE_S, pause_s / _RIDES)
        self._heard_at = self._pinged_at = self._late_at = now
        self._answered = False  # it answers pings at all
        self._number = self._awaited = 0  # the last ping's number, and the one whose pong is to come

    @property
    def due_at(self) -> float:
        """When to look again: a ping is due, or the peer is lost."""
        return min(self._heard_at + self._dead_after_s, self._pinged_at + self._pause_s)

    def calm(self, now: float) -> bool:
        """Return whether nothing is to be done now: the peer is not lost, no ping due, no pong late."""
        late = self._awaited and self._answered and now - max(self._pinged_at, self._late_at) >= _LATE_S
        return not late and now - self._heard_at < self._dead_after_s and now - self._pinged_at < self._pause_s

    def heard(self, now: float) -> None:
        """A frame came."""
        self._heard_at = now

    def pong(self, number: object, now: float) -> float | None:
        """Return the round trip in seconds if this answers the awaited ping."""
        if not self._awaited or number != self._awaited:
            return None
        self._awaited = 0
        self._answered = True
        return max(0.0, now - self._pinged_at)

    def lost(self, now: float) -> bool:
        """Return whether it was silent for too long."""
        return now - self._heard_at >= self._dead_after_s

    def ping(self, now: float) -> int:
        """Return the number of the ping that is due now, or 0."""
        return self._send(now) if now - self._pinged_at >= self._pause_s else 0

    def ride(self, now: float) -> int:
        """Return the number of a ping to go with the data frame that is made now, or 0."""
        return self._send(now) if not self._awaited and now - self._pinged_at >= self._ride_s else 0

    def late_s(self, now: float) -> float:
        """Return how long a pong has been waited for, each time that is 150 ms longer, else 0."""
        if not self._awaited or not self._answered or now - max(self._pinged_at, self._late_at) < _LATE_S:
            return 0.0
        self._late_at = now
        return now - self._pinged_at

    def _send(self, now: float) -> int:
        self._number = self._awaited = self._number + 1
        self._pinged_at = now
        return self._number
