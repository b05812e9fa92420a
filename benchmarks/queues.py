"""The baselines of W1: what twenty lines of asyncio do with the same events.

A queue per handler and a worker at each; no limits, no sessions, no fairness, no cancel, no answer
for a refused event, and nothing survives. Laneway pays for those, and these rows say how much.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.channels import Opened, Way
from benchmarks.measure import Stopwatch
from benchmarks.workload import POOLS, Job

__all__ = ["PLAIN", "PRIORITY"]


async def _echo(body: bytes) -> bytes:
    return body


class _Queues:
    """A queue per handler; entries are (lane, number, body), the lane 0 for all where there is none."""

    def __init__(self, queue: Any, *, prioritised: bool) -> None:
        self.queues = {pool: queue() for pool in POOLS}
        self._way = {kind: self.queues[pool] for pool, kinds in POOLS.items() for kind in kinds}
        self._prioritised = prioritised
        self._number = 0
        self.results: asyncio.Queue[bytes] = asyncio.Queue()

    async def send(self, batch: Sequence[Job]) -> None:
        for job in batch:
            self._number += 1
            self._way[job.kind].put_nowait((job.lane if self._prioritised else 0, self._number, job.body))

    async def receive(self) -> list[bytes]:
        came = [await self.results.get()]
        while not self.results.empty():
            came.append(self.results.get_nowait())
        return came

    async def work(self, queue: Any) -> None:
        while True:
            _, _, body = await queue.get()
            self.results.put_nowait(await _echo(body))


def _way(row: str, queue: Any, *, prioritised: bool) -> Way:
    @asynccontextmanager
    async def open_(watch: Stopwatch) -> AsyncIterator[Opened]:
        queues = _Queues(queue, prioritised=prioritised)
        workers = [asyncio.create_task(queues.work(one)) for one in queues.queues.values()]
        try:
            yield Opened([queues])
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    return Way(row, open_)


PLAIN = _way("asyncio.Queue", asyncio.Queue, prioritised=False)
PRIORITY = _way("asyncio.PriorityQueue", asyncio.PriorityQueue, prioritised=True)
