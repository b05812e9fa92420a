"""How late the event loop is: one timer that asks to be woken and looks at the clock.

Law of this file: one bounded task; it measures what every other timer and socket of this process
feels while something holds the loop, and costs ten wake-ups a second (0.15 % of a core). Who acts on the
lag is told each measurement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from laneway.actors.ports import Clock, Probe

__all__ = ["LagTicker"]

_TICK_S: Final = 0.1


class LagTicker:
    """Measures `loop.lag` while it runs; `close` awaits its task.

    Attributes:
        tell: called with each measurement: seconds too late, and monotonic now. It must not raise.
    """

    def __init__(self, clock: Clock, probe: Probe) -> None:
        self.tell: Callable[[float, float], object] = lambda lag_s, now: None
        self._clock = clock
        self._observe = probe.histogram("loop.lag")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; on the loop that is to be measured. Idempotent."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._tick(), name="laneway loop lag")

    async def close(self) -> None:
        """Stop; idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            due = self._clock.now() + _TICK_S
            await asyncio.sleep(_TICK_S)
            now = self._clock.now()
            lag_s = max(0.0, now - due)
            self._observe(lag_s)
            self.tell(lag_s, now)
