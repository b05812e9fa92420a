"""The rows of a run, for people, for a page and for a program.

Law of this file: it shows what was counted and computes nothing else.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any, Final

from rich.table import Table

from tests.chaos.rounds import Row

__all__ = ["COLUMNS", "markdown", "shown", "to_json"]

COLUMNS: Final = (
    "fault", "fired", "events", "lost", "twice", "jobs repeated", "runs HOST_LOST", "runs ended", "resumed",
    "heal p50 s", "heal max s", "seed",
)  # fmt: skip
_PAGE: Final = """# Chaos

What `make chaos` found: real processes (two fronts of `laneway serve`, pool hosts on a Ray of two nodes, a Redis
that syncs every write) under load, a fault, and a checker over everybody's notes. Written by that command; do
not edit. Machine: {machine}, {cpus} CPUs, Python {python}.

{table}

- *events*: what clients got an OK for, and what they read. *lost*: accepted and without deed, answer or end.
  *twice*: effects that must not be repeated, event ids or ends of runs that came twice.
- *jobs repeated*: jobs are at-least-once; they may be done again when the host that did them is lost.
- *runs HOST_LOST*: runs that were going on there; their clients are told that they may ask again.
- *resumed*: connections after the first that went on where they had been, of all of them.
- *heal*: from the fault until what a client asked for next was answered; a run takes up to a second by itself.

`python -m tests.chaos --only "{first}"` makes one fault alone; `--seed` chooses the mixes.
"""


def _cells(row: Row) -> list[str]:
    verdict = row.verdict
    again = verdict.welcomes["resumed"]
    all_again = sum(verdict.welcomes.values()) - verdict.clients
    return [
        row.fault, str(row.fired), f"{verdict.accepted} + {verdict.delivered}", str(verdict.lost), str(verdict.twice),
        str(verdict.repeated), str(verdict.outcomes["HOST_LOST"]), str(sum(verdict.outcomes.values())),
        f"{again} of {all_again}", f"{row.p50_s:.1f}", f"{row.max_s:.1f}", str(row.seed),
    ]  # fmt: skip


def shown(rows: Sequence[Row]) -> Table:
    """Return the table for a terminal."""
    table = Table(title="Chaos", show_lines=False)
    for column in COLUMNS:
        table.add_column(column)
    for row in rows:
        table.add_row(*_cells(row), style="red" if row.verdict.violations else None)
    return table


def markdown(rows: Sequence[Row], cpus: int) -> str:
    """Return the page."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return _PAGE.format(
        table="\n".join(lines), machine=platform.machine(), cpus=cpus, python=platform.python_version(),
        first=rows[0].fault,
    )  # fmt: skip


def to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows as plain data."""
    return [
        dict(zip(COLUMNS, _cells(row), strict=True))
        | {"violations": row.verdict.violations, "accepted": row.verdict.accepted}
        for row in rows
    ]
