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
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.channels import Opened, Way
from benchmarks.measure import Stopwatch
from benchmarks.sweep import HANDLE_S, WORKERS, Due, Offer, Subject, Tally
from benchmarks.token_source import Reading, tokens
from benchmarks.token_streams import Ask
from benchmarks.token_streams import Opener as OpenStreams
from benchmarks.tool import wait
from benchmarks.tool_calls import Opened as OpenedCalls
from benchmarks.tool_calls import Opener as OpenCalls
from benchmarks.workload import IN_FLIGHT, POOLS, Job

__all__ = ["ELSEWHERE", "NAME", "RayActors", "cluster", "processes", "ray_actors", "two_nodes"]

NAME: Final = "Ray async actors"
_STORE_BYTES: Final = 80 * 1024 * 1024
_CPUS: Final = 8
"""As many as Ray shall believe in, so that fractional hosts and actors fit on a small machine."""
ELSEWHERE: Final = "elsewhere"
"""What only the second of `two_nodes` has: whoever asks for it is not at the driver's node."""


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

    async def work(self, body: bytes) -> bytes:
        """W4: 4 ms of work."""
        await asyncio.sleep(HANDLE_S)
        return body


@contextmanager
def cluster() -> Iterator[None]:
    """A local Ray for the time of the block; its workers run at normal priority, as everything else here."""
    with _connected(num_cpus=_CPUS, include_dashboard=False, object_store_memory=_STORE_BYTES):
        yield


@contextmanager
def two_nodes() -> Iterator[None]:
    """A Ray of two nodes on this machine, with this process at the first; the second one has `ELSEWHERE`."""
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's spelling
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": _CPUS, "object_store_memory": _STORE_BYTES}
    nodes: Any = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        nodes.add_node(**node, resources={ELSEWHERE: _CPUS})
        with _connected(address=nodes.address):
            yield
    finally:
        nodes.shutdown()


@contextmanager
def _connected(**arguments: Any) -> Iterator[None]:
    import ray

    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's spelling
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    ray.init(
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
        **arguments,
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


@dataclass(frozen=True, slots=True)
class RayActors:
    """Actors that are up, as rows of the workloads."""

    events: Way
    calls: OpenCalls
    streams: OpenStreams
    overloaded: Subject


@asynccontextmanager
async def ray_actors(resources: Mapping[str, float] | None = None) -> AsyncIterator[RayActors]:
    """Actors for all workloads: one for each handler of W1, and one that works on eight calls at once for W4.

    `resources`: what each asks Ray for, besides a tenth of a CPU.
    """
    import ray

    make: Any = ray.remote(Handler)
    actors: list[Any] = [
        make.options(num_cpus=0.1, resources=resources, max_concurrency=at_once).remote()
        for at_once in (*(IN_FLIGHT,) * len(POOLS), WORKERS)
    ]
    for actor in actors:
        await _answer(actor.echo.remote(b""))
    try:
        yield RayActors(
            Way(NAME, _events(actors[:-1])),
            _calls(actors[0]),
            _streams(actors[0]),
            Subject(NAME, _overloaded(actors[-1])),
        )
    finally:
        for actor in actors:
            ray.kill(actor)


async def _answer(reference: Any) -> Any:
    return await asyncio.wrap_future(reference.future())


class _Calls:
    """W1: a call for each event, awaited by a task of its own."""

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


def _events(actors: Sequence[Any]) -> Any:
    @asynccontextmanager
    async def open_(watch: Stopwatch) -> AsyncIterator[Opened]:
        watch.watch("Ray", *processes())
        yield Opened([_Calls(actors)])

    return open_


def _calls(actor: Any) -> OpenCalls:
    """W2: a call for each tool call."""

    @asynccontextmanager
    async def open_(watch: Stopwatch) -> AsyncIterator[OpenedCalls]:
        async def call(number: int) -> int:
            return int(await _answer(actor.call.remote(number)))

        watch.watch("Ray", *processes())
        yield OpenedCalls(call)

    return open_


def _streams(actor: Any) -> OpenStreams:
    """W3: a streaming generator for each stream."""

    @asynccontextmanager
    async def open_(watch: Stopwatch, streams: int) -> AsyncIterator[Ask]:
        async def ask(number: int, request: str, reading: Reading) -> None:
            async for reference in actor.tokens.options(num_returns="streaming").remote(request):
                reading.take(await _answer(reference))

        watch.watch("Ray", *processes())
        yield ask

    return open_


def _overloaded(actor: Any) -> Any:
    """W4: the actor works on eight calls at once; Ray queues the rest in order."""

    @asynccontextmanager
    async def open_(tally: Tally, watch: Stopwatch) -> AsyncIterator[Offer]:
        tasks: set[asyncio.Task[None]] = set()

        async def one(due: Due) -> None:
            await _answer(actor.work.remote(due.body()))
            tally.finish(due)

        async def offer(events: Sequence[Due]) -> None:
            for due in events:
                task = asyncio.create_task(one(due))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        watch.watch("Ray", *processes())
        yield offer

    return open_
