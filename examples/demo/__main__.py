"""make demo: the whole engine at work, driven by separate client processes; exits 1 if any part failed."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from examples.demo.actors_at_work import Cast, run_cast
from examples.demo.report import Verdict, table
from examples.demo.stage import Stage
from laneway import LanewayError

console = Console(width=None if Console().is_terminal else 110)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--model", choices=("local-llm", "synthetic"), default="local-llm")
    parser.add_argument("--runtime", choices=("local",), default="local", help="embedded in this process")
    return parser.parse_args()


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=console,
    )


async def _play(model: str, directory: Path) -> Verdict:
    started = time.monotonic()
    with _progress() as progress:
        async with Stage(model, directory, progress) as stage:
            cast = Cast(stage, progress)
            results = await run_cast(cast)
            return await stage.judge(results, time.monotonic() - started)


def main() -> int:
    """Run the demo and return the exit status."""
    arguments = _arguments()
    console.rule(f"laneway demo · model {arguments.model} · runtime {arguments.runtime}")
    with tempfile.TemporaryDirectory(prefix="laneway-demo-") as directory:
        try:
            verdict = asyncio.run(_play(arguments.model, Path(directory)))
        except LanewayError as error:
            console.print(f"[red]the demo could not run:[/] {error}", markup=True)
            return 1
    console.print(table(verdict))
    if verdict.failures:
        for failure in verdict.failures:
            console.print(f"[red]failed:[/] {failure}")
        return 1
    console.print("[green]everything as promised[/]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
