"""Where an event's time goes: every stage of W1 in isolation, and what their sum leaves unexplained.

Law of this file: the table is what a change is judged by, so it is quick (half a minute), and it is the
median of repetitions. Stages in brackets are not part of a sum: they are variants, or the product's own
loop around some stages ("whole"), which shows what lies between them.

The first line is a reference that has nothing of laneway in it: where it differs between two runs, so do
all times, and only `calls` can be compared.

Sums are taken at batch 64 and at batch 1, for an engine and its caller in one process and for the engine's
process behind gRPC, and held against W1 whole in frames of 64 (the transport and the loop included). What
is in no stage is the glue between stages, and batches that are smaller than 64: results come back one by
one, and whatever gathers meanwhile is committed, framed and sent together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from rich.table import Table

from benchmarks import paths, remote_engine
from benchmarks.channels import Way
from benchmarks.dispatch import measure
from benchmarks.measure import Options, Row
from benchmarks.stages import cell, dispatch, outward, wire
from benchmarks.stages.harness import Stage, cost

__all__ = ["STAGES", "run", "table", "total"]

STAGES: Final[tuple[Stage, ...]] = (
    *dispatch.REFERENCE,
    *wire.EDGE[:2],
    *dispatch.JOURNAL,
    *outward.STORES[::2],
    *dispatch.DISPATCH,
    *cell.CELL,
    *dispatch.OUTCOME,
    *outward.OUTBOUND,
    *outward.STORES[1::2],
    *outward.LINK,
    *wire.EDGE[2:],
    *wire.CLIENT,
)
_WORKLOAD: Final = "stages"
_UNIT: Final = "us CPU/event"
_EVENTS: Final = 4096
_WHOLE: Final[dict[str, Way]] = {"embedded": paths.FRAMES, "served": remote_engine.FRAMES}


def run(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Measure every stage; the rows of one table, and the sums of each path."""
    count = min(options.events, _EVENTS)
    rows = []
    for stage in STAGES:
        for batch in stage.batches:
            status(f"stages: {stage.name}, batch {batch}")
            rows.append(cost(stage, batch, count, options.repeats))
    found = list(rows)
    for path, way in _WHOLE.items():
        status(f"stages: W1 whole, {path}")
        whole = measure(replace(way, open_loop=False), options)
        cpu_us = whole.figure("engine_cpu_us") or whole.cpu_us
        sums = {batch: total(rows, path, batch) for batch in (1, 64)}
        figures = {f"sum of stages, {path} @{batch}": us for batch, us in sums.items()}
        figures |= {f"W1 whole, {path}": cpu_us, f"not in a stage, {path}": cpu_us - sums[64]}
        found += [
            Row(_WORKLOAD, name, _UNIT, (us,), us, us, {"repeats": options.repeats}) for name, us in figures.items()
        ]
    return found


def total(rows: Sequence[Row], path: str, batch: int) -> float:
    """Add up the stages of a path at one batch size."""
    return sum(row.cpu_us for row in rows if row.extra.get("batch") == batch and path in row.extra.get("paths", ()))


def table(rows: Sequence[Row]) -> Table:
    """Return the rows for people: one line a stage, batch 1 beside batch 64."""
    made = Table(title="Where an event's time goes: W1, each stage alone; processor us per event")
    for heading in ("layer", "stage", "@1", "@64", "lowest", "highest", "calls", "kept blocks", "bytes", "peak bytes"):
        made.add_column(heading, justify="left" if heading in ("layer", "stage") else "right", no_wrap=True)
    by_name: dict[str, dict[int, Row]] = {}
    for row in rows:
        if "batch" in row.extra:
            by_name.setdefault(row.row.rpartition(" @")[0], {})[row.extra["batch"]] = row
    for name, sizes in by_name.items():
        made.add_row(*_cells(name, sizes))
    made.add_section()
    for row in rows:
        if "batch" not in row.extra:
            made.add_row("", row.row, "", f"{row.cpu_us:.2f}")
    return made


def _cells(name: str, sizes: dict[int, Row]) -> list[str]:
    large = sizes[64]
    extra = large.extra
    small = sizes[1].cpu_us if 1 in sizes else math.nan
    return [
        extra["layer"],
        name if extra["paths"] else f"({name})",
        "" if math.isnan(small) else f"{small:.2f}",
        f"{large.cpu_us:.2f}",
        f"{extra['cpu_us_min']:.2f}",
        f"{extra['cpu_us_max']:.2f}",
        f"{extra['calls']:.1f}",
        f"{extra['kept_blocks']:.1f}",
        f"{extra['kept_bytes']:,.0f}",
        f"{extra['peak_bytes']:,.0f}",
    ]
