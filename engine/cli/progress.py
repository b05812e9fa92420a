"""A progress bar for downloads and loads, on stderr.

Law of this file: in a pipe or a log it says one line per stage instead of drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from laneway.engine.models.weights import Progress as Told

__all__ = ["shown"]


@contextmanager
def shown(say: Callable[[str], object] | None = None) -> Iterator[Told]:
    """Give a function to tell (stage, bytes done, bytes in all) to, and show it while the block lasts.

    Args:
        say: takes the lines if stderr is no terminal; default: printed there.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(say or console.print)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)

        def tell(stage: str, done: int, total: int) -> None:
            bar.update(task, description=f"model: {stage}", completed=done, total=total, visible=True)

        yield tell


class _Lines:
    """One line per stage."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self._stage = stage
            self._say(f"model: {stage}")
