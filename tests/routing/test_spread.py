"""Times to come again: not before they were meant, not all together."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from laneway.routing.spread import Spread


@given(st.integers(1, 60_000), st.integers(1, 200))
def test_times_are_never_too_early_and_at_most_half_as_much_later(least_ms: int, many: int) -> None:
    """Whoever asks, however often."""
    spread = Spread()
    assert all(least_ms <= spread.ms(least_ms) <= 1.5 * least_ms for _ in range(many))


def test_times_fill_the_span_evenly() -> None:
    """Of 100 that are told to come in a second, no two gaps are far from a hundredth of the half second more."""
    spread = Spread()
    times = sorted(spread.ms(1_000) for _ in range(100))
    assert max(b - a for a, b in pairwise(times)) <= 10
    assert (times[0], times[-1]) == (1_000, 1_499) or (times[0] < 1_010 and times[-1] > 1_490)
