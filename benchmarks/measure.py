"""How a figure comes about: repeat, take the median, count the processor's time, prove the count.

Law of this file: a stage that did not finish all its events has no figure.

Processor time is counted over everything that took part: this process, children that ended inside the
measured block, and live processes the stage names (`Stopwatch.watch`: an engine, a nats-server). It is
read from the scheduler's clocks, in nanoseconds; on a shared machine it is steadier than the wall clock.

Before each row the heap so far is frozen (`gc.freeze`), for every row alike: it is mostly this
harness and its libraries, and a full collection of it is a pause of 20 to 50 ms (measured) that would
be charged to whoever allocates next. A server does well to do the same once it has started.
"""

from __future__ import annotations

import asyncio
import gc
import math
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = [
    "Options",
    "Row",
    "Stage",
    "Stopwatch",
    "percentile",
    "processor_s",
    "ratio",
    "repeated",
    "repeated_here",
    "settle",
]


@dataclass(frozen=True, slots=True)
class Options:
    """How much to run; the defaults are the workloads as defined.

    Attributes:
        events: of W1. calls: of W2. streams: of W3, with so many tokens each. edits: of a document.
        users: at once. sessions: open at once, at most as many as an engine keeps awake.
        repeats: repetitions of each row; the median counts.
        seconds: of open loop (W1, state) and of overload (W4).
        overload_repeats: repetitions of each row of W4 and of the catalogue, and of updates to subscribers.
        starts: fresh processes for the start-up figures. soak_seconds: of the soak, its warm-up not counted.
    """

    events: int = 20_000
    calls: int = 2_000
    streams: int = 100
    burst_tokens: int = 200
    paced_tokens: int = 150
    edits: int = 6_400
    users: int = 2_000
    sessions: int = 10_000
    repeats: int = 5
    seconds: float = 3.0
    overload_repeats: int = 3
    starts: int = 5
    soak_seconds: float = 60.0

    @classmethod
    def quick(cls) -> Options:
        """Return sizes that show whether the harness works; too small to quote."""
        return cls(
            events=4_000,
            calls=512,
            streams=20,
            burst_tokens=50,
            paced_tokens=25,
            edits=640,
            users=200,
            sessions=500,
            repeats=1,
            seconds=0.5,
            overload_repeats=1,
            starts=1,
            soak_seconds=6.0,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report.

    Attributes:
        workload: "W1" and so on. row: who did it. what: unit of `values` ("events/s").
        values: of all repetitions. median: of them.
        cpu_us: processor microseconds per event over all processes involved; the median; NaN if not counted.
        extra: further figures by name with unit ("p99_ms"), or words.
    """

    workload: str
    row: str
    what: str
    values: tuple[float, ...]
    median: float
    cpu_us: float
    extra: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return it as JSON fields; NaN, which JSON lacks, becomes None."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    def figure(self, name: str) -> float | None:
        """Return `median`, `cpu_us` or a number of `extra`; None if there is none."""
        value = getattr(self, name, None) if name in ("median", "cpu_us") else self.extra.get(name)
        return float(value) if isinstance(value, int | float) and not math.isnan(value) else None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def ratio(rows: Sequence[Row], workload: str, row: str, base: str, figure: str = "median") -> float | None:
    """Return a figure of `row` divided by the same of `base`; None if either is missing. O(rows)."""
    found = {each.row: each.figure(figure) for each in rows if each.workload == workload}
    over, under = found.get(row), found.get(base)
    return over / under if over is not None and under else None


def settle() -> None:
    """Collect the garbage of earlier rows and freeze what is left."""
    gc.collect()
    gc.freeze()


def processor_s(pid: int) -> float:
    """Return the processor seconds that a live process has used so far, all threads; NaN where Linux does not tell.

    The id is that of clock_getcpuclockid(3): the process number, complemented, above three bits of kind.
    """
    return time.clock_gettime((~pid << 3) | 2) if sys.platform == "linux" else math.nan


def _used_s(pid: int) -> float:
    """`processor_s`; nothing for one that has ended, as an idle worker of Ray may."""
    try:
        return processor_s(pid)
    except OSError:
        return 0.0


def _ended_children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Stopwatch:
    """Times its `with` block; garbage of earlier rows is collected before.

    Attributes:
        notes: further figures that the stage found (`note`), by name with unit.
    """

    def __init__(self) -> None:
        self.notes: dict[str, Any] = {}
        self.wall_s = self.cpu_s = 0.0
        self.others_s: dict[str, float] = {}
        self._watched: dict[str, Sequence[int]] = {}
        self._before_s: dict[int, float] = {}

    def watch(self, name: str, *pids: int) -> None:
        """Count live processes too, under one name; call before the block, and end them after it.

        One that ends in the block counts nothing.
        """
        self._watched[name] = pids

    def note(self, **figures: Any) -> None:
        """Keep further figures of this repetition."""
        self.notes.update(figures)

    def __enter__(self) -> Stopwatch:
        settle()
        self._before_s = {pid: _used_s(pid) for pids in self._watched.values() for pid in pids}
        self._own_s = time.process_time() + _ended_children_s()
        self._begun = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self.wall_s = time.perf_counter() - self._begun
        own_s = time.process_time() + _ended_children_s() - self._own_s
        self.others_s = {
            name: sum(max(_used_s(pid) - self._before_s[pid], 0.0) for pid in pids)
            for name, pids in self._watched.items()
        }
        self.cpu_s = own_s + sum(self.others_s.values())


Stage = Callable[[Stopwatch], Awaitable[int]]
"""Does its work inside `with watch:` and returns how many events came back."""


def repeated(workload: str, row: str, stage: Stage, count: int, repeats: int, what: str = "events/s") -> Row:
    """Run a stage `repeats` times, each on a fresh loop. Raises RuntimeError if events are missing."""
    watches = [asyncio.run(_timed(f"{workload} {row}", stage, count)) for _ in range(repeats)]
    return _row(workload, row, what, count, watches)


async def repeated_here(workload: str, row: str, stage: Stage, count: int, repeats: int, what: str = "events/s") -> Row:
    """As `repeated`, on the running loop: for stages around something that stays up between repetitions."""
    watches = [await _timed(f"{workload} {row}", stage, count) for _ in range(repeats)]
    return _row(workload, row, what, count, watches)


async def _timed(name: str, stage: Stage, count: int) -> Stopwatch:
    watch = Stopwatch()
    done = await stage(watch)
    if done != count:
        raise RuntimeError(f"{name}: {done} of {count} events came back")
    return watch


def _row(workload: str, row: str, what: str, count: int, watches: Sequence[Stopwatch]) -> Row:
    values = tuple(count / watch.wall_s for watch in watches)
    cpu_us = sorted(watch.cpu_s / count * 1e6 for watch in watches)
    extra = {"count": count, "cpu_us_min": cpu_us[0], "cpu_us_max": cpu_us[-1]}
    for name in watches[0].others_s:
        extra[f"{name}_cpu_us"] = statistics.median(watch.others_s[name] / count * 1e6 for watch in watches)
    for name, value in watches[0].notes.items():
        numbers = isinstance(value, int | float)
        extra[name] = statistics.median(watch.notes[name] for watch in watches) if numbers else value
    return Row(workload, row, what, values, statistics.median(values), statistics.median(cpu_us), extra)


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the element at floor(n x share) of the sorted samples; NaN if there are none."""
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * share))] if samples else math.nan
