"""Worker processes: blocking, heavy or untrusted callables run here, never on the event loop.

Law of this file: a worker is started by exec of a tiny launcher (never fork), in its own session and
process group, with an empty environment, no inherited descriptor and a scratch directory of its own
as the only place to write; it confines itself (confinement.py) before it imports foreign code. It runs
one call at a time. A call that passes its deadline, is cancelled, floods its output or dies takes its
worker with it: SIGKILL to the group at once, since a callable may ignore anything softer. A worker
that answered stays warm for the next call. `close` leaves no process and no directory behind.

Measured: 13 ms for a bare `python -I`, 512 MiB RLIMIT_AS gives MemoryError, killpg returns in 5 ms.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from laneway.engine.runtime.worker import Measured, Worker, WorkerLimits
from laneway.routing.errors import ConfigError, ToolError, ToolTimeout, ToolUnavailable

__all__ = ["WorkerLimits", "WorkerPool"]


class WorkerPool:
    """A bounded pool of warm workers.

    Args:
        size: most processes at once. limits: what each may use.
        calls_per_worker: after so many calls a worker is replaced, which bounds what leaks.
        queue: callers that may wait for a worker.

    Workers are started when needed and reused by any caller: a callable that keeps secrets in globals
    wants a pool of its own. Owned by one event loop; `close` it.
    """

    def __init__(
        self,
        size: int = 2,
        *,
        limits: WorkerLimits | None = None,
        calls_per_worker: int = 1000,
        queue: int = 4096,
    ) -> None:
        if size < 1:
            raise ConfigError(f"a worker pool has at least 1 process, not {size}")
        self._limits = limits or WorkerLimits()
        self._calls_per_worker = calls_per_worker
        self._queue = queue
        self._free = size
        self._line: deque[asyncio.Future[None]] = deque()
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._reaping: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._closed = False
        self._wait_s = 0.0

    @property
    def queue_wait_s(self) -> float:
        """How long the most recent call waited for a worker, in seconds."""
        return self._wait_s

    def statistics(self) -> dict[str, int]:
        """Workers idle and busy, callers waiting."""
        return {"idle": len(self._idle), "busy": len(self._busy), "waiting": len(self._line)}

    async def run(
        self,
        target: str,
        arguments: Mapping[str, Any],
        *,
        timeout_s: float,
        convert: bool = False,
        trace: str = "",
        measured: Measured | None = None,
    ) -> str:
        """Run ``module:qualname`` or ``/path/file.py:qualname`` with JSON arguments; return JSON text.

        Args:
            target: an importable callable. arguments: JSON values by name.
            timeout_s: for everything: waiting, starting, running.
            convert: let pydantic turn JSON values into the annotated types first.
            trace: traceparent that the callable finds in TRACEPARENT, or empty.
            measured: told, with a trace, how long the callable itself took; not if its worker is killed.

        Raises:
            ToolTimeout, ToolCrashed: it was stopped, or died.
            ToolDenied: it wrote outside its directory or did something else it may not.
            ToolError: it raised; reason LIMIT (memory, processes, files) or OUTPUT_TRUNCATED, or the type.
            ToolUnavailable: the pool is closed or its queue full. RuntimeUnavailable: no process starts.
        """
        request = {
            "target": target,
            "arguments": dict(arguments),
            "cpu_s": self._limits.cpu_s,
            "convert": convert,
            "output_bytes": self._limits.output_bytes,
            "trace": trace,
        }
        scope = asyncio.timeout(timeout_s)
        try:
            async with scope:
                await self._enter()
                try:
                    return await self._perform(target, request, measured)
                finally:
                    self._leave()
        except TimeoutError:
            if not scope.expired():
                raise
            raise ToolTimeout(f"{target} had not ended after {timeout_s:.1f} s and was killed") from None

    async def _perform(self, target: str, request: Mapping[str, Any], measured: Measured | None) -> str:
        worker = self._warm(target) or await Worker.start(self._limits)
        self._busy.add(worker)
        answered = False
        try:
            value = await worker.call(request, measured)
            answered = True
            return value
        except ToolError:
            answered = worker.alive
            raise
        finally:
            self._busy.discard(worker)
            self._ended.set()
            if answered and not self._closed and worker.alive and worker.calls < self._calls_per_worker:
                self._idle.append(worker)
            else:
                self._retire(worker)

    def _warm(self, target: str) -> Worker | None:
        while self._idle:
            known = next((worker for worker in self._idle if target in worker.seen), self._idle[-1])
            self._idle.remove(known)
            if known.alive:
                return known
            self._retire(known)
        return None

    def _retire(self, worker: Worker) -> None:
        worker.kill()
        task = asyncio.get_running_loop().create_task(worker.reap(), name="worker-reap")
        self._reaping.add(task)
        task.add_done_callback(self._reaping.discard)

    async def _enter(self) -> None:
        if self._closed:
            raise ToolUnavailable("the worker pool is closed; the engine is shutting down", reason="CLOSED")
        asked_at = time.monotonic()
        if self._free > 0 and not self._line:
            self._free -= 1
        elif len(self._line) >= self._queue:
            raise ToolUnavailable(
                f"{len(self._line)} calls already wait for a worker", reason="WORKER_QUEUE", retry_after_ms=1000
            )
        else:
            await self._stand_in_line()
        self._wait_s = time.monotonic() - asked_at

    async def _stand_in_line(self) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave()  # the worker came with the cancel: hand it on
            elif place in self._line:
                self._line.remove(place)
            raise

    def _leave(self) -> None:
        while self._line:
            place = self._line.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._free += 1

    async def close(self) -> None:
        """Kill every worker, fail every caller in line, wait until all are gone. Idempotent."""
        self._closed = True
        for worker in self._busy:
            worker.kill()  # its call ends as crashed and retires it
        while self._idle:
            self._retire(self._idle.pop())
        for place in self._line:
            if not place.done():
                place.set_exception(ToolUnavailable("the worker pool was closed", reason="CLOSED"))
        self._line.clear()
        while self._busy:
            self._ended.clear()
            await self._ended.wait()
        while self._reaping:
            await asyncio.gather(*self._reaping)
