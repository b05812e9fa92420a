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
import heapq
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
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
        self.held: list[asyncio.Handle] = []
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

    def freeze(self) -> None:
        """Stand still as after SIGSTOP: nothing of it runs, and its timers become due unheard; O(1)."""
        _loop().frozen.add(self)

    def thaw(self) -> None:
        """Go on where it stood still, as after SIGCONT; harmless if it did not. O(what became due)."""
        _loop().thaw(self)

    async def kill(self) -> None:
        """End every task, also those that resist; call it from outside."""
        self.alive = False
        self.thaw()
        for turn in range(1000):
            if not self._tasks:
                _loop().bury(self)
                return
            for task in list(self._tasks):
                task.cancel()
            await asyncio.sleep(0 if turn < 20 else 0.05)
        raise AssertionError(f"tasks of {self.name} survive a kill: {self.tasks}")


_CURRENT: contextvars.ContextVar[Lifetime | None] = contextvars.ContextVar("lifetime", default=None)


def _loop() -> SimLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    return loop


def _make_task(loop: asyncio.AbstractEventLoop, work: Any, context: Any = None) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, context=context)
    lifetime = context.get(_CURRENT) if context is not None else _CURRENT.get()
    if lifetime is not None:
        lifetime.adopt(task)
    return task


class _NoInput(selectors.BaseSelector):
    """A selector without files: asyncio wants one, the loop never asks it."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        raise AssertionError("nothing here waits for files")

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


class SimLoop(asyncio.SelectorEventLoop):
    """Event loop whose time jumps to the next timer as soon as nothing is ready."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _timer_cancelled_count: int

    def __init__(self) -> None:
        self._virtual_s = 1_000.0
        self._busy_turns = 0
        self.frozen: set[Lifetime] = set()
        super().__init__(_NoInput())
        self.set_task_factory(_make_task)

    def time(self) -> float:
        """Virtual monotonic seconds."""
        return self._virtual_s

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """As asyncio's, without its checks for debugging: it is most of what a run does."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def _run_once(self) -> None:
        """One turn: what is ready now, or else what the next timer makes ready. O(ready + due)."""
        ready, scheduled = self._ready, self._scheduled
        self._drop_cancelled()
        if ready:
            self._busy_turns += 1
            if self._busy_turns > _BUSY_TURNS:
                raise Livelock(f"{_BUSY_TURNS} turns at {self._virtual_s:.3f} s without end: {self._describe_ready()}")
        elif scheduled:
            self._busy_turns = 0
            self._virtual_s = max(self._virtual_s, scheduled[0]._when) + _TICK_S  # type: ignore[attr-defined]
        else:
            raise Deadlock(f"nothing is ready and no timer is set at {self._virtual_s:.3f} s of virtual time")
        while scheduled and scheduled[0]._when <= self._virtual_s:  # type: ignore[attr-defined]
            due = heapq.heappop(scheduled)
            due._scheduled = False  # type: ignore[attr-defined]
            ready.append(due)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled and not (self.frozen and self._holds_back(handle)):  # type: ignore[attr-defined]
                handle._run()  # type: ignore[attr-defined]

    def _drop_cancelled(self) -> None:
        """Forget timers that nobody waits for, as asyncio does: at the head always, all when they are most."""
        scheduled = self._scheduled
        if self._timer_cancelled_count > 100 and self._timer_cancelled_count * 2 > len(scheduled):
            live = [timer for timer in scheduled if not timer.cancelled()]
            for timer in scheduled:
                timer._scheduled = not timer.cancelled()  # type: ignore[attr-defined]
            heapq.heapify(live)
            scheduled[:] = live
            self._timer_cancelled_count = 0
        while scheduled and scheduled[0]._cancelled:  # type: ignore[attr-defined]
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]

    def _holds_back(self, handle: asyncio.Handle) -> bool:
        lifetime = handle._context.get(_CURRENT)  # type: ignore[attr-defined]
        if lifetime not in self.frozen:
            return False
        lifetime.held.append(handle)
        return True

    def thaw(self, lifetime: Lifetime) -> None:
        """Let a frozen lifetime go on: all that became due in between is due now, in its order."""
        self.frozen.discard(lifetime)
        self._ready.extend(lifetime.held)
        lifetime.held.clear()

    def bury(self, lifetime: Lifetime) -> None:
        """Forget the timers of a lifetime that is over: a process that died calls nothing back. O(timers)."""
        for timer in self._scheduled:
            if timer._context.get(_CURRENT) is lifetime:  # type: ignore[attr-defined]
                timer.cancel()

    def _describe_ready(self) -> str:
        """Say what is about to run."""
        said = []
        for handle in list(self._ready)[:4]:
            task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
            said.append(
                f"{task.get_name()} at {task.get_stack()[-1:]}" if isinstance(task, asyncio.Task) else repr(handle)
            )
        return "; ".join(said)

    def advance(self, seconds: float) -> None:
        """Move the clock forward while nothing runs, as a suspended machine sees it: every timer is late."""
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
