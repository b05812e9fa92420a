"""W1: what an event costs there and back, and how long it takes.

20,000 events of 278 bytes to three handlers that do nothing, results back to the producer, at most
1,024 in flight; then open loop at half of the row's own maximum, and at 800 a second for all.

Law of this file: before a figure counts, a tenth of the events goes through unmeasured; afterwards
what each stage says it counted must be what was sent, or there is no figure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from benchmarks import appends, forced, nats_bus, paths, pykka_actors, queues, raw_grpc, remote_engine, traced
from benchmarks.channels import Way, check, closed_loop, open_loop
from benchmarks.counts import require
from benchmarks.measure import Options, Row, Stage, Stopwatch, percentile, repeated
from benchmarks.process import NotInstalled
from benchmarks.workload import Job, jobs

__all__ = ["COMMON_PER_S", "WAYS", "late", "measure", "run", "through"]

COMMON_PER_S: Final = 800.0
"""A rate that every row can carry."""
_OPEN_EVENTS: Final = 60_000
"""Events of one open loop at most: a queue would take half a million a second."""

WAYS: Final[Sequence[Way]] = (
    queues.PLAIN,
    queues.PRIORITY,
    paths.CORE,
    paths.DISPATCHER,
    paths.FRAMES,
    paths.LISTS,
    forced.FORCED,
    forced.FORCED_LISTS,
    paths.CALLS,
    appends.APPENDS,
    paths.SQLITE,
    paths.SQLITE_LISTS,
    traced.SAMPLED,
    remote_engine.FRAMES,
    remote_engine.CALLS,
    raw_grpc.FRAMES,
    raw_grpc.MESSAGES,
    raw_grpc.UNARY,
    pykka_actors.EVENTS,
    nats_bus.EVENTS,
)


def run(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Measure every row. Raises Lost if a row's counts differ."""
    rows = []
    for way in WAYS:
        status(f"W1 {way.row}")
        try:
            rows.append(measure(way, options, status))
        except NotInstalled as error:
            status(f"W1 {way.row} is left out: {error}")
    return rows


def measure(way: Way, options: Options, status: Callable[[str], None] = lambda _: None) -> Row:
    """Return one row: throughput, then latency at two rates."""
    work = jobs(options.events)
    row = repeated("W1", way.row, through(way, work), len(work), options.repeats)
    return asyncio.run(late(way, row, options, status)) if way.open_loop else row


async def late(way: Way, row: Row, options: Options, status: Callable[[str], None]) -> Row:
    """Return the row with its latencies at two rates."""
    figures = dict(row.extra)
    for name, rate_per_s in (("half", row.median / 2), ("common", min(COMMON_PER_S, row.median / 2))):
        status(f"{row.workload} {way.row}, open loop at {rate_per_s:,.0f}/s")
        count = max(100, min(_OPEN_EVENTS, int(rate_per_s * options.seconds)))
        late_s = await _latency(way, jobs(count), rate_per_s)
        figures[f"{name}_per_s"] = rate_per_s
        figures[f"{name}_p50_ms"] = percentile(late_s, 0.5) * 1e3
        figures[f"{name}_p99_ms"] = percentile(late_s, 0.99) * 1e3
    return replace(row, extra=figures)


def through(way: Way, work: Sequence[Job], patience_s: float = 60.0) -> Stage:
    """Return the closed loop over one way, as a stage to repeat; each loop may take `patience_s`."""

    async def stage(watch: Stopwatch) -> int:
        async with way.open(watch) as opened:
            warm = work[: len(work) // 10]
            check(way, warm, await closed_loop(way, opened.channels, warm, patience_s))
            await require(way.row, opened.counts, len(warm), {})
            before = await opened.counts()
            with watch:
                back = await closed_loop(way, opened.channels, work, patience_s)
            check(way, work, back)
            await require(way.row, opened.counts, len(work), before)
        return len(back)

    return stage


async def _latency(way: Way, work: Sequence[Job], rate_per_s: float) -> list[float]:
    async with way.open(Stopwatch()) as opened:
        late_s = await open_loop(way, opened.channels, work, rate_per_s)
        await require(way.row, opened.counts, len(work), {})
    return late_s
