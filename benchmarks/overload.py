"""W4: from nothing to four times what the handlers can do; what does each lane wait?

A handler takes 4 ms and eight run at once: 2,000 a second nominally, about 1,900 in practice. Offered
are critical events alone (60 a second), then 1, 2, 3 and 4 times 2,000 a second for 3 s each: 1 %
critical, 29 % high, 50 % normal, 20 % low.

What differs by design: a queue takes everything, and what is not urgent waits for seconds; laneway
runs with its default limits per session and refuses at the door, with a time to retry after. A cell
of laneway has one slot more, for critical events only, which is told with each row (`slots`).

Law of this file: who is overloaded, and how it is told; how, is in `sweep`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from rich.table import Table

from benchmarks.measure import Options, Row, ratio
from benchmarks.overload_rows import EMBEDDED, PRIORITY
from benchmarks.overload_served import SERVED
from benchmarks.sweep import measure
from laneway.routing.lanes import LANE_NAMES

__all__ = ["SUBJECTS", "ratios", "run", "table"]

SUBJECTS: Final = (*EMBEDDED, *SERVED)


def run(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Sweep every row. Raises RuntimeError if an event was lost."""
    return measure(SUBJECTS, options, status)


def table(rows: Sequence[Row]) -> Table:
    """Return the rows for people: per lane p50 / p99 and how many were done, of how many."""
    title = f"{rows[0].workload}: 4 ms of work, 8 at once; ms from the scheduled time: p50 / p99, done (refused)"
    made = Table(title=title)
    for heading in ("row", "load", *LANE_NAMES):
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
        )
    slots = {row.extra["slots"]: None for row in rows}
    held = "critical p99 at 3x, over PriorityQueue / over its own alone"
    made.caption = f"slots: queues {', laneway '.join(slots)}; {held}: " + "; ".join(
        f"{name} {_times(queue)} / {_times(own)}" for name, (queue, own) in ratios(rows).items()
    )
    return made


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
