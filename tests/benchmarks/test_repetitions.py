"""Figures of repetitions: medians per row and load, and what each lane had. No times."""

from __future__ import annotations

import math

from benchmarks.measure import Options
from benchmarks.repetitions import Runs, lane_figures, planned
from benchmarks.sweep import Due, Load, Subject, Tally
from laneway.routing.lanes import Lane

SUBJECT = Subject("row", lambda tally, watch: None)  # type: ignore[arg-type,return-value]


def test_a_row_has_the_median_of_each_figure() -> None:
    """And all values of the one that is its own."""
    runs = Runs("W4", "p99_ms", "critical p99 ms")
    for value in (3.0, 1.0, 2.0):
        runs.add(SUBJECT, "2x", {"p99_ms": value, "engine_cpu_us": 10 * value})
    (row,) = runs.rows()
    assert (row.workload, row.row, row.values, row.median, row.cpu_us) == ("W4", "row @2x", (3.0, 1.0, 2.0), 2.0, 20.0)
    assert row.extra["load"] == "2x"


def test_repetitions_go_round_all_rows() -> None:
    """So that a disturbance meets all of them."""
    said: list[str] = []
    order = list(planned("W4", [SUBJECT, SUBJECT], ("1x", "2x"), Options(overload_repeats=2), said.append))
    assert [load for _, load in order] == ["1x", "2x"] * 4
    assert said[-1] == "W4 row at 2x, 2 of 2"


def test_low_is_served_or_not_while_queues_are_full() -> None:
    """Results of the second half count, those after the end do not; the longest time without one has both ends."""
    load = Load("x", 4.0, 1.0, lambda number: Lane.LOW, lambda number: 0)
    tally = Tally()
    tally.begun = 10.0
    tally.done = [(Due(number, Lane.LOW, 10.0, 0), at) for number, at in enumerate((10.1, 10.6, 11.5))]
    tally.refuse(Due(3, Lane.LOW, 10.0, 0))
    figures = lane_figures(tally, load)
    assert (figures["low_done"], figures["low_refused"], figures["low_per_s"]) == (3, 1, 2.0)
    assert math.isclose(figures["low_pause_ms"], 400.0, abs_tol=0.001)
    assert math.isclose(figures["low_longest_ms"], 1500.0, abs_tol=0.001)
    assert math.isnan(figures["high_p99_ms"])


def test_a_load_without_low_has_no_figure_of_it() -> None:
    """Nothing is guessed."""
    load = Load("alone", 4.0, 1.0, lambda number: Lane.CRITICAL, lambda number: 0)
    assert math.isnan(lane_figures(Tally(), load)["low_per_s"])
