"""A picture of a soak: the resident memory of the engine's process, and the slope that was found.

Law of this file: it shows what the row holds, machine, commit and date included, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.plot import MATPLOTLIB, origin

__all__ = ["draw"]


def draw(extra: Mapping[str, Any], about: Mapping[str, Any], path: Path) -> None:
    """Draw the memory of one soak; the suffix of the path says how."""
    import matplotlib as mpl

    mpl.use("agg")
    with mpl.rc_context(MATPLOTLIB):
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(9.5, 3.6), dpi=110)
        times, sizes = zip(*((at, size / 1024) for at, size in extra["memory_kib"]), strict=True)
        axes.plot(times, sizes, color="#0072B2", linewidth=1.4)
        axes.set_ylim(0, 1.25 * max(sizes))
        axes.set_xlim(0, extra["seconds"])
        axes.set_xlabel("s after the warm-up")
        axes.set_ylabel("MiB resident")
        axes.grid(axis="y", color="#d8d8d8", linewidth=0.7)
        interval = f"{extra['low_kib_per_h'] / 1024:+,.1f} to {extra['high_kib_per_h'] / 1024:+,.1f} MiB/h"
        visits, left = extra["counts"].get("sessions", 0), extra["left_over"]
        figure.text(0.012, 0.93, "Memory of an engine under a mixed load with churn", fontsize=13, weight="bold")
        said = f"{visits:,} visits over gRPC. Slope, 95 %: {interval}. Left over afterwards: {_left(left)}."
        figure.text(0.012, 0.865, said, fontsize=8.5)
        figure.text(0.012, 0.02, origin(about), fontsize=7.5, color="#555555")
        figure.subplots_adjust(left=0.066, right=0.985, top=0.82, bottom=0.22)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None, "Creator": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)


def _left(left: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {count:g}" for name, count in left.items()) or "nothing"
