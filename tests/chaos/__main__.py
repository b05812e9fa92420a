"""Chaos by hand: ``python -m tests.chaos`` (all faults and mixes), ``--short``, ``--only "node killed"``."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from rich.console import Console

from tests.chaos.faults import FAULTS
from tests.chaos.rounds import LONG, SHORT, Row, play
from tests.chaos.stage import staged
from tests.chaos.table import markdown, shown, to_json


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--short", action="store_true", help="little load, each fault once, no mixes")
    parser.add_argument("--only", default="", help="faults with this in their names")
    parser.add_argument("--rounds", type=int, default=1, help="how often each fault is made (default 1)")
    parser.add_argument("--mixes", type=int, default=3, help="rounds with two faults at once (default 3)")
    parser.add_argument("--seed", type=int, default=None, help="which faults are mixed (default: a new one)")
    parser.add_argument("--json", type=Path, default=None, help="write the rows there")
    parser.add_argument("--markdown", type=Path, default=None, help="write the page there")
    parser.add_argument("--keep", action="store_true", help="keep logs, and say where")
    return parser.parse_args()


async def _play(arguments: argparse.Namespace, folder: Path, console: Console, seed: int) -> list[Row]:
    pace = SHORT if arguments.short else LONG
    dice = random.Random(seed)
    chosen = [(fault,) for fault in FAULTS if arguments.only in fault.name] * arguments.rounds
    mixes = 0 if arguments.short or arguments.only else arguments.mixes
    plain = [fault for fault in FAULTS if not fault.environment]
    rows: list[Row] = []
    async with staged(folder) as stage:
        for faults in [*chosen, *(tuple(dice.sample(plain, 2)) for _ in range(mixes))]:
            name = " + ".join(fault.name for fault in faults)
            try:
                async with asyncio.timeout(180):
                    row = await play(stage, faults, pace, seed)
            except Exception as error:  # the others are still of interest
                row = Row(name, seed)
                row.verdict.violations.append(f"the round failed: {error!r}")
                console.print(traceback.format_exc(), markup=False, soft_wrap=True)
            rows.append(row)
            verdict = row.verdict
            console.print(
                f"{name}: fired {row.fired}, accepted {verdict.accepted}, lost {verdict.lost}, twice {verdict.twice}"
            )
            for violation in verdict.violations[:12]:
                console.print(f"  - {violation}", markup=False, soft_wrap=True)
    return rows


def main() -> int:
    """Run; returns the exit status."""
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 160)
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1_000_000)
    folder = Path(tempfile.mkdtemp(prefix="lwc", dir="/tmp"))  # short: Ray's sockets lie in it
    try:
        rows = asyncio.run(_play(arguments, folder, console, seed))
    finally:
        if arguments.keep:
            console.print(f"logs: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    console.print(shown(rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(to_json(rows)))
    if arguments.markdown is not None:
        arguments.markdown.write_text(markdown(rows, os.cpu_count() or 1))
    return 1 if any(row.verdict.violations for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
