"""`python -m benchmarks`: W1 to W4 beside their baselines in one run, and how far the goals are.

Prints tables, and writes benchmarks/results/<date>-<commit>.jsonl; after a whole run also latest.md
and the picture of W4. Read ratios within one run; absolute figures move with the machine and its load.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks import (
    credit,
    dispatch,
    documents,
    edge,
    goodput,
    hosts,
    neighbours,
    on_ray,
    overload,
    overload_page,
    sessions,
    soak,
    stage_costs,
    start,
    token_streams,
    tool_calls,
    tracing,
)
from benchmarks.environment import environment
from benchmarks.goals import verdicts
from benchmarks.measure import Options, Row
from benchmarks.plot import PICTURE, draw
from benchmarks.report import about_line, goals_table, rows_table, run_name, write_page, write_records

__all__ = ["WORKLOADS", "Workload", "main"]


@dataclass(frozen=True, slots=True)
class Workload:
    """A name for `--only`, what measures it, and its tables if they are not the usual ones."""

    name: str
    run: Callable[[Options, Callable[[str], None]], list[Row]]
    tables: Callable[[Sequence[Row]], list[Table]] | None = None


_TITLES: Final = {
    "W1": "W1: events of 278 bytes, 3 handlers, results back, 1,024 in flight; latencies in ms from the scheduled time",
    "W2": "W2: tool calls of 5 ms, 256 at once; ms",
    "W3 burst": "W3 burst: streams of tokens without pause; ms",
    "W3 paced": "W3 paced: streams of a token every 20 ms; ms",
    "edge": "Edge: users on 40 connections, the tool catalogue at 6,000 requests a second, open sessions",
    "hosts": "Hosts: messages of 300 bytes between two processes; ms there and back",
    "state": "State: one-character edits of a shared document; ms from the scheduled time",
    "start": "Start, in a fresh process",
    on_ray.W1: "Ray W1: events of 278 bytes, 3 handlers in other processes, 1,024 in flight; ms from scheduled time",
    on_ray.W1_APART: "Ray W1 with the handlers on another node, of the same machine; ms from scheduled time",
    on_ray.W2: "Ray W2: tool calls of 5 ms in another process, 256 at once; ms",
    on_ray.BURST: "Ray W3 burst: streams of tokens without pause from another process; ms",
    on_ray.PACED: "Ray W3 paced: streams of a token every 20 ms from another process; ms",
}

WORKLOADS: Final = (
    Workload("W1", dispatch.run),
    Workload("W2", tool_calls.run),
    Workload("W3", token_streams.run),
    Workload("W4", overload.run, lambda rows: [overload.table(rows)]),
    Workload(neighbours.WORKLOAD, neighbours.run, lambda rows: [neighbours.table(rows)]),
    Workload(goodput.WORKLOAD, goodput.run, lambda rows: [goodput.table(rows)]),
    Workload(soak.WORKLOAD, soak.run, lambda rows: [soak.table(rows)]),
    Workload("stages", stage_costs.run, lambda rows: [stage_costs.table(rows)]),
    Workload("sessions", sessions.run, lambda rows: [sessions.table(rows)]),
    Workload("tracing", tracing.run, lambda rows: [tracing.table(rows)]),
    Workload("credit", credit.run, lambda rows: [credit.table(rows)]),
    Workload("edge", edge.run),
    Workload("hosts", hosts.run),
    Workload("state", documents.run),
    Workload("start", start.run),
    Workload("ray", on_ray.run, lambda rows: _ray_tables(rows)),
)


def main() -> None:
    """Run what was asked for; exit status 1 if a workload has no figures."""
    asked = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 160)
    about = environment()
    console.print(about_line(about), highlight=False)
    options, rows, tables, failed = _options(asked), list[Row](), list[Table](), list[str]()
    for workload in WORKLOADS:
        if asked.only and workload.name not in asked.only:
            continue
        try:
            with console.status(workload.name) as shown:
                found = workload.run(options, _teller(console, shown.update))
        except Exception:  # half an hour of other figures is not lost with it
            console.print_exception(max_frames=4)
            failed.append(workload.name)
            continue
        for table in workload.tables(found) if workload.tables else _tables(found):
            console.print(table)
            tables.append(table)
        rows += found
    goals = goals_table(verdicts(rows))
    console.print(goals)
    name = "-".join(["baseline", *(asked.only or ())]) if asked.baseline else run_name(about)
    path = write_records(asked.results / f"{name}.jsonl", about, rows)
    console.print(f"every repetition is in {path}", highlight=False)
    whole = not asked.only and not asked.quick
    if whole or asked.baseline:
        page = asked.results / (f"{name}.md" if asked.baseline else "latest.md")
        write_page(page, about, path.name, [goals, *tables])
    if whole:
        draw(path, PICTURE if asked.baseline else asked.results / PICTURE.name)
        overload_page.write(path, overload_page.PAGE if asked.baseline else asked.results / overload_page.PAGE.name)
    elif asked.baseline and (asked.results / "baseline.jsonl").exists():
        overload_page.write(asked.results / "baseline.jsonl")
    if failed:
        sys.exit(f"without figures, see above: {', '.join(failed)}")


def _teller(console: Console, update: Callable[[str], None]) -> Callable[[str], None]:
    """Return what shows progress; a row that is left out stays on the screen, with its reason."""

    def tell(text: str) -> None:
        if "left out" in text:
            console.print(text, highlight=False)
        update(text)

    return tell


def _tables(rows: Sequence[Row]) -> list[Table]:
    names = list(dict.fromkeys(row.workload for row in rows))
    return [rows_table(_TITLES[name], [row for row in rows if row.workload == name]) for name in names]


def _ray_tables(rows: Sequence[Row]) -> list[Table]:
    overloaded = [row for row in rows if row.workload == on_ray.W4]
    usual = _tables([row for row in rows if row.workload != on_ray.W4])
    return [*usual, overload.table(overloaded)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [workload.name for workload in WORKLOADS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, not to be quoted")
    parser.add_argument(
        "--baseline",
        action="store_true",
        help="renew the committed figures: results/baseline.*, docs/overload.md, docs/images/; "
        "of parts (--only W1): results/baseline-W1.*",
    )
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="directory")
    for field in fields(Options):
        flag = f"--{field.name.replace('_', '-')}"
        parser.add_argument(
            flag, type=float if field.name.endswith("seconds") else int, help="size; see measure.Options"
        )
    asked = parser.parse_args()
    if asked.baseline and asked.quick:
        parser.error("a baseline is measured in full, without --quick")
    return asked


def _options(asked: argparse.Namespace) -> Options:
    given = {field.name: getattr(asked, field.name) for field in fields(Options)}
    sizes = Options.quick() if asked.quick else Options()
    return replace(sizes, **{name: value for name, value in given.items() if value is not None})


if __name__ == "__main__":
    main()
