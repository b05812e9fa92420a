"""When those who are turned away should come again: each at a time of its own.

Law of this file: never before the time that was meant, and at most half as much later. Who is told one
after the other is told times far apart: the multiples of the golden ratio fill a span most evenly
(Knuth, The Art of Computer Programming, 6.4), and need no random numbers.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Spread"]

_GOLDEN: Final = 0.6180339887498949
_WIDTH: Final = 0.5


class Spread:
    """Gives one time after the other. Every call O(1)."""

    __slots__ = ("_place",)

    def __init__(self) -> None:
        self._place = 0.0

    def ms(self, least_ms: float) -> int:
        """Return a time from `least_ms` to half as much again, in milliseconds."""
        self._place = (self._place + _GOLDEN) % 1.0
        return int(least_ms * (1.0 + _WIDTH * self._place))
