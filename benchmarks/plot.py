"""A picture of W4: what each lane waits as the load grows, laneway beside two plain queues.

    python -m benchmarks.plot

Law of this file: the picture shows what the .jsonl holds and nothing else, machine, commit and date
included, and the same file always gives the same bytes. It can be read without colour: each row has its
own marker and its own place; a filled marker is p50, a hollow one p99.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.overload import LOADS
from laneway.routing.lanes import LANE_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BASELINE", "MATPLOTLIB", "PICTURE", "draw", "main", "origin", "read"]

_BENCHMARKS: Final = Path(__file__).parent
BASELINE: Final = _BENCHMARKS / "results" / "baseline.jsonl"
PICTURE: Final = _BENCHMARKS.parent / "docs" / "images" / "latency-by-lane.svg"
"""The committed one; it shows `results/baseline.jsonl`."""
_INK: Final = "#222222"
_FAINT: Final = "#d8d8d8"


@dataclass(frozen=True, slots=True)
class _Look:
    """How a row is drawn; colours of Okabe and Ito, told apart by who sees no colours, and in grey."""

    row: str
    label: str
    marker: str
    colour: str


_LOOKS: Final = (
    _Look("asyncio.Queue", "asyncio.Queue (first come, first served)", "s", "#E69F00"),
    _Look("asyncio.PriorityQueue", "asyncio.PriorityQueue", "^", "#56B4E9"),
    _Look("laneway engine", "laneway, in process", "o", "#000000"),
    _Look("laneway over gRPC", "laneway, over gRPC", "D", "#0072B2"),
)
_STEP: Final = 0.17
"""Between two rows of one load, in units of the x axis."""
MATPLOTLIB: Final[Any] = {
    "svg.hashsalt": "laneway",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": "#888888",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def main() -> None:
    """Draw the committed run, or the one that is named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", help="a .jsonl of `python -m benchmarks`")
    parser.add_argument("--to", type=Path, nargs="*", default=(PICTURE,), help="where to write it (.svg or .png)")
    options = parser.parse_args()
    source = options.results or BASELINE
    for path in options.to:
        draw(source, path)
        print(f"written to {path}")


def read(path: Path) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """Return what the run says about itself, and its W4 records. Raises ValueError if there are none."""
    about, *records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = [record for record in records if record.get("workload") == "W4"]
    if not found:
        raise ValueError(f"{path} has no rows of W4; run `make bench` first")
    return about["about"], found


def draw(source: Path, path: Path) -> None:
    """Draw one panel per lane and write the picture; its suffix says how. An SVG names its source."""
    about, records = read(source)
    import matplotlib as mpl

    mpl.use("agg")
    with mpl.rc_context(MATPLOTLIB):
        from matplotlib import pyplot

        figure, panels = pyplot.subplots(1, len(LANE_NAMES), figsize=(11.5, 5.4), sharey=True, dpi=110)
        found = {(record["row"].rpartition(" @")[0], record["extra"]["load"]): record["extra"] for record in records}
        loads = [load for load in LOADS if load != "alone" and any(load == each for _, each in found)]
        for lane, axes in zip(LANE_NAMES, panels, strict=True):
            _panel(axes, lane, loads, found)
        panels[0].set_ylabel("ms from scheduled time to result")
        _legend(figure, panels[0])
        figure.text(0.012, 0.955, "What each lane waits while the load grows", fontsize=13, weight="bold")
        figure.text(0.012, 0.89, _workload(found), fontsize=8.5, linespacing=1.35)
        figure.text(0.012, 0.016, origin(about), fontsize=7.5, color="#555555")
        figure.subplots_adjust(left=0.066, right=0.992, top=0.765, bottom=0.175, wspace=0.07)
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"Date": None, "Creator": None, "Source": source.name} if path.suffix == ".svg" else None
        figure.savefig(path, metadata=metadata)
        pyplot.close(figure)


def _panel(axes: Axes, lane: str, loads: Sequence[str], found: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
    axes.set_yscale("log")
    axes.set_title(lane, loc="left", fontsize=11, weight="bold", pad=6)
    axes.set_xlim(-0.5, len(loads) - 0.5)
    axes.set_xticks(range(len(loads)), loads)
    axes.grid(axis="y", which="major", color=_FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    for place in range(len(loads) - 1):
        axes.axvline(place + 0.5, color=_FAINT, linewidth=0.7)
    for index, look in enumerate(_LOOKS):
        for place, load in enumerate(loads):
            extra = found.get((look.row, load))
            if extra is not None:
                _range(axes, place + (index - (len(_LOOKS) - 1) / 2) * _STEP, look, extra, lane)
    axes.set_xlabel(_refusals(lane, loads, found), fontsize=7.5, labelpad=5)


def _range(axes: Axes, x: float, look: _Look, extra: Mapping[str, Any], lane: str) -> None:
    """Draw p50 and p99 of one row at one load, joined by a line."""
    p50, p99 = extra[f"{lane}_p50_ms"], extra[f"{lane}_p99_ms"]
    if p50 is None or math.isnan(p50):
        return  # nothing of this lane was done
    axes.plot([x, x], [p50, p99], color=look.colour, linewidth=1.6, solid_capstyle="butt", zorder=2)
    drawn: dict[str, Any] = {
        "marker": look.marker,
        "markeredgecolor": look.colour,
        "linestyle": "none",
        "markeredgewidth": 1.2,
    }
    axes.plot([x], [p50], markerfacecolor=look.colour, markersize=5, zorder=3, **drawn)
    axes.plot([x], [p99], markerfacecolor="white", markersize=5, zorder=3, **drawn)


def _refusals(lane: str, loads: Sequence[str], found: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """Say what share of a lane laneway refused at each load: who is turned away does not wait."""
    lines = []
    for look in _LOOKS[2:]:
        shares = []
        for load in loads:
            extra = found.get((look.row, load))
            if extra is not None:
                done, refused = extra[f"{lane}_done"], extra[f"{lane}_refused"]
                shares.append(f"{100 * refused / (done + refused):.0f} %")
        if shares:
            lines.append(f"{look.label.partition(', ')[2]}: {'  '.join(shares)}")
    return f"refused at {loads[0]} to {loads[-1]}\n" + "\n".join(lines)


def _legend(figure: Any, axes: Axes) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle="-", markersize=5, label=look.label)
        for look in _LOOKS
    ]
    for label, fill in (("p50", _INK), ("p99", "white")):
        handles.append(
            Line2D([], [], color="none", marker="o", markerfacecolor=fill, markeredgecolor=_INK, label=label)
        )
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.006, 0.885), ncols=6, frameon=False, fontsize=8.5,
        handletextpad=0.5, columnspacing=1.6,
    )  # fmt: skip


def _workload(found: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    slots = next((extra["slots"] for (row, _), extra in found.items() if row == "laneway engine"), "")
    lost = sum(extra["lost"] for extra in found.values())
    refused = sum(extra["critical_refused"] for extra in found.values())
    return (
        "4 ms of work an event, eight at once, so 2,000/s are 1x; 1 % critical, 29 % high, 50 % normal, 20 % low; "
        f"open loop.\nSlots: queues 8, laneway {slots}. Critical events refused: {refused:.0f}. Lost: {lost:.0f}."
    )


def origin(about: Mapping[str, Any]) -> str:
    """Return date, commit and machine of a run as one line."""
    dirty = " with local changes" if about.get("dirty") else ""
    return (
        f"{about['date'][:10]}, commit {about['commit'] or 'unknown'}{dirty}, {about['processor']}, "
        f"{about['cores']} cores, {about['machine']}, Python {about['python']}, load {about['load_1min']} at "
        "the start. Medians; figures in the .jsonl beside this picture."
    )


if __name__ == "__main__":
    main()
