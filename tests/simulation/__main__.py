"""Run the simulation by hand: ``python -m tests.simulation --seeds 1000``, ``--seed 17`` or ``--hour``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.simulation.batch import Total, command, missing, run_seed, setting
from tests.simulation.hour import Plan, simulate_hour
from tests.simulation.plants import PLANTS
from tests.simulation.tables import batch_table, hour_tables
from tests.simulation.world import Report


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to run (default 200)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--seed", type=int, help="run this one seed only")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--events", type=int, default=0, help="fail if fewer events than this were simulated")
    parser.add_argument("--plant", choices=sorted(PLANTS), default="", help="plant this bug in the engine first")
    parser.add_argument("--hour", action="store_true", help="one long run of many sessions instead of seeds")
    parser.add_argument("--sessions", type=int, default=10_000, help="of --hour (default 10000)")
    parser.add_argument("--minutes", type=float, default=60.0, help="virtual minutes of --hour (default 60)")
    return parser.parse_args()


def _run(seeds: range, plant: str, jobs: int, console: Console) -> Total:
    total = Total()
    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        ProcessPoolExecutor(min(jobs, len(seeds)), mp_context=get_context("spawn")) as pool,
    ):
        bar = progress.add_task("", total=len(seeds))
        for future in as_completed([pool.submit(run_seed, seed, plant) for seed in seeds]):
            report = future.result()
            if report.violations:
                _tell(report, plant, console)
            total.add(report)
            progress.advance(bar)
    return total


def _tell(report: Report, plant: str, console: Console) -> None:
    """Say at once what failed, and how to see it again."""
    console.print(f"[red]seed {report.seed} ({setting(report.seed).name}) failed[/red]; replay it with")
    console.print(f"  {command(report.seed, plant)}", soft_wrap=True, highlight=False)
    for violation in report.violations[:10]:
        console.print(f"  - {violation}", markup=False, soft_wrap=True)


def _hour(arguments: argparse.Namespace, console: Console) -> int:
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    day = simulate_hour(arguments.seed or 1, plan=Plan(arguments.sessions, arguments.minutes))
    for table in hour_tables(day, time.monotonic() - began):
        console.print(table)
    for violation in day.violations[:10]:
        console.print(f"  - {violation}", markup=False, soft_wrap=True)
    return 1 if day.violations else 0


def main() -> int:
    """Run; returns the exit status."""
    arguments = _arguments()
    console = Console()
    if arguments.hour:
        return _hour(arguments, console)
    one = arguments.seed is not None
    seeds = (
        range(arguments.seed, arguments.seed + 1) if one else range(arguments.first, arguments.first + arguments.seeds)
    )
    began = time.monotonic()
    total = _run(seeds, arguments.plant, arguments.jobs, console)
    console.print(batch_table(total, time.monotonic() - began))
    gaps = [] if len(seeds) < 100 else missing(total)
    if total.events < arguments.events:
        gaps.append(f"only {total.events} events were simulated, {arguments.events} were asked for")
    for gap in gaps:
        console.print(f"[yellow]proves little: {gap}[/yellow]")
    return 1 if total.failures or gaps else 0


if __name__ == "__main__":
    sys.exit(main())
