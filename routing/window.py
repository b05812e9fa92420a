"""Credit: how far a link may send, as an absolute position that is never lowered.

Law of this file: credit is the position up to which the reader has made room, not a count of
messages. Absolute and never lowered (as QUIC's MAX_DATA, RFC 9000 section 4.1), so a lost, repeated
or reordered grant does no harm. Transport flow control is no substitute: a stalled gRPC reader lets
4 MiB through before a write blocks (measured), which is 33 s in front of an urgent event at 1 Mbit/s.
"""

from __future__ import annotations

from typing import Final

__all__ = ["INITIAL_WINDOW_BYTES", "MAX_WINDOW_BYTES", "MIN_WINDOW_BYTES", "CreditWindow", "GrantPolicy"]

INITIAL_WINDOW_BYTES: Final = 65_536
"""Credit a link starts with, before the first grant arrives."""
MIN_WINDOW_BYTES: Final = 16_384
MAX_WINDOW_BYTES: Final = 1_048_576

_HORIZON_S: Final = 0.2
"""A window holds what arrives in this time: twice a bad round trip, so that a fast reader never waits."""


class CreditWindow:
    """The sender's half of one stream's credit.

    Args:
        start_position: where sending starts.
        initial: bytes granted from the start.
    """

    __slots__ = ("_granted",)

    def __init__(self, start_position: int, initial: int = INITIAL_WINDOW_BYTES) -> None:
        self._granted = start_position + initial

    @property
    def granted(self) -> int:
        """Absolute position up to which sending may start."""
        return self._granted

    def grant(self, position: int) -> bool:
        """Raise the grant; a lower or repeated one is ignored. Returns whether it rose."""
        if position <= self._granted:
            return False
        self._granted = position
        return True

    def can_send(self, start_position: int) -> bool:
        """Say whether an event that starts there may be sent; its end may overshoot by that one event."""
        return start_position < self._granted


class GrantPolicy:
    """The reader's half: when to grant how much more.

    A new grant is due once half of the window is used, so that grants cost a message per half
    window and a round trip fits into the other half. The window follows the rate at which the
    application reads: what it reads in 200 ms, within 16 KiB to 1 MiB. A pause, in which there was nothing to
    read, counts as 200 ms at most: it says nothing about the reader, and what comes after it does not wait.

    Args:
        start_position: what the reader has consumed when it starts.
        granted: what the sender was granted already.
        window_bytes: first window.
    """

    __slots__ = ("_at", "_consumed", "_granted", "_idle_at", "_window")

    def __init__(self, start_position: int, granted: int, window_bytes: int = INITIAL_WINDOW_BYTES) -> None:
        self._window = min(max(window_bytes, MIN_WINDOW_BYTES), MAX_WINDOW_BYTES)
        self._consumed = start_position
        self._granted = granted
        self._at: float | None = None
        self._idle_at: float | None = None

    @property
    def granted(self) -> int:
        """Last position granted."""
        return self._granted

    @property
    def window_bytes(self) -> int:
        """Present window."""
        return self._window

    def arrived(self, now: float) -> None:
        """Something came to read. O(1)."""
        idle_at, self._idle_at = self._idle_at, None
        if idle_at is not None and self._at is not None:
            self._at += max(0.0, now - idle_at - _HORIZON_S)

    def due(self, consumed: int, now: float, *, idle: bool = False) -> int | None:
        """Return the new absolute grant if one should be sent now, having consumed that position.

        `idle` = that is all that came: until something `arrived`, the reader has nothing to do.
        """
        if not idle:
            self._idle_at = None
        elif self._idle_at is None:
            self._idle_at = now
        if self._granted - consumed > self._window // 2:
            return None
        if self._at is not None and now > self._at:
            rate = (consumed - self._consumed) / (now - self._at)
            self._window = int(min(max(rate * _HORIZON_S, MIN_WINDOW_BYTES), MAX_WINDOW_BYTES))
        self._at, self._consumed = now, consumed
        if consumed + self._window <= self._granted:
            return None
        self._granted = consumed + self._window
        return self._granted
