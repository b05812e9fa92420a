"""The policy of a dispatcher: its defaults hurt nobody."""

from __future__ import annotations

from laneway.routing.policy import DispatchPolicy


def test_defaults_of_a_dispatcher() -> None:
    """Waits of a second are fine, low events may wait for seconds, and each part has its own default."""
    policy = DispatchPolicy()
    assert policy.target_wait_s == 1.0
    assert (policy.codel.target_s, policy.codel.interval_s) == (0.5, 5.0)
    assert policy.weights == (0, 8, 4, 1)
