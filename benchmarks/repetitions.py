"""The figures of all repetitions of rows under load: one row of medians for each subject and load.

Law of this file: repetitions go round all rows, so that what else happens on the machine meets all of
them; a figure that a run lacks (nothing of a lane was done) is NaN, never a guess.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from benchmarks.measure import Options, Row, Stopwatch, percentile
from benchmarks.sweep import Load, Subject, Tally
from laneway.routing.lanes import LANE_NAMES, Lane

__all__ = ["Figures", "Runs", "engine_cpu_us", "lane_figures", "planned"]

Figures = Mapping[str, float]
_CPU: Final = "engine_cpu_us"


class Runs:
    """The figures of all repetitions, by row and load.

    Args:
        workload: whose rows. headline: the figure that is the row's own. what: its unit, in words.
    """

    def __init__(self, workload: str, headline: str, what: str) -> None:
        self._workload, self._headline, self._what = workload, headline, what
        self._found: dict[tuple[str, str, str], list[Figures]] = {}

    def add(self, subject: Subject, load: str, figures: Figures) -> None:
        """Take one run's figures."""
        self._found.setdefault((subject.row, load, subject.slots), []).append(figures)

    def rows(self) -> list[Row]:
        """Return a row per subject and load: the median of each figure."""
        return [self._row(*what, found) for what, found in self._found.items()]

    def _row(self, row: str, load: str, slots: str, found: Sequence[Figures]) -> Row:
        figures = {name: statistics.median(each[name] for each in found) for name in found[0]}
        values = tuple(each[self._headline] for each in found)
        extra: dict[str, Any] = {"load": load, "slots": slots, **figures}
        name = f"{row} @{load}"
        return Row(self._workload, name, self._what, values, statistics.median(values), figures[_CPU], extra)


def planned(
    workload: str, subjects: Sequence[Subject], loads: Sequence[str], options: Options, status: Callable[[str], None]
) -> Iterator[tuple[Subject, str]]:
    """Yield what to run next: every row at every load, `overload_repeats` times; tells the status."""
    for number in range(options.overload_repeats):
        for subject in subjects:
            for load in loads:
                status(f"{workload} {subject.row} at {load}, {number + 1} of {options.overload_repeats}")
                yield subject, load


def lane_figures(tally: Tally, load: Load) -> dict[str, float]:
    """Return, per lane, what its events waited and how many were done, or turned away; and how low was served.

    Turned away (`refused`): at the door, or given up later; either way the client was told.
    """
    figures: dict[str, float] = {"offered": len(load.events()), "lost": 0}
    for lane in Lane:
        name, late_s = LANE_NAMES[lane], tally.late_s(lambda event, lane=lane: event.lane == lane)  # type: ignore[misc]
        figures[f"{name}_p50_ms"] = percentile(late_s, 0.5) * 1e3
        figures[f"{name}_p99_ms"] = percentile(late_s, 0.99) * 1e3
        figures[f"{name}_done"] = len(late_s)
        figures[f"{name}_refused"] = sum(event.lane == lane for event in (*tally.refused, *tally.expired))
        figures[f"{name}_longest_ms"] = max(late_s, default=float("nan")) * 1e3
    return {**figures, **_steadiness(tally, load), **tally.notes}


def _steadiness(tally: Tally, load: Load) -> dict[str, float]:
    """How low fares in the second half of the schedule: results a second, and the longest time without one."""
    half, over = tally.begun + load.seconds / 2, tally.begun + load.seconds
    if not any(event.lane == Lane.LOW for event in load.events()):
        return {"low_per_s": float("nan"), "low_pause_ms": float("nan")}
    came = sorted(at for event, at in tally.done if event.lane == Lane.LOW and half < at <= over)
    pauses_s = (later - earlier for earlier, later in itertools.pairwise((half, *came, over)))
    return {"low_per_s": len(came) / (over - half), "low_pause_ms": max(pauses_s) * 1e3}


def engine_cpu_us(watch: Stopwatch, count: int) -> float:
    """Return processor microseconds per event: of the engine's process, or of this one if it is here."""
    return watch.others_s.get("engine", watch.cpu_s) / count * 1e6
