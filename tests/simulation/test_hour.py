"""Thousands of sessions that come and go: two minutes of the hour, and what its tables say."""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Iterator

import pytest
from rich.console import Console

from tests.simulation.hour import Day, Moment, Plan, simulate_hour
from tests.simulation.tables import hour_tables

_PLAN = Plan(sessions=1000, minutes=2.0, visits=1, events=2, pace_s=5.0)


@pytest.fixture(scope="module")
def day() -> Iterator[Day]:
    """Two virtual minutes."""
    logging.disable(logging.CRITICAL)
    yield simulate_hour(2, plan=_PLAN)
    logging.disable(logging.NOTSET)


@pytest.mark.slow
def test_sessions_come_and_go_and_leave_nothing(day: Day) -> None:
    """Each session's books hold, both conservation laws do at every look, and at the end every gauge is zero."""
    assert day.violations == []
    assert day.gauges
    assert not any(day.gauges.values())
    assert day.sums["sessions"] == _PLAN.sessions
    assert day.sums["accepted"] > 0.95 * day.sums["sent"] > 0


@pytest.mark.slow
def test_memory_follows_the_sessions_that_are_there(day: Day) -> None:
    """When all are gone, less is left of each than a tenth of what one takes while it is awake."""
    peak = max(day.moments, key=lambda moment: moment.awake)
    assert peak.awake > 100
    assert (day.moments[-1].sessions, day.moments[-1].awake) == (0, 0)
    assert day.moments[-1].blocks / _PLAN.sessions < 0.1 * peak.blocks / peak.awake


@pytest.mark.slow
def test_the_light_faults_really_happened(day: Day) -> None:
    """Connections broke, the disk was slow and clocks jumped, and clients resumed."""
    for name in ("cut", "stall", "client posts", "frame doubled", "wall clock jumped", "handler failed", "tool ok"):
        assert day.faults[name], name
    assert day.sums["welcome resumed"]


def test_the_tables_say_what_one_session_takes() -> None:
    """Objects and bytes are told for each session known; what nobody divides by is a dash."""
    moments = [Moment(0, 0, 0, 0, 0, 0, 0), Moment(5, 10, 8, 4, 1234, 5000, 20_000)]
    day = Day([], Counter(cut=3), moments, Counter(sent=7), {"links": 0})
    console = Console(file=io.StringIO(), width=120)
    for table in hour_tables(day, 1.0):
        console.print(table)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    row = next(line for line in told.splitlines() if "1,234" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["5", "10", "8", "4", "1,234", "500", "2000"]
    assert "│ cut " in told
