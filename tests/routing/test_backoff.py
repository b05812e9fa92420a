"""Full jitter, and when failures are forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.backoff import Backoff, full_jitter
from laneway.routing.errors import LocalProtocolError


@settings(deadline=None)
@given(attempt=st.integers(0, 10_000), base_s=st.floats(1e-3, 10), cap_s=st.floats(0, 100), unit=st.floats(0, 0.999999))
def test_wait_lies_within_its_bounds(attempt: int, base_s: float, cap_s: float, unit: float) -> None:
    """Never negative, never above the cap nor above base * 2^attempt, however many attempts."""
    wait_s = full_jitter(attempt, base_s, cap_s, lambda: unit)
    assert 0.0 <= wait_s <= cap_s
    assert wait_s <= base_s * 2.0 ** min(attempt, 62)


def test_the_interval_doubles_up_to_the_cap() -> None:
    """The upper bound grows 0.5, 1, 2, 4 and stops at the cap; the jitter covers it whole."""
    assert [full_jitter(n, 0.5, 3.0, lambda: 1.0) for n in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert full_jitter(4, 0.5, 3.0, lambda: 0.0) == 0.0
    with pytest.raises(LocalProtocolError):
        full_jitter(-1, 0.5, 3.0, lambda: 0.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 120)), max_size=30))
def test_only_a_healthy_connection_starts_over(steps: list[tuple[bool, float]]) -> None:
    """A connection shorter than healthy_s counts as one more failure; a longer one forgets them all."""
    backoff = Backoff(lambda: 1.0, base_s=0.5, cap_s=20.0, healthy_s=60.0)
    now, expected = 0.0, 0
    for connects, lasts_s in steps:
        if connects:
            backoff.connected(now)
            backoff.connected(now + lasts_s / 2)
            if (now + lasts_s) - now >= 60.0:
                expected = 0
        now += lasts_s
        assert backoff.failed(now) == min(20.0, 0.5 * 2.0**expected)
        expected += 1
        assert backoff.attempt == expected


def test_the_server_may_ask_for_longer() -> None:
    """A dictated wait is never undercut, and jitter comes on top of it."""
    assert Backoff(lambda: 0.0).failed(0.0, retry_after_s=7.0) == 7.0
    assert Backoff(lambda: 1.0).failed(0.0, retry_after_s=7.0) == 7.5
