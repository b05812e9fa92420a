"""One more listener."""

from __future__ import annotations

from laneway.engine.telemetry.counters import Counters
from laneway.engine.telemetry.tee import Tee


def test_both_are_told_everything() -> None:
    """Counts, measurements and bound histograms."""
    ours, theirs = Counters(), Counters()
    tee = Tee(ours, theirs)
    tee.count("a", 2, lane="low")
    tee.observe("b", 0.5)
    tee.histogram("c", lane="low")(0.5, 3)
    assert ours.snapshot() == theirs.snapshot()
    assert set(ours.snapshot()) == {"a{lane=low}", "b", "c{lane=low}"}
