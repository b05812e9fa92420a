"""Slopes: what rises is seen to rise, what only shakes is not, and an outlier moves nothing."""

from __future__ import annotations

import random

import pytest

from benchmarks.trend import blocks, trend


def _series(slope: float, noise: float, count: int = 40) -> list[tuple[float, float]]:
    chance = random.Random(7)
    return [(float(x), 100.0 + slope * x + chance.gauss(0.0, noise)) for x in range(count)]


def test_a_line_has_its_slope() -> None:
    """Without noise the interval is the slope."""
    found = trend(_series(2.0, 0.0))
    assert (found.slope, found.low, found.high) == (2.0, 2.0, 2.0)
    assert not found.settled


def test_a_leak_is_found_under_noise() -> None:
    """The interval holds the slope and not zero."""
    found = trend(_series(0.5, 2.0))
    assert found.low < 0.5 < found.high
    assert not found.settled


def test_noise_alone_is_settled() -> None:
    """In nearly all of many series; 95 % are promised."""
    chance = random.Random(3)
    series = [[(float(x), chance.gauss(0.0, 1.0)) for x in range(30)] for _ in range(200)]
    assert sum(trend(points).settled for points in series) >= 180


def test_what_does_not_change_is_settled() -> None:
    """All values the same: no slope, no width."""
    found = trend([(float(x), 5.0) for x in range(10)])
    assert (found.slope, found.low, found.high, found.settled) == (0.0, 0.0, 0.0, True)


def test_an_outlier_does_not_tilt_it() -> None:
    """One wild value at the end of a line."""
    points = [*_series(1.0, 0.0)[:-1], (39.0, 1e9)]
    assert trend(points).slope == pytest.approx(1.0)


def test_blocks_take_the_least_of_each() -> None:
    """So that what comes and goes does not count; what does not fill a block is left out."""
    assert blocks([(0.0, 3.0), (1.0, 2.0), (2.0, 5.0), (3.0, 9.0), (4.0, 1.0)], 2) == [(0.5, 2.0), (2.5, 5.0)]
    assert blocks([(0.0, 3.0)], 4) == [(0.0, 3.0)]


def test_too_few_points_have_no_slope() -> None:
    """Four are the least."""
    with pytest.raises(ValueError, match="3 points"):
        trend([(0.0, 1.0), (1.0, 1.0), (2.0, 1.0)])
