"""What waits for one connection goes together: the first never waits for company, the rest for the one before.

Law of this file: what is handed in is bounded in bytes, goes in order, and is answered exactly once: with
a result, with its own refusal, or with StoreError once its deadline is over or its convoy failed. When a
convoy fails, what waits behind it fails too, instead of trying the same dead server one after another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from laneway.routing.errors import LanewayError, StoreError

__all__ = ["Convoy", "Job"]

_CONVOY_BYTES: Final = 1_048_576
"""So much is carried at once, or one job; the server does nothing else meanwhile (about 3 ms)."""


@dataclass(slots=True)
class Job:
    """One operation that waits or is under way."""

    load: Any
    size_bytes: int
    future: asyncio.Future[Any]
    late: asyncio.TimerHandle

    def settle(self, result: Any) -> None:
        """Tell who waits; an exception is raised there. Nothing happens if nobody waits any more."""
        self.late.cancel()
        if self.future.done():
            return
        if isinstance(result, Exception):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


class Convoy:
    """The task that carries jobs.

    Args:
        label: the server, in messages.
        carry: carries jobs and settles each; what it raises is told to those that it did not settle.
        max_pending_bytes: bound of what waits or is under way; beyond it `submit` raises StoreError.
        most: jobs carried at once.
        answer_s: a job that has no answer after this gets StoreError.
    """

    def __init__(
        self,
        label: str,
        carry: Callable[[Sequence[Job]], Awaitable[None]],
        *,
        max_pending_bytes: int,
        answer_s: float,
        most: int,
    ) -> None:
        self._label = label
        self._carry = carry
        self._max_pending_bytes = max_pending_bytes
        self._answer_s = answer_s
        self._most = most
        self._waiting: deque[Job] = deque()
        self._pending_bytes = 0
        self._wake = asyncio.Event()
        self._stopping = False
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"laneway store {label}")

    @property
    def pending_bytes(self) -> int:
        """What waits or is under way."""
        return self._pending_bytes

    def submit(self, load: Any, size_bytes: int) -> asyncio.Future[Any]:
        """Hand in a job and return the future of its result. Raises StoreError if too much waits. O(1)."""
        if self._stopping:
            raise StoreError(f"the store {self._label} is closed; open it again or use another one")
        if self._pending_bytes + size_bytes > self._max_pending_bytes:
            raise StoreError(
                f"{self._pending_bytes} bytes wait for {self._label}, {size_bytes} more are above store.pending_bytes: "
                "the server is too slow; retry later"
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        job = Job(load, size_bytes, future, loop.call_later(self._answer_s, self._give_up, future))
        self._pending_bytes += size_bytes
        self._waiting.append(job)
        self._wake.set()
        return future

    async def close(self, deadline_s: float) -> bool:
        """Carry what waits within `deadline_s`, then stop; returns whether all was carried. Idempotent."""
        self._stopping = True
        self._wake.set()
        await asyncio.wait([self._task], timeout=deadline_s)
        if self._task.done():
            return True
        self._task.cancel()
        await asyncio.wait([self._task])
        return False

    async def _run(self) -> None:
        """Carry until stopped; who waits when this ends, however it ends, is told."""
        jobs: list[Job] = []
        try:
            while await self._wait():
                jobs = self._take()
                await self._carry_all(jobs)
        finally:
            self._fail([*jobs, *self._waiting], StoreError(f"the store {self._label} was closed under way"))

    async def _wait(self) -> bool:
        """Return True once there is work, False when stopping and all is done."""
        while not self._waiting:
            if self._stopping:
                return False
            self._wake.clear()
            await self._wake.wait()
        return True

    def _take(self) -> list[Job]:
        """Return the next convoy; who has stopped waiting is left behind."""
        jobs: list[Job] = []
        total = 0
        while self._waiting and len(jobs) < self._most:
            if jobs and total + self._waiting[0].size_bytes > _CONVOY_BYTES:
                break
            job = self._waiting.popleft()
            if job.future.done():
                self._pending_bytes -= job.size_bytes
                job.late.cancel()
                continue
            total += job.size_bytes
            jobs.append(job)
        return jobs

    async def _carry_all(self, jobs: list[Job]) -> None:
        if not jobs:
            return
        try:
            await self._carry(jobs)
        except LanewayError as error:
            jobs = [*jobs, *self._waiting]
            self._waiting.clear()
            self._fail(jobs, error)
        except Exception as error:  # a bug, here or in the client library: who waits must hear of it
            self._fail(jobs, StoreError(f"{self._label}: {type(error).__name__}: {error}; this is a bug"))
        finally:
            self._pending_bytes -= sum(job.size_bytes for job in jobs)

    @staticmethod
    def _fail(jobs: Sequence[Job], error: Exception) -> None:
        for job in jobs:
            job.settle(type(error)(*error.args))

    def _give_up(self, future: asyncio.Future[Any]) -> None:
        if not future.done():
            future.set_exception(
                StoreError(f"{self._label} gave no answer in {self._answer_s:g} s; whether it was written is unknown")
            )
