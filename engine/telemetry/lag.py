"""How late the event loop is: one timer that asks to be woken and looks at the clock.

Law of this file: one bounded task; it measures what every other timer and socket of this process
feels while something holds the loop, and costs ten wake-ups a second (0.15 % of a core). Who acts on the
lag is told each measurement, less what other programs took (ADR 18): to refuse events does not bring that back.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Final

from laneway.actors.ports import Clock, Probe

__all__ = ["LagTicker", "Starvation"]

_TICK_S: Final = 0.1
_BUSY: Final = 0.25
"""A process that has so much of a core is at work itself, however little the others leave it: saturated beside
six programs on two cores it still had 0.33. One with nothing to do has 0.00 to 0.03 (measured)."""
_SCHEDSTAT: Final = "/proc/thread-self/schedstat"


class Starvation:
    """How long the loop's thread was ready to run and other programs had the processor.

    Only what is theirs: nothing while this process uses a quarter of a core (then it may be its own threads that
    the loop waits for, or more work than it can do), and nothing while the loop is held by a call that waits.

    Args:
        schedstat: processor time, time spent waiting for a processor (both ns) and time slices of this thread, as
            Linux tells them; where there is no such file, nothing is others' fault.
        cpu: processor seconds of this process.
    """

    def __init__(self, schedstat: str = _SCHEDSTAT, cpu: Callable[[], float] = time.process_time) -> None:
        self._path = schedstat
        self._cpu = cpu
        self._file = -1
        self._waited_s = self._used_s = 0.0

    def open(self) -> None:
        """Begin; on the thread that is to be measured."""
        try:
            self._file = os.open(self._path, os.O_RDONLY)
        except OSError:
            return
        self.lost_s(0.0)

    def close(self) -> None:
        """End; idempotent."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def lost_s(self, elapsed_s: float) -> float:
        """Return the seconds lost to others since the last call, which was `elapsed_s` ago. Two system calls."""
        if self._file < 0:
            return 0.0
        before, used_before = self._waited_s, self._used_s
        self._waited_s, self._used_s = self._waited(), self._cpu()
        busy = self._used_s - used_before >= _BUSY * elapsed_s
        return 0.0 if busy else max(0.0, self._waited_s - before)

    def _waited(self) -> float:
        try:
            return int(os.pread(self._file, 64, 0).split()[1]) / 1e9
        except (OSError, ValueError, IndexError):  # a kernel that does not count it
            return 0.0


class LagTicker:
    """Measures `loop.lag` and `loop.starved` while it runs; `close` awaits its task.

    Args:
        starvation: what others took; by default of the thread that calls `start`.

    Attributes:
        tell: called with each measurement: seconds too late by this process's own doing, and monotonic now. It
            must not raise.
    """

    def __init__(self, clock: Clock, probe: Probe, starvation: Starvation | None = None) -> None:
        self.tell: Callable[[float, float], object] = lambda lag_s, now: None
        self._clock = clock
        self._starvation = starvation or Starvation()
        self._observe = probe.histogram("loop.lag")
        self._observe_starved = probe.histogram("loop.starved")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; on the loop that is to be measured. Idempotent."""
        if self._task is None:
            self._starvation.open()
            self._task = asyncio.get_running_loop().create_task(self._tick(), name="laneway loop lag")

    async def close(self) -> None:
        """Stop; idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._starvation.close()

    async def _tick(self) -> None:
        while True:
            due = self._clock.now() + _TICK_S
            await asyncio.sleep(_TICK_S)
            now = self._clock.now()
            lag_s = max(0.0, now - due)
            starved_s = min(lag_s, self._starvation.lost_s(_TICK_S + lag_s))
            self._observe(lag_s)
            self._observe_starved(starved_s)
            self.tell(lag_s - starved_s, now)
