"""GCRA: the bound, the exact retry-after."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.errors import ConfigError
from laneway.routing.shaper import Gcra

_RATES = st.floats(0.1, 10_000)
_BURSTS = st.floats(1, 1_000)


@settings(deadline=None)
@given(rate=_RATES, burst=_BURSTS, steps=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 3)), max_size=60))
def test_no_span_is_granted_more_than_burst_plus_rate(
    rate: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    """Between any two grants the units granted are at most burst + rate * time (or one lone offer)."""
    gcra, arrival, now = Gcra(rate, burst), 0.0, 1000.0
    granted: list[tuple[float, float]] = []
    for pause_s, cost in steps:
        now += pause_s
        arrival, wait_s = gcra.offer(arrival, now, cost)
        if not wait_s:
            granted.append((now, cost))
    for first in range(len(granted)):
        units = 0.0
        for at, cost in granted[first:]:
            units += cost
            bound = max(burst, cost) + rate * (at - granted[first][0] + 1e-5)
            assert units <= bound


@settings(deadline=None)
@given(rate=_RATES, burst=_BURSTS, costs=st.lists(st.floats(0.01, 2_000), min_size=1, max_size=40))
def test_who_waits_as_told_is_granted(rate: float, burst: float, costs: list[float]) -> None:
    """The refusal's wait is enough, and no less is: half of it is refused again."""
    gcra, arrival, now = Gcra(rate, burst), 0.0, 1000.0
    for cost in costs:
        before = arrival
        arrival, wait_s = gcra.offer(arrival, now, cost)
        if wait_s:
            assert arrival == before
            if wait_s > 1e-3:
                assert gcra.offer(arrival, now + wait_s / 2, cost)[1] > 0.0
            now += wait_s
            arrival, again_s = gcra.offer(arrival, now, cost)
            assert again_s == 0.0


def test_burst_then_rate() -> None:
    """A key at rest gets its burst at once and then one unit per interval."""
    gcra, arrival = Gcra(rate_per_s=10.0, burst=3), 0.0
    for _ in range(3):
        arrival, wait_s = gcra.offer(arrival, 0.0)
        assert wait_s == 0.0
    assert math.isclose(gcra.offer(arrival, 0.0)[1], 0.1, abs_tol=1e-5)
    arrival, wait_s = gcra.offer(arrival, 0.1)
    assert wait_s == 0.0
    assert gcra.offer(arrival, 0.1)[1] > 0.0


def test_an_infinite_rate_grants_everything() -> None:
    """No limit is spelled as infinity."""
    gcra, arrival = Gcra(math.inf, 1), 0.0
    for _ in range(100):
        arrival, wait_s = gcra.offer(arrival, 5.0, 1000.0)
        assert wait_s == 0.0


def test_nonsense_is_refused() -> None:
    """A rate of 0, or a burst below 1 is a mistake in the set-up."""
    for rate, burst in ((0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (1.0, 0.5), (1.0, math.nan)):
        with pytest.raises(ConfigError):
            Gcra(rate, burst)
