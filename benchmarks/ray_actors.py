"""Ray at its best use for the same work: async actors, many awaited calls in flight, workers not niced.

Law of this file: a call per event, as people write it; awaiting goes through `ref.future()`, since
awaiting a reference itself leaks (https://github.com/ray-project/ray/issues/45895).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.channels import Opened, Way
from benchmarks.measure import Stopwatch
from benchmarks.sweep import HANDLE_S, WORKERS, Due, Offer, Subject, Tally
from benchmarks.token_source import Reading, tokens
from benchmarks.token_streams import Ask
from benchmarks.tool import wait
from benchmarks.tool_calls import Opened as OpenedCalls
from benchmarks.workload import IN_FLIGHT, POOLS, Job

__all__ = ["CALLS", "EVENTS", "NAME", "OVERLOADED", "STREAMS", "cluster", "processes"]

NAME: Final = "Ray async actors"
_STORE_BYTES: Final = 80 * 1024 * 1024
_CPUS: Final = 8
"""As many as Ray shall believe in, so that fractional hosts and actors fit on a small machine."""


class Handler:
    """The handlers of all workloads, as an async actor."""

    async def echo(self, body: bytes) -> bytes:
        """W1: give back what came."""
        return body

    async def call(self, number: int) -> int:
        """W2: a tool that waits."""
        return await wait(number)

    async def tokens(self, request: str) -> AsyncIterator[str]:
        """W3: a streaming generator."""
        asked = json.loads(request)
        async for token in tokens(asked["count"], asked["gap_s"]):
            yield token

    async def work(self, lane: int, due: float) -> tuple[int, float]:
        """W4: 4 ms of work."""
        await asyncio.sleep(HANDLE_S)
        return lane, due


@contextmanager
def cluster() -> Iterator[None]:
    """A local Ray for the time of the block; its workers run at normal priority, as everything else here."""
    import ray

    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's spelling
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    ray.init(
        num_cpus=_CPUS,
        include_dashboard=False,
        object_store_memory=_STORE_BYTES,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    try:
        yield
    finally:
        ray.shutdown()


def processes() -> list[int]:
    """Return the ids of all live processes below this one: Ray's own and its workers. Linux."""
    if sys.platform != "linux":
        return []
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # it has ended meanwhile
        children.setdefault(parent, []).append(int(path.parent.name))
    found, waiting = list[int](), [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


async def _answer(reference: Any) -> Any:
    return await asyncio.wrap_future(reference.future())


@asynccontextmanager
async def _actors(watch: Stopwatch, count: int, at_once: int) -> AsyncIterator[list[Any]]:
    """Actors that are up; they and Ray's processes are counted."""
    import ray

    make: Any = ray.remote(Handler).options(num_cpus=0.1, max_concurrency=at_once)
    actors: list[Any] = [make.remote() for _ in range(count)]
    for actor in actors:
        await _answer(actor.echo.remote(b""))
    watch.watch("Ray", *processes())
    try:
        yield actors
    finally:
        for actor in actors:
            ray.kill(actor)


# ---- W1 -----------------------------------------------------------------------------------------


class _Calls:
    """A call for each event, awaited by a task of its own."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self._way = {kind: actor for actor, kinds in zip(actors, POOLS.values(), strict=True) for kind in kinds}
        self._came: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, batch: Sequence[Job]) -> None:
        for job in batch:
            task = asyncio.create_task(self._one(self._way[job.kind], job.body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _one(self, actor: Any, body: bytes) -> None:
        self._came.append(await _answer(actor.echo.remote(body)))
        self._news.set()

    async def receive(self) -> list[bytes]:
        await self._news.wait()
        self._news.clear()
        came = list(self._came)
        self._came.clear()
        return came


@asynccontextmanager
async def _events(watch: Stopwatch) -> AsyncIterator[Opened]:
    async with _actors(watch, len(POOLS), IN_FLIGHT) as actors:
        yield Opened([_Calls(actors)])


EVENTS: Final = Way(NAME, _events)


# ---- W2, W3, W4 ---------------------------------------------------------------------------------


@asynccontextmanager
async def CALLS(watch: Stopwatch) -> AsyncIterator[OpenedCalls]:  # noqa: N802 - a row, as the others
    """W2: a call for each tool call."""
    async with _actors(watch, 1, IN_FLIGHT) as (actor,):

        async def call(number: int) -> int:
            return int(await _answer(actor.call.remote(number)))

        yield OpenedCalls(call)


@asynccontextmanager
async def STREAMS(watch: Stopwatch, streams: int) -> AsyncIterator[Ask]:  # noqa: N802 - a row, as the others
    """W3: a streaming generator for each stream."""
    async with _actors(watch, 1, IN_FLIGHT) as (actor,):

        async def ask(number: int, request: str, reading: Reading) -> None:
            async for reference in actor.tokens.options(num_returns="streaming").remote(request):
                reading.take(await _answer(reference))

        yield ask


@asynccontextmanager
async def _work(tally: Tally, watch: Stopwatch) -> AsyncIterator[Offer]:
    """W4: one actor that works on eight calls at once; Ray queues the rest in order."""
    tasks: set[asyncio.Task[None]] = set()
    async with _actors(watch, 1, WORKERS) as (actor,):

        async def one(due: Due) -> None:
            tally.done(*await _answer(actor.work.remote(int(due.lane), due.due)))

        async def offer(events: Sequence[Due]) -> None:
            for due in events:
                task = asyncio.create_task(one(due))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        yield offer


OVERLOADED: Final = Subject(NAME, _work)
