"""W4: three times what the handlers can do, one event in a hundred critical.

A handler takes 4 ms, eight run at once (2,000 a second in theory); 6,000 a second are offered, open
loop: an event has its time on the schedule and its latency counts from there, whenever it was really
sent. The question is what a critical event waits, against the same events alone.

What differs by design: the priority queue takes everything and its normal events wait for seconds;
laneway runs with its default limits per session and refuses at the door, with a time to retry after.
Laneway's cell has one slot more, for critical events only (nine handlers against eight). In the
engine row the answer to a critical event is critical too: it takes the session's urgent stream.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import msgpack

from benchmarks.link import SessionLink
from benchmarks.measure import percentile, settle
from benchmarks.workload import SESSIONS, Job
from laneway import Config, Context, Engine, EnvelopeView, Kind, Lane, Out
from laneway.actors.pool import PoolSpec
from laneway.actors.ports import Outcome
from laneway.engine.sections import DispatchConfig
from laneway.routing.classify import IN, OUT
from laneway.routing.envelope import Envelope, envelope

__all__ = ["ROWS", "Load", "Overload", "measure"]

HANDLE_S: Final = 0.004
WORKERS: Final = 8
OFFERED_PER_S: Final = 6_000
CRITICAL_EVERY: Final = 100
_TICK_S: Final = 0.001
_SETTLE_S: Final = 60.0
KINDS: Final = (
    Kind("W_WORK", Lane.NORMAL, direction=IN),
    Kind("W_STOP", Lane.CRITICAL, direction=IN, durable=False),
    Kind("W_STOPPED", Lane.CRITICAL, direction=OUT),
)
_CONFIG: Final = Config(dispatch=DispatchConfig(rate_per_s=1e6, burst=1e6))
"""Default caps; no rate limit, so that what is refused is refused for want of room."""


@dataclass(slots=True)
class Load:
    """What came of one run: latencies from the scheduled time, and who was refused."""

    critical_s: list[float] = field(default_factory=list)
    normal_s: list[float] = field(default_factory=list)
    refused: int = 0

    def done(self, lane: int, scheduled: float) -> None:
        """An event's result is here."""
        (self.critical_s if lane == Lane.CRITICAL else self.normal_s).append(time.monotonic() - scheduled)

    @property
    def settled(self) -> int:
        """Events answered one way or the other."""
        return len(self.critical_s) + len(self.normal_s) + self.refused


@dataclass(frozen=True, slots=True)
class Overload:
    """One row: the critical lane alone and under overload."""

    row: str
    offered: int
    critical: int
    alone_p50_ms: float
    alone_p99_ms: float
    critical_p50_ms: float
    critical_p99_ms: float
    ratio_p99: float
    normal_done: int
    normal_p99_ms: float
    refused: int
    repeats: int = 1
    critical_p99_min_ms: float = 0.0
    critical_p99_max_ms: float = 0.0

    def record(self) -> dict[str, Any]:
        """Return it as JSON fields."""
        return asdict(self)


Offer = Callable[[int, int, float], Awaitable[None] | None]
"""(number, lane, scheduled time): put one event in."""


async def _schedule(count: int, offer: Offer, *, critical_only: bool) -> None:
    """Offer each event at its time; late ones at once."""
    begun = time.monotonic()
    for number in range(count):
        critical = number % CRITICAL_EVERY == 0
        if critical_only and not critical:
            continue
        scheduled = begun + number / OFFERED_PER_S
        while (early := scheduled - time.monotonic()) > 0:  # noqa: ASYNC110 - a schedule, nothing to be told by
            await asyncio.sleep(max(early, _TICK_S))
        pending = offer(number, Lane.CRITICAL if critical else Lane.NORMAL, scheduled)
        if pending is not None:
            await pending


async def _settled(load: Load, count: int) -> None:
    async with asyncio.timeout(_SETTLE_S):
        while load.settled < count:  # noqa: ASYNC110 - three kinds of answer, one of them given without a call
            await asyncio.sleep(_TICK_S)


async def priority_queue(count: int, critical_only: bool) -> Load:
    """Eight workers at one asyncio.PriorityQueue."""
    load, queue = Load(), asyncio.PriorityQueue[tuple[int, int, float]]()

    async def work() -> None:
        while True:
            lane, _, scheduled = await queue.get()
            await asyncio.sleep(HANDLE_S)
            load.done(lane, scheduled)

    workers = [asyncio.create_task(work()) for _ in range(WORKERS)]
    await _schedule(count, lambda number, lane, due: queue.put_nowait((lane, number, due)), critical_only=critical_only)
    await _settled(load, _expected(count, critical_only))
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return load


async def dispatcher(count: int, critical_only: bool) -> Load:
    """The dispatcher without sessions' streams; latency until the handler has answered."""
    load = Load()

    async def handle(env: Envelope, context: Context) -> None:
        await asyncio.sleep(HANDLE_S)

    async with Engine(_CONFIG, kinds=KINDS) as engine:
        engine.dispatcher.add_pool(PoolSpec("work", ("W_WORK", "W_STOP"), handle, concurrency=WORKERS))

        def over(env: Envelope, outcome: Outcome) -> None:
            assert outcome.status == "handled", outcome
            load.done(Lane.CRITICAL if env[2] == "W_STOP" else Lane.NORMAL, float(env[11]))

        def offer(number: int, lane: int, scheduled: float) -> None:
            env = envelope(
                "W_STOP" if lane == Lane.CRITICAL else "W_WORK",
                producer="bench",
                counter=number + 1,
                tenant="t",
                session=f"s{number // 7 % SESSIONS}",
                lane=lane,
                body=repr(scheduled).encode(),
            )
            load.refused += engine.dispatcher.offer(env, over) is not None

        await _schedule(count, offer, critical_only=critical_only)
        await _settled(load, _expected(count, critical_only))
    return load


async def engine(count: int, critical_only: bool) -> Load:
    """Sessions and all; latency until the client has the result."""
    load = Load()

    async def handle(event: EnvelopeView, context: Context) -> Out:
        await asyncio.sleep(HANDLE_S)
        return Out("W_STOPPED" if event.kind == "W_STOP" else "CUSTOM", event.body)

    async with Engine(_CONFIG, kinds=KINDS) as engine_:
        engine_.pool("work", ["W_WORK", "W_STOP"], handle, concurrency=WORKERS)
        links = [await SessionLink.open(engine_, f"s{number}") for number in range(SESSIONS)]

        def offer(number: int, lane: int, scheduled: float) -> Awaitable[None]:
            body = msgpack.packb({"lane": int(lane), "due": scheduled})
            job = Job("W_STOP" if lane == Lane.CRITICAL else "W_WORK", lane, body)
            return links[number // 7 % SESSIONS].send([job])

        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(_read(link, load)) for link in links]
            await _schedule(count, offer, critical_only=critical_only)
            await _settled(load, _expected(count, critical_only))
            for reader in readers:
                reader.cancel()
        for link in links:
            await link.close()
    return load


async def _read(link: SessionLink, load: Load) -> None:
    while True:
        for received in await link.receive():
            event = msgpack.unpackb(received.envelope[11])
            load.done(event["lane"], event["due"])
        load.refused += len(link.refused)
        link.refused.clear()


def _expected(count: int, critical_only: bool) -> int:
    return -(-count // CRITICAL_EVERY) if critical_only else count


ROWS: Final = {"asyncio.PriorityQueue": priority_queue, "laneway dispatcher": dispatcher, "laneway engine": engine}


def measure(row: str, seconds: float, repeats: int = 1) -> Overload:
    """Run one row alone and overloaded, `repeats` times; returns the pair whose critical p99 is the median.

    Raises RuntimeError if an event is unaccounted for.
    """
    runs = sorted(
        (_once(row, int(OFFERED_PER_S * seconds)) for _ in range(repeats)), key=lambda run: run.critical_p99_ms
    )
    low, high = runs[0].critical_p99_ms, runs[-1].critical_p99_ms
    return replace(runs[len(runs) // 2], repeats=repeats, critical_p99_min_ms=low, critical_p99_max_ms=high)


def _once(row: str, count: int) -> Overload:
    settle()
    alone = asyncio.run(ROWS[row](count, True))
    settle()
    load = asyncio.run(ROWS[row](count, False))
    critical = _expected(count, True)
    if load.settled != count or len(load.critical_s) != critical or len(alone.critical_s) != critical:
        raise RuntimeError(
            f"{row}: {load.settled} of {count} settled; critical {len(load.critical_s)}, alone"
            f" {len(alone.critical_s)} of {critical}"
        )
    p99_s, alone_p99_s = percentile(load.critical_s, 0.99), percentile(alone.critical_s, 0.99)
    return Overload(
        row=row,
        offered=count,
        critical=critical,
        alone_p50_ms=percentile(alone.critical_s, 0.5) * 1e3,
        alone_p99_ms=alone_p99_s * 1e3,
        critical_p50_ms=percentile(load.critical_s, 0.5) * 1e3,
        critical_p99_ms=p99_s * 1e3,
        ratio_p99=p99_s / alone_p99_s,
        normal_done=len(load.normal_s),
        normal_p99_ms=percentile(load.normal_s, 0.99) * 1e3,
        refused=load.refused,
    )
