"""How often is too often: the restart intensity of a supervisor, as in Erlang/OTP.

Law of this file: up to `limit` crashes in any `window_s` seconds are survived; one more is a verdict.
"""

from __future__ import annotations

from collections import deque

__all__ = ["CrashLog"]


class CrashLog:
    """Remembers the last crashes. O(1), bounded by the limit.

    Args:
        limit: crashes that are survived within the window. window_s: seconds.
    """

    __slots__ = ("_times", "_window_s", "total")

    def __init__(self, limit: int, window_s: float) -> None:
        self.total = 0
        self._times: deque[float] = deque(maxlen=limit + 1)
        self._window_s = window_s

    def add(self, now: float) -> bool:
        """Count a crash at `now` (monotonic seconds); True if it is one too many."""
        self.total += 1
        self._times.append(now)
        return len(self._times) == self._times.maxlen and now - self._times[0] <= self._window_s

    def forgive(self) -> None:
        """Begin anew; the total stays."""
        self._times.clear()
