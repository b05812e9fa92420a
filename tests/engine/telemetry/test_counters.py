"""The default probe."""

from __future__ import annotations

from laneway.engine.telemetry.counters import BUCKETS_S, Counters


def test_counts_by_name_and_labels() -> None:
    """The order of labels does not matter."""
    counters = Counters()
    counters.count("refused", code="A", lane="low")
    counters.count("refused", 2, lane="low", code="A")
    counters.count("refused", code="B")
    counters.count("plain")
    assert counters.snapshot() == {"refused{code=A,lane=low}": 3, "refused{code=B}": 1, "plain": 1}


def test_measurements_fall_into_buckets() -> None:
    """A bound belongs to its own bucket; what is above all bounds falls into the last one."""
    counters = Counters()
    for value in (BUCKETS_S[0], BUCKETS_S[0] * 1.01, 100.0):
        counters.observe("wait", value)
    row = counters.snapshot()["wait"]
    assert row["count"] == 3
    assert row["buckets"][0] == row["buckets"][1] == row["buckets"][-1] == 1
    assert abs(row["sum"] - 100.001005) < 1e-6


def test_a_value_that_was_measured_several_times_is_told_once() -> None:
    """It counts as often as it was measured."""
    counters = Counters()
    wait = counters.histogram("wait")
    wait(0.5, 3)
    for _ in range(3):
        counters.observe("same", 0.5)
    assert counters.snapshot()["wait"] == counters.snapshot()["same"]
