"""`python -m benchmarks`: what an event costs in each layer, and what a critical one waits under overload.

Prints two tables and writes benchmarks/results/<date>-<commit>.jsonl: one line about the machine, then
one per row. Read ratios within one run; absolute figures move with the machine and its load.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import overload, paths, queues
from benchmarks.environment import environment
from benchmarks.measure import Row, repeated
from benchmarks.workload import jobs

DISPATCH = {
    "asyncio.Queue": queues.plain_queue,
    "asyncio.PriorityQueue": queues.priority_queue,
    "laneway core (decisions only)": paths.core_path,
    "laneway dispatcher (no session)": paths.dispatcher_path,
    "laneway engine, frames of 64": paths.frames_path,
    "laneway engine, one call each": paths.calls_path,
}

_OVERLOAD_HEADINGS = (
    "row", "alone p50", "p99", "critical p50", "p99 ", "lowest", "highest", "ratio", "normal done", "p99  ", "refused",
)  # fmt: skip


def main() -> None:
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 120)
    about = environment()
    console.print(", ".join(f"{name} {value}" for name, value in about.items()), highlight=False)
    work = jobs(options.events)
    figures = []
    with console.status("W1 dispatch") as status:
        for row, path in DISPATCH.items():
            status.update(f"W1 dispatch: {row}")
            figures.append(repeated("W1", row, path(work), len(work), options.repeats))
    console.print(_dispatch_table(figures))
    loads = []
    with console.status("W4 overload") as status:
        for row in overload.ROWS:
            status.update(f"W4 overload: {row}")
            loads.append(overload.measure(row, options.overload_s, options.overload_repeats))
    console.print(_overload_table(loads))
    records: list[dict[str, Any]] = [{"about": about}]
    records += [figure.record() for figure in figures]
    records += [{"workload": "W4", **load.record()} for load in loads]
    console.print(f"written to {_write(options.results, about, records)}", highlight=False)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--events", type=int, default=20_000, help="events of W1")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions of each W1 row; the median counts")
    parser.add_argument("--overload-s", type=float, default=3.0, help="seconds of overload in W4")
    parser.add_argument("--overload-repeats", type=int, default=3, help="repetitions of each W4 row, likewise")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="directory")
    return parser.parse_args()


def _dispatch_table(figures: list[Row]) -> Table:
    table = Table(
        title=f"W1: {figures[0].extra['count']:,} events of 278 bytes, 3 handlers, results back, 1,024 in flight"
    )
    for heading in ("row", "events/s", "CPU us/event", "lowest", "highest", "x PriorityQueue"):
        table.add_column(heading, justify="left" if heading == "row" else "right", no_wrap=heading == "row")
    base = next(figure.cpu_us for figure in figures if figure.row == "asyncio.PriorityQueue")
    for figure in figures:
        table.add_row(
            figure.row,
            f"{figure.median:,.0f}",
            f"{figure.cpu_us:.2f}",
            f"{figure.extra['cpu_us_min']:.2f}",
            f"{figure.extra['cpu_us_max']:.2f}",
            f"{figure.cpu_us / base:.1f}",
        )
    return table


def _overload_table(loads: list[overload.Overload]) -> Table:
    table = Table(title=f"W4: {loads[0].offered:,} events at 6,000/s to handlers that can do 2,000/s; 1 % critical; ms")
    for heading in _OVERLOAD_HEADINGS:
        table.add_column(heading, justify="left" if heading == "row" else "right", no_wrap=heading == "row")
    for load in loads:
        table.add_row(
            load.row,
            f"{load.alone_p50_ms:.1f}",
            f"{load.alone_p99_ms:.1f}",
            f"{load.critical_p50_ms:.1f}",
            f"{load.critical_p99_ms:.1f}",
            f"{load.critical_p99_min_ms:.1f}",
            f"{load.critical_p99_max_ms:.1f}",
            f"{load.ratio_p99:.1f}",
            f"{load.normal_done:,}",
            f"{load.normal_p99_ms:,.0f}",
            f"{load.refused:,}",
        )
    return table


def _write(directory: Path, about: dict[str, Any], records: list[dict[str, Any]]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    stamp = str(about["date"]).replace("-", "").replace(":", "").replace("+0000", "Z")
    path = directory / f"{stamp}-{about['commit'] or 'no-commit'}.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
