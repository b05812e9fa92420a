"""What a stage is, and how its cost comes about.

Law of this file: a stage runs one class of the product in isolation, on the events of W1, and has a
figure only if that class itself counted every event. What feeds it is made before the clock starts;
each repetition gets fresh objects, and the heap so far is frozen before it (see `measure.settle`).

Processor time, not wall time, is the figure: on a shared machine it is the steadier one. Memory is
measured in a pass of its own, since tracing it costs more than the stages do:

* calls: function calls of Python per event (`sys.setprofile`), C functions included. It is the same in
  every run, so that a change shows even where the machine is too noisy to time it.
* kept: blocks (`sys.getallocatedblocks`) and bytes (tracemalloc) that are there after the stage and
  were not before, per event: what the product holds on to.
* peak: tracemalloc's highest bytes while one batch is in the stage, above what it kept before, per
  event; the mean over batches. Blocks that come and go inside a step show here only.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from benchmarks.measure import Row, settle
from benchmarks.workload import SESSIONS, jobs
from laneway.routing.envelope import Envelope, envelope

__all__ = ["ALWAYS", "PATHS", "Batches", "Stage", "Work", "batches", "cost", "in_batches", "results"]

PATHS: Final = ("embedded", "served", "client")
"""Whose sum a stage belongs to: an engine and its caller in one process, the engine's process behind
gRPC, and the client's process."""

ALWAYS: Final = PATHS[:2]
"""The engine's part on both ways."""

_WEIGHED: Final = 1024
"""Events of the passes that count memory and calls: a multiple of every batch size."""
_T = TypeVar("_T")
Batches = list[list[Envelope]]


@dataclass(frozen=True, slots=True)
class Work:
    """One repetition, ready to run.

    Attributes:
        step: takes batch number i through the stage; may return an awaitable.
        counted: events the class says it has done; asked after the last step.
        close: releases what was opened.
    """

    step: Callable[[int], Any]
    counted: Callable[[], int]
    close: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of an event's path.

    Attributes:
        name: unique. layer: heading in the table.
        make: (events in batches) -> Work, called on a running loop.
        paths: sums it is part of; none for one that is shown beside (a variant of another).
        waits: its steps wait for a disk or a peer, so that wall time is told too.
        batches: sizes it is measured at.
    """

    name: str
    layer: str
    make: Callable[[Batches], Awaitable[Work]]
    paths: Sequence[str] = ()
    waits: bool = False
    batches: Sequence[int] = field(default=(1, 64))


def batches(count: int, size: int) -> Batches:
    """Return the first `count` events of W1 as batches of `size`, each batch of one session, as frames are."""
    work, counters, made, now = jobs(count), [0] * SESSIONS, [], time.monotonic()
    for number, start in enumerate(range(0, count, size)):
        session, batch = number % SESSIONS, []
        for job in work[start : start + size]:
            counters[session] += 1
            batch.append(
                envelope(
                    job.kind,
                    producer=f"bench{session}",
                    counter=counters[session],
                    tenant="t",
                    session=f"s{session}",
                    lane=job.lane,
                    body=job.body,
                    accepted=now,
                )
            )
        made.append(batch)
    return made


def results(events: Batches) -> Batches:
    """Return what the handlers of W1 send back for these events."""
    return [
        [
            envelope("CUSTOM", producer="engine/w", counter=e[1], tenant=e[3], session=e[4], lane=2, body=e[11])
            for e in batch
        ]
        for batch in events
    ]


def in_batches(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """Cut a sequence into pieces of `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


def cost(stage: Stage, batch: int, count: int, repeats: int) -> Row:
    """Measure one stage at one batch size. Raises RuntimeError if it did not count every event."""
    count -= count % batch
    cpu_us, wall_us = [], []
    for _ in range(repeats):
        cpu_s, wall_s = asyncio.run(_timed(stage, batches(count, batch), count))
        cpu_us.append(cpu_s / count * 1e6)
        wall_us.append(wall_s / count * 1e6)
    extra = {
        "layer": stage.layer,
        "batch": batch,
        "count": count,
        "cpu_us_min": min(cpu_us),
        "cpu_us_max": max(cpu_us),
        "paths": list(stage.paths),
        **asyncio.run(_weighed(stage, batches(min(count, _WEIGHED), batch))),
        "calls": asyncio.run(_called(stage, batches(min(count, _WEIGHED), batch))),
    }
    if stage.waits:
        extra["wall_us"] = statistics.median(wall_us)
    median = statistics.median(cpu_us)
    return Row("stages", f"{stage.name} @{batch}", "us CPU/event", tuple(cpu_us), median, median, extra)


async def _timed(stage: Stage, events: Batches, count: int) -> tuple[float, float]:
    work = await stage.make(events)
    settle()
    wall, cpu = time.perf_counter(), time.process_time()
    await _run(work.step, len(events))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    await _finish(stage, work, count)
    return cpu, wall


async def _run(step: Callable[[int], Any], count: int) -> None:
    for number in range(count):
        pending = step(number)
        if pending is not None:
            await pending


async def _finish(stage: Stage, work: Work, count: int) -> None:
    counted = work.counted()
    if work.close is not None:
        await work.close()
    if counted != count:
        raise RuntimeError(f"stage {stage.name!r} counted {counted} of {count} events")


async def _called(stage: Stage, events: Batches) -> float:
    """Count the calls of the stage and of whatever it makes run on the loop, the loop's own included."""
    count, calls = sum(map(len, events)), 0
    work = await stage.make(events)

    def seen(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        await _run(work.step, len(events))
    finally:
        sys.setprofile(None)
    await _finish(stage, work, count)
    return (calls - 1) / count  # less the one that ends it


async def _weighed(stage: Stage, events: Batches) -> dict[str, float]:
    count = sum(map(len, events))
    work = await stage.make(events)
    peaks = 0
    gc.collect()
    gc.disable()  # what is garbage in a cycle counts as kept: somebody has to collect it
    tracemalloc.start()
    try:
        blocks, before = sys.getallocatedblocks(), tracemalloc.get_traced_memory()[0]
        for number in range(len(events)):
            tracemalloc.reset_peak()
            held = tracemalloc.get_traced_memory()[0]
            pending = work.step(number)
            if pending is not None:
                await pending
            peaks += tracemalloc.get_traced_memory()[1] - held
        kept_bytes = tracemalloc.get_traced_memory()[0] - before
        kept_blocks = sys.getallocatedblocks() - blocks
    finally:
        tracemalloc.stop()
        gc.enable()
    await _finish(stage, work, count)
    return {"kept_blocks": kept_blocks / count, "kept_bytes": kept_bytes / count, "peak_bytes": peaks / count}
