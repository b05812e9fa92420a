"""pykka: an actor, that is a thread, per handler.

Law of this file: the handlers' threads hand results over to the event loop in heaps, not one by one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks.channels import Opened, Way
from benchmarks.measure import Stopwatch
from benchmarks.process import NotInstalled
from benchmarks.workload import POOLS, Job

__all__ = ["EVENTS"]


class _Actors:
    """Tells events to actors, takes their results on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            import pykka
        except ImportError:
            raise NotInstalled("pykka is not installed") from None
        results: deque[bytes] = deque()

        class Handler(pykka.ThreadingActor):
            def on_receive(self, message: Any) -> None:
                results.append(message)
                if len(results) == 1:
                    loop.call_soon_threadsafe(news.set)

        self._results, self._news = results, asyncio.Event()
        news = self._news
        self._actors = {pool: Handler.start() for pool in POOLS}
        self._way = {kind: self._actors[pool] for pool, kinds in POOLS.items() for kind in kinds}

    async def send(self, batch: Sequence[Job]) -> None:
        for job in batch:
            self._way[job.kind].tell(job.body)

    async def receive(self) -> list[bytes]:
        if not self._results:
            self._news.clear()
            if not self._results:
                await self._news.wait()
        came = []
        while self._results:
            came.append(self._results.popleft())
        return came

    def stop(self) -> None:
        for actor in self._actors.values():
            actor.stop()


@asynccontextmanager
async def _open(watch: Stopwatch) -> AsyncIterator[Opened]:
    actors = _Actors(asyncio.get_running_loop())
    try:
        yield Opened([actors])
    finally:
        await asyncio.to_thread(actors.stop)


EVENTS: Final = Way("pykka", _open)
