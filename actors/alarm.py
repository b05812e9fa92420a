"""One timer for many deadlines: it rings at the earliest time it was set to, and is then forgotten.

Law of this file: setting a later time than the planned one costs a comparison and no timer; whoever
is rung looks at everything and sets the next time. So a handler that ends in time costs no timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from laneway.actors.ports import Clock

__all__ = ["Alarm", "nobody"]

_NEVER: Final = float("inf")
_MIN_DELAY_S: Final = 0.001
"""A timer may fire a clock tick early; looking again a millisecond later costs less than spinning."""


class Alarm:
    """Calls `ring` once, at or soon after the earliest time set; lives on the running loop.

    Args:
        ring: called without arguments; sets the alarm again if it wants to be rung again.
    """

    __slots__ = ("_at", "_clock", "_ring", "_timer")

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._at = _NEVER
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Ring at `at` (monotonic seconds) or before; infinity means never."""
        if at >= self._at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._at = at
        delay = max(_MIN_DELAY_S, at - self._clock.now())
        self._timer = asyncio.get_running_loop().call_later(delay, self._go_off)

    def close(self) -> None:
        """Ring no more, and forget whom. Idempotent."""
        self.cancel()
        self._ring = nobody

    def cancel(self) -> None:
        """Forget the planned time. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._at = None, _NEVER

    def _go_off(self) -> None:
        self._timer, self._at = None, _NEVER
        self._ring()


def nobody(*_: Any, **__: Any) -> None:
    """Stand where somebody was called, after the one who calls was let go: takes anything, and does nothing.

    Parts that hold each other by what they call are garbage that waits for the collector, with all they hold.
    """
