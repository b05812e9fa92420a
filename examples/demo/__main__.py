"""make demo: the whole engine at work, driven by separate client processes; exits 1 if any part failed."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

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
    parser.add_argument(
        "--runtime", choices=("local", "ray"), default="local", help="local: in this process; ray: pools on hosts"
    )
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


async def _play(model: str, runtime: Literal["local", "ray"], directory: Path) -> Verdict:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # as Ctrl-C: everything is ended
    started = time.monotonic()
    with _progress() as progress:
        async with Stage(model, runtime, directory, progress) as stage:
            cast = Cast(stage, progress)
            results, losses = await run_cast(cast)
            return await stage.judge(results, losses, time.monotonic() - started)


def main() -> int:
    """Run the demo and return the exit status."""
    arguments = _arguments()
    console.rule(f"laneway demo · model {arguments.model} · runtime {arguments.runtime}")
    with tempfile.TemporaryDirectory(prefix="laneway-demo-") as directory:
        try:
            verdict = asyncio.run(_play(arguments.model, arguments.runtime, Path(directory)))
        except LanewayError as error:
            console.print(f"[red]the demo could not run:[/] {error}", markup=True)
            return 1
        except (KeyboardInterrupt, asyncio.CancelledError):
            console.print("[red]stopped[/]")
            return 130
    console.print(table(verdict))
    if verdict.failures:
        for failure in verdict.failures:
            console.print(f"[red]failed:[/] {failure}")
        return 1
    console.print("[green]everything as promised[/]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
