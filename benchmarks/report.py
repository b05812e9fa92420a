"""What a run leaves: tables on the screen, the same as Markdown, and a JSON line per row.

Law of this file: it computes nothing that is not in the rows; a figure that is missing is a blank.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.goals import Verdict
from benchmarks.measure import Row

__all__ = ["about_line", "goals_table", "rows_table", "run_name", "write_page", "write_records"]

_WIDTH: Final = 200
_LATENCY: Final = (
    ("half_p50_ms", "p50 at half"),
    ("half_p99_ms", "p99 at half"),
    ("common_p50_ms", "p50 at 800/s"),
    ("common_p99_ms", "p99 at 800/s"),
)
_STREAM: Final = (
    ("first_p50_ms", "first p50"),
    ("first_p99_ms", "first p99"),
    ("lag_p50_ms", "lag p50"),
    ("lag_p99_ms", "lag p99"),
    ("beyond_window_p99_ms", "lag p99 beyond window"),
)
_FURTHER: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "W1": _LATENCY,
    "W2": (("p50_ms", "p50"), ("p99_ms", "p99")),
    "edge": (
        ("mean_ms", "mean ms"),
        ("p50_ms", "p50 ms"),
        ("p99_ms", "p99 ms"),
        ("most_per_s", "at most per s"),
        ("each_kb", "KB each"),
        ("connections", "connections"),
    ),
    "hosts": (("p50_ms", "p50"), ("p99_ms", "p99")),
    "state": (("p50_ms", "p50"), ("p99_ms", "p99")),
    "W3 burst": _STREAM,
    "W3 paced": _STREAM,
}
"""Workload -> (name in `extra`, heading); in ms where the heading does not say."""


def about_line(about: Mapping[str, Any]) -> str:
    """Return machine, commit, date and versions as one line."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if version)
    return ", ".join(f"{name} {value}" for name, value in about.items() if name != "versions") + f"; {versions}"


def rows_table(title: str, rows: Sequence[Row]) -> Table:
    """Return the rows of one workload: throughput, spread, processor time, latencies in ms."""
    table = Table(title=title)
    further = _FURTHER.get(rows[0].workload.removeprefix("Ray "), ())
    others = any(True for row in rows for _ in _others(row))
    table.add_column("row", no_wrap=True)
    for heading in (rows[0].what, "lowest", "highest"):
        table.add_column(heading, justify="right")
    counted = any(row.figure("cpu_us") is not None for row in rows)
    for heading in (["CPU us"] if counted else []) + (["of that"] if others else []):
        table.add_column(heading, justify="right")
    for _, heading in further:
        table.add_column(heading, justify="right")
    for row in rows:
        cells = [row.row, *(_number(value) for value in (row.median, min(row.values), max(row.values)))]
        cells += [_number(row.figure("cpu_us"))] if counted else []
        cells += [", ".join(_others(row))] if others else []
        table.add_row(*cells, *(_number(row.figure(name)) for name, _ in further))
    return table


def _others(row: Row) -> Iterator[str]:
    """Processor time of the other processes of a row."""
    for name, value in row.extra.items():
        if name.endswith("_cpu_us"):
            yield f"{name.removesuffix('_cpu_us').replace('_', '-')} {_number(value)}"


def goals_table(verdicts: Sequence[Verdict]) -> Table:
    """Return every goal with its figure."""
    table = Table(title="Goals: ratios are to the named baseline in this run")
    for heading, justify in (("", "left"), ("goal", "left"), ("at", "right"), ("figure", "right"), ("", "left")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    group = ""
    for verdict in verdicts:
        goal = verdict.goal
        bound = f"{'<=' if goal.at_most else '>='} {goal.limit:g} {goal.unit}"
        figure = f"{_number(verdict.figure)} {goal.unit}" if verdict.figure is not None else ""
        table.add_row(goal.group if goal.group != group else "", goal.what, bound, figure, verdict.word)
        group = goal.group
    return table


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def run_name(about: Mapping[str, Any]) -> str:
    """Return DATE-COMMIT of a run."""
    stamp = str(about["date"]).replace("-", "").replace(":", "").replace("+0000", "Z")
    return f"{stamp}-{about['commit'] or 'no-commit'}"


def write_records(path: Path, about: Mapping[str, Any], rows: Sequence[Row]) -> Path:
    """Write JSON lines, one about the machine and one per row; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [{"about": about}, *(row.record() for row in rows)]
    path.write_text("".join(json.dumps(record, allow_nan=False) + "\n" for record in records), encoding="utf-8")
    return path


def write_page(path: Path, about: Mapping[str, Any], records: str, tables: Sequence[Table]) -> None:
    """Write the tables as Markdown, with what the figures mean nothing without."""
    parts = [
        "# A run of the benchmarks",
        f"{about_line(about)}.",
        f"Rows and goals are explained in the [README](../README.md); every repetition is in [{records}]({records}).",
    ]
    for table in tables:
        parts += [f"## {table.title}", _markdown(table)]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _markdown(table: Table) -> str:
    """Render a table as Markdown."""
    text = StringIO()
    title, table.title = table.title, None
    before, table.box = table.box, box.MARKDOWN
    Console(file=text, width=_WIDTH, color_system=None).print(table)
    table.title, table.box = title, before
    return "\n".join(line.rstrip() for line in text.getvalue().strip().splitlines())
