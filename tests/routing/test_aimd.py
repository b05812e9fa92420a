"""AIMD: cut by a tenth on long waits, grow by a step while it is used, within its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.routing.aimd import AimdLimit, AimdPolicy, Waits
from laneway.routing.errors import ConfigError


def test_long_waits_cut_by_a_tenth_and_short_ones_add_one() -> None:
    """Once per tick: x0.9 above 20 ms, +1 when at least half is used, nothing when idle."""
    limit = AimdLimit(AimdPolicy(initial=100, floor=2), 0.0)
    assert limit.observe(0.05, 100, 0.1)
    assert limit.value == 90
    assert not limit.observe(0.0, 45, 0.25)
    assert limit.value == 91
    limit.observe(0.0, 10, 0.4)
    assert limit.value == 91
    limit.observe(9.0, 91, 0.45)
    assert limit.value == 91  # the tick is not over


def test_what_came_before_a_cut_is_not_cut_on_again() -> None:
    """A queue of 5 s is cut on once; what was let in after the cut is judged by itself."""
    limit = AimdLimit(AimdPolicy(initial=100, floor=2, target_s=1.0), 0.0)
    limit.observe(5.0, 100, 0.1)
    assert limit.value == 90
    for tick in range(2, 50):
        limit.observe(5.0, 100, tick * 0.1)
    assert limit.value == 90
    limit.observe(1.5, 100, 5.2)
    assert limit.value == 81


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2000), st.floats(0, 1), st.floats(0, 50)), max_size=200))
def test_the_limit_stays_within_its_bounds(samples: list[tuple[float, int, float, float]]) -> None:
    """No sequence of waits takes it below the floor or above the ceiling."""
    limit, now = AimdLimit(AimdPolicy(initial=8, floor=2, ceiling=16), 0.0), 0.0
    for wait, used, pause, step in samples:
        now += pause
        limit.observe(wait, used, now, step)
        assert 2 <= limit.value <= 16


@given(st.lists(st.floats(0, 10), min_size=1, max_size=1_000))
def test_a_tick_tells_the_middle_of_its_waits(waits: list[float]) -> None:
    """A median of a bounded number of samples, the later ones; the next tick begins empty."""
    tick = Waits(0.1, 0.0)
    for wait_s in waits:
        assert tick.note(wait_s, 0.05) is None
    median = tick.note(waits[-1], 0.1)
    assert median is not None
    assert min(waits) <= median <= max(waits)
    assert tick.note(77.0, 0.3) == 77.0


def test_bounds_that_contradict_each_other_are_refused() -> None:
    """floor <= initial <= ceiling, and times above 0."""
    for wrong in ({"floor": 9}, {"ceiling": 3}, {"target_s": 0}, {"tick_s": 0}, {"floor": 0}):
        with pytest.raises(ConfigError):
            AimdPolicy(**{"initial": 8, "floor": 2, "ceiling": 16, **wrong})
