"""A virtual-time event loop: an hour passes in milliseconds, and a seed gives the same run again.

Law of this file: nothing here waits for real time and nothing does I/O. asyncio promises that
ready callbacks run in the order in which they became ready, so the loop keeps that order; the
disorder of a real system comes in where it really arises, as seeded delays at every network and
disk boundary. When no timer and no callback is left while the main task still waits, that is a
deadlock and is raised as one.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, Final, TypeVar

__all__ = ["Deadlock", "Lifetime", "Livelock", "SimLoop", "VirtualClock", "run"]

T = TypeVar("T")

_BUSY_TURNS: Final = 20_000
_TICK_S: Final = 1e-9
"""Time always passes between two turns that are not busy, so that no rounding makes a timer early for ever."""


class Deadlock(AssertionError):
    """Everything waits and nothing will ever wake it."""


class Livelock(AssertionError):
    """Something keeps running without time passing."""


class Lifetime:
    """What dies together: the tasks of one simulated process, and all that they start.

    Membership is inherited through the context, as child tasks and timers inherit it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run a coroutine inside this lifetime."""
        context = contextvars.copy_context()
        context.run(_CURRENT.set, self)
        return asyncio.get_running_loop().create_task(work, name=name, context=context)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Count a task as ours until it is done."""
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks that still run."""
        return [task.get_name() for task in self._tasks]

    async def kill(self) -> None:
        """End every task, also those that resist; call it from outside."""
        self.alive = False
        for turn in range(1000):
            if not self._tasks:
                return
            for task in list(self._tasks):
                task.cancel()
            await asyncio.sleep(0 if turn < 20 else 0.05)
        raise AssertionError(f"tasks of {self.name} survive a kill: {self.tasks}")


_CURRENT: contextvars.ContextVar[Lifetime | None] = contextvars.ContextVar("lifetime", default=None)


def _make_task(loop: asyncio.AbstractEventLoop, work: Any, context: Any = None) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, context=context)
    lifetime = context.get(_CURRENT) if context is not None else _CURRENT.get()
    if lifetime is not None:
        lifetime.adopt(task)
    return task


class _NoInput(selectors.BaseSelector):
    """A selector without files: instead of waiting it moves the loop's clock."""

    def __init__(self) -> None:
        self.loop: SimLoop | None = None
        self._busy = 0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert self.loop is not None
        if timeout is None:
            raise Deadlock(f"nothing is ready and no timer is set at {self.loop.time():.3f} s of virtual time")
        if self.loop.busy:
            self._busy += 1
            if self._busy > _BUSY_TURNS:
                busy = self.loop.describe_ready()
                raise Livelock(f"{_BUSY_TURNS} turns at {self.loop.time():.3f} s of virtual time without end: {busy}")
        else:
            self.loop.advance(max(0.0, timeout) + _TICK_S)
            self._busy = 0
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
        self.set_task_factory(_make_task)
        self._clock_resolution = 0.0  # a timer is due when its time is over, not almost

    def time(self) -> float:
        """Virtual monotonic seconds."""
        return self._virtual_s

    @property
    def busy(self) -> bool:
        """True if callbacks wait to run now."""
        return bool(self._ready)  # type: ignore[attr-defined]

    def describe_ready(self) -> str:
        """Say what is about to run."""
        said = []
        for handle in list(self._ready)[:4]:  # type: ignore[attr-defined]
            task = getattr(handle._callback, "__self__", None)
            said.append(
                f"{task.get_name()} at {task.get_stack()[-1:]}" if isinstance(task, asyncio.Task) else repr(handle)
            )
        return "; ".join(said)

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
        for _ in range(100):
            left = [task for task in asyncio.all_tasks(loop) if not task.done()]
            for task in left:
                task.cancel()
            if not left:
                break
            loop.run_until_complete(asyncio.sleep(0.1))
        loop.close()
