"""W4: from nothing to ten times what the handlers can do; what does each lane wait?

A handler takes 4 ms and eight run at once: 2,000 a second nominally, about 1,900 in practice. Offered
are critical events alone (60 a second), then 1, 2, 3, 4 and 10 times 2,000 a second: 1 % critical, 29 %
high, 50 % normal, 20 % low; for 3 s each, 10x so long that it is as many events as 4x.

What differs by design: a queue takes everything, and what is not urgent waits for seconds; laneway
runs with its default limits per session and refuses at the door, with a time to retry after. A cell
of laneway has one slot more, for critical events only, which is told with each row (`slots`).

Law of this file: who is overloaded, and how it is told; how, is in `sweep`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from rich.table import Table

from benchmarks.measure import Options, Row, ratio
from benchmarks.overload_rows import EMBEDDED, PRIORITY
from benchmarks.overload_served import SERVED
from benchmarks.repetitions import Figures, Runs, engine_cpu_us, lane_figures, planned
from benchmarks.sweep import CROWD, NOMINAL_PER_S, Load, Subject, Tally, offered
from laneway.routing.lanes import LANE_NAMES, Lane

__all__ = ["LOADS", "SUBJECTS", "measure", "measure_here", "mixed", "ratios", "run", "run_once", "table"]

SUBJECTS: Final = (*EMBEDDED, *SERVED)
LOADS: Final[Mapping[str, float]] = {"alone": 0.03, "1x": 1.0, "2x": 2.0, "3x": 3.0, "4x": 4.0, "10x": 10.0}
"""Name -> share of the nominal rate; alone = 60 critical events a second and nothing else."""

_LONGEST: Final = 4.0
"""From this load on the schedule is shorter, so that the events are no more: a queue takes 11 s to hand them out."""
_CRITICAL_EVERY: Final = 100
_TENTHS: Final = (Lane.HIGH,) * 3 + (Lane.NORMAL,) * 5 + (Lane.LOW,) * 2


def run(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Sweep every row. Raises RuntimeError if an event was lost."""
    return measure(SUBJECTS, options, status)


def measure(subjects: Iterable[Subject], options: Options, status: Callable[[str], None]) -> list[Row]:
    """Run every row at every load, `overload_repeats` times; one row of figures each.

    Raises RuntimeError if an event was lost.
    """
    runs = _runs("W4")
    for subject, load in planned("W4", list(subjects), tuple(LOADS), options, status):
        runs.add(subject, load, asyncio.run(run_once(subject, load, options.seconds)))
    return runs.rows()


async def measure_here(
    workload: str,
    subjects: Iterable[Subject],
    loads: Sequence[str],
    options: Options,
    status: Callable[[str], None],
) -> list[Row]:
    """As `measure`, on the running loop and at some of the loads: for subjects that stay up between runs."""
    runs = _runs(workload)
    for subject, load in planned(workload, list(subjects), loads, options, status):
        runs.add(subject, load, await run_once(subject, load, options.seconds))
    return runs.rows()


def _runs(workload: str) -> Runs:
    return Runs(workload, "critical_p99_ms", "critical p99 ms")


async def run_once(subject: Subject, load: str, seconds: float) -> Figures:
    """One run of one row at one load; its figures. Raises RuntimeError if an event was lost."""
    offer, tally = _load(load, seconds), Tally()
    watch = await offered(subject, offer, tally)
    return {**lane_figures(tally, offer), "engine_cpu_us": engine_cpu_us(watch, len(offer.events()))}


def _load(name: str, seconds: float) -> Load:
    times = LOADS[name]
    lane = mixed if name != "alone" else _critical
    return Load(name, times * NOMINAL_PER_S, seconds * min(1.0, _LONGEST / times), lane, _session)


def mixed(number: int) -> int:
    """Return the lane of an event of the mix."""
    return Lane.CRITICAL if number % _CRITICAL_EVERY == 0 else _TENTHS[number % len(_TENTHS)]


def _critical(number: int) -> int:
    return Lane.CRITICAL


def _session(number: int) -> int:
    """Return which of the sessions an event is of; critical ones are spread over all of them too."""
    return number // 7 % len(CROWD)


def table(rows: Sequence[Row]) -> Table:
    """Return the rows for people: per lane p50 / p99 and how many were done, of how many."""
    title = f"{rows[0].workload}: 4 ms of work, 8 at once; ms from the scheduled time: p50 / p99, done (refused)"
    made = Table(title=title)
    for heading in ("row", "load", *LANE_NAMES, "low per s", "ms without low"):
        made.add_column(heading, justify="left" if heading in ("row", "load") else "right", no_wrap=True)
    shown = ""
    for row in rows:
        name = row.row.rpartition(" @")[0]
        if name != shown and shown:
            made.add_section()
        first, shown = name != shown, name
        made.add_row(
            name if first else "",
            str(row.extra["load"]),
            *(_lane(row, lane) for lane in LANE_NAMES),
            *(_number(row.figure(each)) for each in ("low_per_s", "low_pause_ms")),
        )
    slots = {row.extra["slots"]: None for row in rows}
    held = "critical p99 at 3x, over PriorityQueue / over its own alone"
    made.caption = f"slots: queues {', laneway '.join(slots)}; {held}: " + "; ".join(
        f"{name} {_times(queue)} / {_times(own)}" for name, (queue, own) in ratios(rows).items()
    )
    return made


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _times(factor: float | None) -> str:
    return "-" if factor is None else f"{factor:,.1f}"


def ratios(rows: Sequence[Row], load: str = "3x") -> dict[str, tuple[float | None, float | None]]:
    """Return, per row, critical p99 over the PriorityQueue's at this load, and over the row's own unloaded one."""
    names = dict.fromkeys(row.row.rpartition(" @")[0] for row in rows)
    return {
        name: (
            ratio(rows, rows[0].workload, f"{name} @{load}", f"{PRIORITY.row} @{load}"),
            ratio(rows, rows[0].workload, f"{name} @{load}", f"{name} @alone"),
        )
        for name in names
    }


def _lane(row: Row, lane: str) -> str:
    extra = row.extra
    if not extra[f"{lane}_done"]:
        return f"- ({extra[f'{lane}_refused']:,.0f})" if extra[f"{lane}_refused"] else ""
    refused = f" ({extra[f'{lane}_refused']:,.0f})" if extra[f"{lane}_refused"] else ""
    return f"{extra[f'{lane}_p50_ms']:,.1f} / {extra[f'{lane}_p99_ms']:,.1f}, {extra[f'{lane}_done']:,.0f}{refused}"
