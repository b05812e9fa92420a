"""A picture of overload: four panels, each one sentence of docs/overload.md.

Law of this file: it shows what the run holds and nothing else, machine, commit and date included, and the
same run always gives the same bytes; what the run lacks leaves its place empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from benchmarks import goodput, neighbours
from benchmarks.overload_rows import ENGINE, PRIORITY
from benchmarks.overload_served import GRPC
from benchmarks.plot import MATPLOTLIB, origin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

_LOADS: Final = ("alone", "1x", "2x", "3x", "4x", "10x")
_STYLES: Final[Mapping[str, tuple[str, str]]] = {
    PRIORITY.row: ("^", "#E69F00"),
    ENGINE.row: ("o", "#000000"),
    GRPC.row: ("D", "#0072B2"),
}
"""Marker and colour of each subject; colours of Okabe and Ito."""


class _Run(Protocol):
    """What is drawn."""

    about: Mapping[str, Any]

    def figure(self, workload: str, row: str, name: str) -> float | None:
        """Return one figure of a row."""
        ...


def draw(found: _Run, path: Path) -> None:
    """Draw a run; the suffix of the path says how."""
    import matplotlib as mpl

    mpl.use("agg")
    with mpl.rc_context(MATPLOTLIB):
        from matplotlib import pyplot

        figure, ((critical, noisy), (useful, low)) = pyplot.subplots(2, 2, figsize=(11.5, 7.4), dpi=110)
        _critical(critical, found)
        _neighbours(noisy, found)
        _goodput(useful, found)
        _low(low, found)
        handles = [
            mpl.lines.Line2D([], [], color=colour, marker=marker, markersize=5, label=row)
            for row, (marker, colour) in _STYLES.items()
        ]
        figure.text(0.012, 0.965, "When more comes than can be handled", fontsize=13, weight="bold")
        figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.006, 0.955), ncols=3, frameon=False)
        figure.text(0.012, 0.012, origin(found.about), fontsize=7.5, color="#555555")
        figure.subplots_adjust(left=0.066, right=0.985, top=0.865, bottom=0.095, wspace=0.32, hspace=0.36)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None, "Creator": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)


def _critical(axes: Axes, found: _Run) -> None:
    axes.set_title("critical p99, ms: alone and in the crowd", loc="left", fontsize=10)
    for row in _STYLES:
        _line(axes, row, _LOADS, [found.figure("W4", f"{row} @{load}", "critical_p99_ms") for load in _LOADS])
    axes.set_ylim(bottom=0)


def _neighbours(axes: Axes, found: _Run) -> None:
    """Bars: how many times the light parties' p99 is what it is without the neighbour."""
    cases = [case for case in neighbours.CASES if "all lanes" not in case.row]
    axes.set_title("light parties' p99 beside one at 10x, times the same without (goal: 2)", loc="left", fontsize=10)
    for at, case in enumerate(cases):
        without, noisy = (
            found.figure(neighbours.WORKLOAD, f"{case.row} @{load}", "light_p99_ms") for load in neighbours.LOADS
        )
        if without and noisy is not None:
            axes.barh(at, noisy / without, height=0.6, color=_STYLES[case.subject.row][1])
            axes.text(noisy / without, at, f" {noisy / without:,.1f}", va="center", fontsize=8)
    axes.set_yticks(range(len(cases)), [f"{case.subject.row},\n{case.by}" for case in cases], fontsize=7)
    axes.set_xscale("log")
    axes.set_xlim(left=0.5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.axvline(2.0, color="#999999", linewidth=0.9, linestyle="--")
    axes.invert_yaxis()


def _goodput(axes: Axes, found: _Run) -> None:
    axes.set_title("results within a second, per second (dashed: they retry; dotted: blindly)", loc="left", fontsize=10)
    loads = tuple(goodput.LOADS)
    for case in goodput.CASES:
        values = [found.figure(goodput.WORKLOAD, f"{case.row} @{load}", "median") for load in loads]
        dashes = "-" if case.attempts == 1 else ":" if case.blindly else "--"
        _line(axes, case.subject.row, loads, values, dashes)
    axes.set_ylim(bottom=0)


def _low(axes: Axes, found: _Run) -> None:
    axes.set_title("results of the low lane, per second", loc="left", fontsize=10)
    for row in _STYLES:
        _line(axes, row, _LOADS[1:], [found.figure("W4", f"{row} @{load}", "low_per_s") for load in _LOADS[1:]])
    axes.set_ylim(bottom=0)


def _line(axes: Axes, row: str, loads: Sequence[str], values: Sequence[float | None], dashes: str = "-") -> None:
    marker, colour = _STYLES[row]
    known = [(at, value) for at, value in enumerate(values) if value is not None]
    axes.plot(
        [at for at, _ in known], [value for _, value in known], linestyle=dashes, marker=marker, markersize=4.5,
        color=colour, linewidth=1.3,
    )  # fmt: skip
    axes.set_xticks(range(len(loads)), loads)
    axes.grid(axis="y", color="#d8d8d8", linewidth=0.7)
    axes.set_axisbelow(True)
