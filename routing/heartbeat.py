"""The heartbeat of a link: when to ping, what a round trip took, and when silence means it is lost.

Law of this file: only one ping is awaited at a time, and any frame is a sign of life.
"""

from __future__ import annotations

__all__ = ["Heartbeat"]


class Heartbeat:
    """Pings and signs of life of one link.

    Args:
        pause_s: between pings. dead_after_s: of silence, then the peer is lost.
        now: monotonic seconds of the link's begin.
    """

    __slots__ = ("_awaited", "_dead_after_s", "_heard_at", "_number", "_pause_s", "_pinged_at")

    def __init__(self, pause_s: float, dead_after_s: float, now: float) -> None:
        self._pause_s = pause_s
        self._dead_after_s = dead_after_s
        self._heard_at = self._pinged_at = now
        self._number = self._awaited = 0  # the last ping's number, and the one whose pong is to come

    @property
    def due_at(self) -> float:
        """When to look again: a ping is due, or the peer is lost."""
        return min(self._heard_at + self._dead_after_s, self._pinged_at + self._pause_s)

    def heard(self, now: float) -> None:
        """A frame came."""
        self._heard_at = now

    def pong(self, number: object, now: float) -> float | None:
        """Return the round trip in seconds if this answers the awaited ping."""
        if not self._awaited or number != self._awaited:
            return None
        self._awaited = 0
        return max(0.0, now - self._pinged_at)

    def lost(self, now: float) -> bool:
        """Return whether it was silent for too long."""
        return now - self._heard_at >= self._dead_after_s

    def ping(self, now: float) -> int:
        """Return the number of the ping that is due now, or 0."""
        if now - self._pinged_at < self._pause_s:
            return 0
        self._number = self._awaited = self._number + 1
        self._pinged_at = now
        return self._number
