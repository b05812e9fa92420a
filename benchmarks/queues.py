"""The baselines: what twenty lines of asyncio do with the same events.

A queue per handler and a worker at each; no limits, no sessions, no fairness, no cancel, no answer
for a refused event, and nothing survives. Laneway pays for those, and these rows say how much.
"""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.measure import Stage, Stopwatch
from benchmarks.workload import IN_FLIGHT, POOLS, Job

__all__ = ["plain_queue", "priority_queue"]


async def _echo(body: bytes) -> bytes:
    return body


def plain_queue(work: list[Job]) -> Stage:
    """asyncio.Queue per handler."""
    return lambda watch: _through(work, watch, asyncio.Queue, prioritised=False)


def priority_queue(work: list[Job]) -> Stage:
    """asyncio.PriorityQueue per handler; entries are (lane, number, body)."""
    return lambda watch: _through(work, watch, asyncio.PriorityQueue, prioritised=True)


async def _through(work: list[Job], watch: Stopwatch, queue: Any, *, prioritised: bool) -> int:
    queues = {pool: queue() for pool in POOLS}
    way = {kind: queues[pool] for pool, kinds in POOLS.items() for kind in kinds}
    results: asyncio.Queue[bytes] = asyncio.Queue()
    workers = [asyncio.create_task(_work(one, results)) for one in queues.values()]
    entries = [(way[job.kind], (job.lane if prioritised else 0, number, job.body)) for number, job in enumerate(work)]
    done = 0
    with watch:
        for number, (target, entry) in enumerate(entries):
            target.put_nowait(entry)
            while number - done >= IN_FLIGHT - 1:
                done += await _some(results)
        while done < len(entries):
            done += await _some(results)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return done


async def _work(queue: Any, results: asyncio.Queue[bytes]) -> None:
    while True:
        _, _, body = await queue.get()
        results.put_nowait(await _echo(body))


async def _some(results: asyncio.Queue[bytes]) -> int:
    """Wait for one result and take what else is there."""
    await results.get()
    taken = 1
    while not results.empty():
        results.get_nowait()
        taken += 1
    return taken
