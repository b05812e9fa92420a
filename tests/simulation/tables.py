"""What runs of the simulation gave, as tables for a terminal."""

from __future__ import annotations

from rich.table import Table

from tests.simulation.batch import Total
from tests.simulation.hour import Day

__all__ = ["batch_table", "hour_tables"]


def batch_table(total: Total, real_s: float) -> Table:
    """Return the sums of a batch of seeds."""
    table = Table(title="Simulation", show_header=False)
    rows = {
        "seeds": total.seeds,
        "failed": len(total.failures),
        "events (the next two)": total.events,
        "sent by clients": total.sent,
        "numbered by sessions": total.issued,
        "accepted": total.accepted,
        "handled": total.handled,
        "items received by clients": total.given,
        "engine processes": total.lives,
        "virtual time": f"{total.virtual_s:.0f} s",
        "real time": f"{real_s:.1f} s",
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    for title, counts in (("faults", total.faults), ("what came of it", total.outcomes)):
        table.add_section()
        table.add_row(f"[bold]{title}[/bold]", "")
        for name, count in sorted(counts.items()):
            table.add_row(name, str(count))
    return table


def hour_tables(day: Day, real_s: float) -> list[Table]:
    """Return an hour's course, its sums, and what was left at its end."""
    course = Table(title="The course of it")
    for name in ("minute", "sessions known", "awake", "links", "events", "objects each", "log bytes each"):
        course.add_column(name, justify="right")
    for moment in day.moments:
        known = moment.sessions
        each = [f"{amount / known:.0f}" if known else "-" for amount in (moment.blocks, moment.store_bytes)]
        numbers = [f"{number:,}" for number in (known, moment.awake, moment.links, moment.events)]
        course.add_row(f"{moment.minute:.0f}", *numbers, *each)
    sums = Table(title="Sums", show_header=False)
    for name, value in sorted(day.sums.items()):
        sums.add_row(name, f"{value:,}")
    sums.add_row("real time", f"{real_s:.0f} s")
    sums.add_row("violations", str(len(day.violations)))
    sums.add_row("objects left", f"{day.moments[-1].blocks:,}")
    for title, counts in (("faults", day.faults), ("left at the end", day.gauges)):
        sums.add_section()
        sums.add_row(f"[bold]{title}[/bold]", "")
        for name, count in sorted(counts.items()):
            sums.add_row(name, f"{count:,}")
    return [course, sums]
