"""A virtual-time event loop: an hour passes in milliseconds, and a seed gives the same run again.

Law of this file: nothing here waits for real time and nothing does I/O. asyncio promises that
ready callbacks run in the order in which they became ready, so the loop keeps that order; the
disorder of a real system comes in where it really arises, as seeded delays at every network and
disk boundary. When no timer and no callback is left while the main task still waits, that is a
deadlock and is raised as one.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

__all__ = ["Deadlock", "SimLoop", "VirtualClock", "run"]

T = TypeVar("T")


class Deadlock(AssertionError):
    """Everything waits and nothing will ever wake it."""


class _NoInput(selectors.BaseSelector):
    """A selector without files: instead of waiting it moves the loop's clock."""

    def __init__(self) -> None:
        self.loop: SimLoop | None = None

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert self.loop is not None
        if timeout is None:
            raise Deadlock(f"nothing is ready and no timer is set at {self.loop.time():.3f} s of virtual time")
        if timeout > 0:
            self.loop.advance(timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


class SimLoop(asyncio.SelectorEventLoop):
    """Event loop whose time jumps to the next timer as soon as nothing is ready."""

    def __init__(self) -> None:
        self._virtual_s = 1_000.0
        selector = _NoInput()
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        """Virtual monotonic seconds."""
        return self._virtual_s

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._virtual_s += seconds


class VirtualClock:
    """The Clock port over a SimLoop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        """Virtual monotonic seconds."""
        return self._loop.time()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to completion in virtual time; tasks left over are an error, as a leak would be."""
    loop = SimLoop()
    try:
        result = loop.run_until_complete(main)
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
        assert not left, f"tasks left running: {[task.get_name() for task in left]}"
        return result
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
