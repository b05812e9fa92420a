"""The cost per event with many sessions waiting: measured, and flat in calls, whatever their number."""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks.measure import Options
from benchmarks.sessions import _Waiting, run, table


def _calls(work: Callable[[], object]) -> int:
    """Count the calls of functions, which do not depend on the load of the machine."""
    count = 0

    def on_event(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(on_event)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_an_event_costs_the_same_calls_whatever_number_of_sessions_waits() -> None:
    """O(1) amortised: with 20,000 sessions waiting at most 5 % more calls per event than with 200."""
    few, many = _Waiting(200), _Waiting(20_000)
    for load in (few, many):
        load.cost_us(200 if load is few else 20_000)  # sorted into flows once
    assert _calls(lambda: many.cost_us(6_400)) <= 1.05 * _calls(lambda: few.cost_us(6_400))


def test_rows_and_table() -> None:
    """Each size has its row and is shown against one session."""
    rows = run(Options(events=640, repeats=1), lambda text: None)
    assert [row.row for row in rows] == ["1 waiting", "1,000 waiting"]
    assert all(row.median > 0 for row in rows)
    assert table(rows).row_count == 2
