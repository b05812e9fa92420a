"""The lanes' one table."""

from __future__ import annotations

from laneway.routing.lanes import LANE_COUNT, LANE_NAMES, LANE_WEIGHTS, Lane


def test_lanes_index_their_tables() -> None:
    """A lane is its own index into names and weights; critical has no share, the others 8:4:1."""
    assert LANE_COUNT == len(LANE_NAMES) == len(LANE_WEIGHTS) == 4
    assert [LANE_NAMES[lane] for lane in Lane] == ["critical", "high", "normal", "low"]
    assert LANE_WEIGHTS == (0, 8, 4, 1)
    assert sorted(Lane) == [Lane.CRITICAL, Lane.HIGH, Lane.NORMAL, Lane.LOW]
