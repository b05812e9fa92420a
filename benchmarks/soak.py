"""A soak: a minute of everything at once over real gRPC, after which memory has settled and nothing is left.

    make soak                   # the same as: python -m benchmarks.soak --seconds 60

The engine is a process of its own, its log on disk. Visitors come and go in some two hundred sessions
(`soak_people`): they read answers, have events handled, call tools, cancel, fail, read slowly and leave,
and are cut off. Two thirds of the time go before it as a warm-up with twice the visitors, so that the
most that is ever needed at once has been needed, and before a soak of a minute or more one minute with as many
as then, so that what is remembered for a minute (cancels) is; then the process's resident memory is read four
times a second from /proc.

Law of this file: memory has settled if the 95 % interval of its slope (`trend`) includes zero or lies below
16 MiB an hour (about 85 bytes a visit); nothing is left if every gauge is zero again, and there are no more
tasks, descriptors and threads in both processes than before. Else, or if a visitor was served wrongly, the
exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.edge import resident_bytes
from benchmarks.environment import environment
from benchmarks.measure import Options, Row
from benchmarks.process import Program, server
from benchmarks.soak_people import People, leaves
from benchmarks.soak_plot import draw
from benchmarks.trend import Trend, blocks, trend

__all__ = ["ENGINE", "WORKLOAD", "Soaked", "left_over", "main", "row", "run", "soak", "table"]

WORKLOAD: Final = "soak"
ENGINE: Final = "engine's process"
LIMIT_KIB_PER_H: Final = 16_384.0
_PRELUDE_S: Final = 2.0
_WARM_SHARE: Final = 2 / 3
_REMEMBERED_S: Final = 60.0
"""The longest that an engine remembers anything of what is over; a soak that is shorter cannot tell it apart."""
_EVERY_S: Final = 0.25
_BLOCKS: Final = 24
_QUIET_S: Final = 30.0
_LOOK_S: Final = 0.25
_HOUR_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a soak found.

    Attributes:
        seconds: measured, after the warm-up. memory: (seconds, resident KiB) since then.
        counts: what the visitors did. left: gauge -> how much of it was left, of those that were.
    """

    seconds: float
    memory: Sequence[tuple[float, float]]
    counts: Mapping[str, int]
    left: Mapping[str, float]

    @property
    def slope(self) -> Trend:
        """Of the memory, in KiB an hour."""
        return trend([(at / _HOUR_S, size) for at, size in blocks(self.memory, _BLOCKS)])

    @property
    def settled(self) -> bool:
        """Whether memory does not grow, as far as can be told."""
        return self.slope.low <= 0.0 or self.slope.high < LIMIT_KIB_PER_H

    @property
    def passed(self) -> bool:
        """Whether memory settled and nothing is left."""
        return self.settled and not self.left


async def soak(seconds: float, status: Callable[[str], None] = lambda _: None) -> Soaked:
    """Soak an engine for so long, warm-up and ends not counted. Raises Lost if a visitor was served wrongly."""
    async with server("soak") as program:
        target, _, side = program.address.partition(",")
        status("soak: prelude")
        await People(target, "first-").stay(_PRELUDE_S)
        before = await _quiet(program, side, None)
        status("soak: warm-up")
        people, memory = People(target), list[tuple[float, float]]()
        warm_s = seconds * _WARM_SHARE
        before_s = warm_s + (_REMEMBERED_S if seconds >= _REMEMBERED_S else 0.0)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(People(target, "more-").stay(warm_s))
                group.create_task(people.stay(before_s + seconds))
                await asyncio.sleep(before_s)
                await _watch(program, seconds, memory, status)
        except BaseExceptionGroup as errors:
            raise leaves(errors)[0] from errors
        after = await _quiet(program, side, before)
        return Soaked(seconds, memory, dict(people.counts), left_over(before, after))


async def _watch(
    program: Program, seconds: float, memory: list[tuple[float, float]], status: Callable[[str], None]
) -> None:
    """Read the engine's memory for so long."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while (at := loop.time() - begun) < seconds:
        memory.append((at, resident_bytes(program.pid) / 1024))
        status(f"soak: {at:.0f} s of {seconds:.0f}, {memory[-1][1] / 1024:.1f} MiB")
        await asyncio.sleep(_EVERY_S)


# ---- gauges -------------------------------------------------------------------------------------


async def _quiet(program: Program, side: str, before: Mapping[str, float] | None) -> Mapping[str, float]:
    """Wait until nothing is left, or as long as that may take; returns what is then."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _QUIET_S
    while True:
        gc.collect()
        found = await _gauges(program, side)
        if not left_over(before or found, found) or loop.time() > until:
            return found
        await asyncio.sleep(_LOOK_S)


async def _gauges(program: Program, side: str) -> Mapping[str, float]:
    """Ask the engine's process, and count what the kernel knows of both."""
    host, _, port = side.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    told = json.loads(await reader.readline())
    writer.close()
    await writer.wait_closed()
    tasks = sum(task is not asyncio.current_task() for task in asyncio.all_tasks())
    return {
        **told["gauges"],
        **{f"engine's tasks, {name}": count for name, count in told["tasks"].items()},
        **_of_process("engine", program.pid),
        **_of_process("visitors", os.getpid()),
        "visitors' tasks": tasks,
    }


def _of_process(name: str, pid: int) -> dict[str, float]:
    return {
        f"{name}'s descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        f"{name}'s threads": len(os.listdir(f"/proc/{pid}/task")),
    }


def left_over(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return what there is too much of: more than before of tasks, descriptors and threads, anything of all else."""
    return {
        name: value - base
        for name, value in after.items()
        if value > (base := before.get(name, 0.0) if _kept(name) else 0.0)
    }


def _kept(name: str) -> bool:
    return "tasks" in name or name.endswith(("descriptors", "threads"))


# ---- told ---------------------------------------------------------------------------------------


def run(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Soak for `soak_seconds`; one row. Raises Lost if a visitor was served wrongly."""
    return [row(asyncio.run(soak(options.soak_seconds, status)))]


def row(found: Soaked) -> Row:
    """Return what was found as a row; its value is the slope in KiB an hour."""
    slope = found.slope
    visits = found.counts.get("sessions", 0)
    extra: dict[str, Any] = {
        "seconds": found.seconds,
        "low_kib_per_h": slope.low,
        "high_kib_per_h": slope.high,
        "settled": float(found.settled),
        "left": float(len(found.left)),
        "left_over": dict(found.left),
        "counts": dict(found.counts),
        "memory_kib": [[round(at, 2), size] for at, size in found.memory],
        "bytes_per_visit": slope.slope * 1024 * found.seconds / 3600 / visits if visits else math.nan,
    }
    return Row(WORKLOAD, ENGINE, "KiB an hour", (slope.slope,), slope.slope, math.nan, extra)


def table(rows: Sequence[Row]) -> Table:
    """Return the row for people."""
    extra = rows[0].extra
    sizes = [size for _, size in extra["memory_kib"]]
    made = Table(title=f"Soak: {extra['seconds']:g} s of visitors over gRPC")
    made.add_column("what")
    made.add_column("figure", justify="right")
    made.add_row("resident memory, first and last", f"{sizes[0] / 1024:.2f} MiB, {sizes[-1] / 1024:.2f} MiB")
    interval = f"{extra['low_kib_per_h'] / 1024:+,.1f} to {extra['high_kib_per_h'] / 1024:+,.1f}"
    made.add_row("its slope, 95 % interval", f"{rows[0].median / 1024:+,.1f} MiB/h, {interval}")
    made.add_row("of each visit", f"{extra['bytes_per_visit']:+,.0f} bytes")
    made.add_row("settled", "yes" if extra["settled"] else "NO")
    for name, count in sorted(extra["counts"].items()):
        made.add_row(name, f"{count:,}")
    left = extra["left_over"]
    made.add_row("left over", ", ".join(f"{name} {count:g}" for name, count in left.items()) if left else "nothing")
    return made


def main() -> None:
    """Soak, print, and exit with 1 if memory grows or something is left."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="measured; what goes before is as long")
    parser.add_argument("--to", type=Path, help="where to draw the memory (.svg or .png)")
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    with console.status("soak") as shown:
        found = asyncio.run(soak(asked.seconds, shown.update))
    console.print(table([row(found)]))
    if asked.to is not None:
        draw(row(found).extra, environment(), asked.to)
        console.print(f"drawn to {asked.to}", highlight=False)
    sys.exit(0 if found.passed else 1)


if __name__ == "__main__":
    main()
