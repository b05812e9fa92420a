"""How a figure comes about: repeat, take the median, count the processor's time, prove the count.

Law of this file: a stage that did not finish all its events has no figure. Processor time is this
process's, user and system; on a shared machine it is steadier than the wall clock.

Before each row the heap so far is frozen (`gc.freeze`), for every row alike: it is mostly this
harness and its libraries, and a full collection of it is a pause of 20 to 50 ms (measured) that would
be charged to whoever allocates next. A server does well to do the same once it has started.
"""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["Clocked", "Figure", "Stage", "Stopwatch", "environment", "percentile", "repeated", "settle"]


@dataclass(frozen=True, slots=True)
class Clocked:
    """One repetition: what it took to do `count` events."""

    count: int
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of some repetitions, and how far they lay apart."""

    row: str
    count: int
    repeats: int
    events_per_s: float
    cpu_us: float
    cpu_us_min: float
    cpu_us_max: float

    def record(self) -> dict[str, Any]:
        """Return it as JSON fields."""
        return asdict(self)


def settle() -> None:
    """Collect the garbage of earlier rows and freeze what is left."""
    gc.collect()
    gc.freeze()


class Stopwatch:
    """Times its `with` block; garbage of earlier rows is collected before."""

    def __enter__(self) -> Stopwatch:
        settle()
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *exc: object) -> None:
        self._wall = time.perf_counter() - self._wall
        self._cpu = time.process_time() - self._cpu

    def clocked(self, count: int) -> Clocked:
        """Return what the block took."""
        return Clocked(count, self._wall, self._cpu)


Stage = Callable[[Stopwatch], Awaitable[int]]
"""Does its work inside `with watch:` and returns how many events came back."""


def repeated(row: str, stage: Stage, count: int, repeats: int) -> Figure:
    """Run a stage `repeats` times, each on a fresh loop. Raises RuntimeError if events are missing."""
    runs = []
    for _ in range(repeats):
        watch = Stopwatch()
        done = asyncio.run(_count(stage, watch))
        if done != count:
            raise RuntimeError(f"{row}: {done} of {count} events came back")
        runs.append(watch.clocked(count))
    cpu_us = sorted(run.cpu_s / count * 1e6 for run in runs)
    return Figure(
        row,
        count,
        repeats,
        statistics.median(count / run.wall_s for run in runs),
        statistics.median(cpu_us),
        cpu_us[0],
        cpu_us[-1],
    )


async def _count(stage: Stage, watch: Stopwatch) -> int:
    return await stage(watch)


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the element at floor(n x share) of the sorted samples; NaN if there are none."""
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * share))] if samples else float("nan")


def environment() -> dict[str, Any]:
    """Return what a figure means nothing without: machine, commit, date."""
    root = Path(__file__).parent.parent
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git(root, "rev-parse", "--short=12", "HEAD"),
        "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no", "--", ":!benchmarks/results")),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _git(root: Path, *arguments: str) -> str:
    try:
        found = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""  # a source download has no history
    return found.stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
