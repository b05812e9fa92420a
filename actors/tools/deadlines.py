"""Time limits of the calls of one tool, watched by one timer for all of them.

Law of this file: a limit that passes cancels the task that it was set in, once, and its owner can tell
that cancel from any other (as `asyncio.timeout` does); one that is ended in time leaves nothing behind.

A timer per call costs as much as the rest of a small tool: thousands that will be cancelled fill the
loop's heap. Limits of one tool come nearly in the order of their ends, and nearly none passes.
"""

from __future__ import annotations

import asyncio

from laneway.actors.alarm import Alarm
from laneway.actors.ports import Clock

__all__ = ["Deadlines", "Limit"]


class Limit:
    """One call's time limit.

    Attributes:
        at: clock seconds. task: what it cancels.
    """

    __slots__ = ("_before", "_passed", "at", "task")

    def __init__(self, task: asyncio.Task[object], at: float) -> None:
        self.task = task
        self.at = at
        self._before = task.cancelling()
        self._passed = False

    def cancel(self) -> None:
        """It has passed: cancel the task."""
        self._passed = True
        self.task.cancel()

    def caused(self) -> bool:
        """True if the cancel that has arrived is this limit's and no other is under way; ask once."""
        if not self._passed:
            return False
        self._passed = False
        return self.task.uncancel() <= self._before


class Deadlines:
    """The limits that are set now. O(1), but for the few that pass: O(set)."""

    __slots__ = ("_alarm", "_clock", "_open")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[Limit, None] = {}
        self._alarm = Alarm(clock, self._look)

    def __len__(self) -> int:
        return len(self._open)

    def set(self, at: float) -> Limit:
        """Set a limit (clock seconds, infinity: none) for the task that runs now; `end` it."""
        task = asyncio.current_task()
        assert task is not None, "a call runs in a task"
        limit = Limit(task, at)
        self._open[limit] = None
        self._alarm.set(at)
        return limit

    def end(self, limit: Limit) -> None:
        """Forget a limit; a cancel of its own that nobody met is taken back."""
        self._open.pop(limit, None)
        limit.caused()

    def _look(self) -> None:
        now, nearest = self._clock.now(), float("inf")
        for limit in list(self._open):
            if limit.at <= now:
                del self._open[limit]
                limit.cancel()
            else:
                nearest = min(nearest, limit.at)
        self._alarm.set(nearest)
