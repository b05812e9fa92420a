"""A soak: a minute of everything at once over real gRPC, after which memory has settled and nothing is left.

    make soak                   # the same as: python -m benchmarks.soak --seconds 60

The engine is a process of its own, its log on disk. Visitors come and go in some two hundred sessions
(`soak_people`): they read answers, have events handled, call tools, cancel, fail, read slowly and leave,
and are cut off. Memory is looked at in two ways, because one alone can be deceived:

- Resident memory, four times a second from /proc: its slope, and its growth in grains of 64 KiB. It is a high-water
  mark: how much is in use goes up and down by megabytes with how many sessions are awake, and allocators keep what was
  once needed. So a warm-up goes before:
  before a soak of a minute or more one minute, so that what is remembered for a minute (cancels) is, and then, on top
  of that, two thirds of the time with twice the visitors and a crowd of 400 sessions that are all awake at once, so
  that the most that is ever needed at once has been needed.
- What is held at rest, when all have left before and after the minute (`soak_served.held`): what each visit left
  behind, however small, is in it, also where it still fits into memory that is resident anyway.

Law of this file: memory has settled if the 95 % interval of the resident memory's growth (`trend`) includes zero, and
at rest no more is held than before, but for what is bounded and not full yet; nothing is left if every gauge is zero
again, and there are no more tasks, descriptors and threads in both processes than before (up to 16 threads of gRPC's
own pool aside). Else, or if a visitor was served wrongly, the exit status is 1.
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

__all__ = ["ENGINE", "WORKLOAD", "Soaked", "growth", "left_over", "main", "row", "run", "soak", "table", "threads_of"]

WORKLOAD: Final = "soak"
ENGINE: Final = "engine's process"
HELD_MORE: Final = {"blocks": 5_000, "malloc_kib": 512}
"""What may be held more at rest: remembered cancels and places of rows since the last mark (100 KiB) come and go.
If each visit left one object behind, these would be 4,000 blocks and more a minute."""
_WARM_SHARE: Final = 2 / 3
_REMEMBERED_S: Final = 60.0
"""The longest that an engine remembers anything of what is over; a soak that is shorter cannot tell it apart."""
_AT_ONCE: Final = 400
"""Sessions awake at once at the end of the warm-up: on a fast machine some 220 are, between two looks for idle ones."""
_EVERY_S: Final = 0.25
_BLOCKS: Final = 24
_GRAIN_KIB: Final = 64
"""Memory is counted in so much: a page (4 KiB) for each of malloc's arenas (8 a core, two cores), which threads touch
when they please. Two grains more in a minute are seen as growth."""
_QUIET_S: Final = 30.0
_RAMP_S: Final = 10.0
"""Until as many sessions as usual are awake again: twice what the engine takes to put idle ones to sleep."""
_LOOK_S: Final = 0.25
_GRPC_POOL: Final = "event_engine"
_GRPC_POOL_MOST: Final = 16
"""gRPC's pool keeps 4 to 16 threads, by the cores; it starts one more when all are busy, and ends one that had nothing
to do for 20 s (its work_stealing_thread_pool.cc): small things wake them in turn, so two idle minutes ended none."""
_HOUR_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a soak found.

    Attributes:
        seconds: measured, after the warm-up. memory: (seconds, resident KiB) since then.
        counts: what the visitors did in that time. left: gauge -> how much of it was left, of those that were.
        rested, held: what was held at rest before it and after it, by what tells it.
    """

    seconds: float
    memory: Sequence[tuple[float, float]]
    counts: Mapping[str, int]
    left: Mapping[str, float]
    rested: Mapping[str, int]
    held: Mapping[str, int]

    @property
    def slope(self) -> Trend:
        """Of the memory, in KiB an hour."""
        return trend([(at / _HOUR_S, size) for at, size in blocks(self.memory, _BLOCKS)])

    @property
    def settled(self) -> bool:
        """Whether memory does not grow, as far as can be told."""
        return growth(self.memory).low <= 0.0 and all(more <= HELD_MORE[name] for name, more in self.kept.items())

    @property
    def kept(self) -> Mapping[str, int]:
        """How much more was held at rest after it than before it."""
        return {name: count - self.rested[name] for name, count in self.held.items()}

    @property
    def passed(self) -> bool:
        """Whether memory settled and nothing is left."""
        return self.settled and not self.left


def growth(memory: Sequence[tuple[float, float]]) -> Trend:
    """Of (seconds, KiB), counted in whole grains, in KiB an hour."""
    return trend([(at / _HOUR_S, size // _GRAIN_KIB * _GRAIN_KIB) for at, size in blocks(memory, _BLOCKS)])


async def soak(seconds: float, status: Callable[[str], None] = lambda _: None) -> Soaked:
    """Soak an engine for so long, warm-up and ends not counted. Raises Lost if a visitor was served wrongly."""
    async with server("soak") as program:
        target, _, side = program.address.partition(",")
        people, memory = People(target), list[tuple[float, float]]()
        try:
            status("soak: warm-up")
            await _warm_up(people, target, seconds)
            before, rested = await _quiet(program, side)
            people.counts.clear()
            ramp_s = min(_RAMP_S, seconds)
            async with asyncio.TaskGroup() as group:
                group.create_task(people.stay(ramp_s + seconds))
                await asyncio.sleep(ramp_s)
                await _watch(program, seconds, memory, status)
        except BaseExceptionGroup as errors:
            raise leaves(errors)[0] from errors
        after, held = await _quiet(program, side, before)
        return Soaked(seconds, memory, dict(people.counts), left_over(before, after), rested, held)


async def _warm_up(people: People, target: str, seconds: float) -> None:
    """Have all needed at once that is ever needed: what is remembered, then twice the visitors, then a crowd."""
    remembered_s = _REMEMBERED_S if seconds >= _REMEMBERED_S else 0.0
    warm_s = seconds * _WARM_SHARE
    async with asyncio.TaskGroup() as group:
        group.create_task(people.stay(remembered_s + warm_s))
        await asyncio.sleep(remembered_s)
        group.create_task(People(target, "more-").stay(warm_s))
        await asyncio.sleep(warm_s / 2)
        group.create_task(People(target).be_there(int(min(_AT_ONCE, seconds * _AT_ONCE / _REMEMBERED_S))))


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


async def _quiet(
    program: Program, side: str, before: Mapping[str, float] | None = None
) -> tuple[Mapping[str, float], Mapping[str, int]]:
    """Wait until nothing is left, or as long as that may take; returns what is then, and what is held."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _QUIET_S
    while True:
        gc.collect()
        found, held = await _gauges(program, side)
        if not left_over(before or found, found) or loop.time() > until:
            return found, held
        await asyncio.sleep(_LOOK_S)


async def _gauges(program: Program, side: str) -> tuple[Mapping[str, float], Mapping[str, int]]:
    """Ask the engine's process, and count what the kernel knows of both."""
    host, _, port = side.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    told = json.loads(await reader.readline())
    await reader.read()  # to its end: the engine has closed this connection, and it is not counted
    writer.close()
    await writer.wait_closed()
    tasks = sum(task is not asyncio.current_task() for task in asyncio.all_tasks())
    found = {
        **told["gauges"],
        **{f"engine's tasks, {name}": count for name, count in told["tasks"].items()},
        **_of_process("engine", program.pid),
        **_of_process("visitors", os.getpid()),
        "visitors' tasks": tasks,
    }
    return found, told["held"]


def _of_process(name: str, pid: int) -> dict[str, float]:
    return {
        f"{name}'s descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        f"{name}'s threads": threads_of([_name_of(pid, task) for task in os.listdir(f"/proc/{pid}/task")]),
    }


def threads_of(names: Sequence[str]) -> int:
    """Return how many threads count; gRPC's own pool does as far as it is beyond the largest that it keeps."""
    pool = names.count(_GRPC_POOL)
    return len(names) - min(pool, _GRPC_POOL_MOST)


def _name_of(pid: int, task: str) -> str:
    """Of a thread; empty if it has just ended."""
    try:
        return Path(f"/proc/{pid}/task/{task}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


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
        "rested": dict(found.rested),
        "held": dict(found.held),
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
    grown = growth(extra["memory_kib"])
    made.add_row("its slope, 95 % interval", f"{rows[0].median / 1024:+,.1f} MiB/h, {interval}")
    made.add_row(
        f"its growth in grains of {_GRAIN_KIB} KiB", f"{grown.low / 1024:+,.1f} to {grown.high / 1024:+,.1f} MiB/h"
    )
    made.add_row("of each visit", f"{extra['bytes_per_visit']:+,.0f} bytes")
    for name, count in extra["held"].items():
        made.add_row(f"held at rest, {name}", f"{extra['rested'][name]:,}, then {count:,}")
    made.add_row("settled", "yes" if extra["settled"] else "NO")
    for name, count in sorted(extra["counts"].items()):
        made.add_row(name, f"{count:,}")
    left = extra["left_over"]
    made.add_row("left over", ", ".join(f"{name} {count:g}" for name, count in left.items()) if left else "nothing")
    return made


def main() -> None:
    """Soak, print, and exit with 1 if memory grows or something is left."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="measured; what goes before is longer")
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
