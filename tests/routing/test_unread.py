"""How far a run goes on that nobody reads."""

from __future__ import annotations

import pytest

from laneway.routing.unread import Unread, UnreadRuns


@pytest.mark.parametrize(
    ("policy", "granted", "acked", "limit"),
    [
        ("pause", 100, 60, 100),
        ("pause", None, 60, 70),
        ("close", 100, 60, 110),
        ("close", None, 60, 70),
        ("continue", 100, 60, 1_100),
        ("continue", None, 60, 1_060),
    ],
)
def test_each_policy_has_its_bound(policy: Unread, granted: int | None, acked: int, limit: int) -> None:
    """Beyond the furthest grant, or with no live link beyond the last ack."""
    assert UnreadRuns(10, 1_000).limit(policy, granted, acked) == limit


def test_where_nothing_can_be_spilled_it_goes_as_far_as_the_budget() -> None:
    """A log in this process's memory is no place to spill to."""
    assert UnreadRuns(10, 0).limit("continue", 100, 60) == 110


def test_a_policy_is_of_one_run_and_is_forgotten() -> None:
    """Who says nothing pauses."""
    runs = UnreadRuns(10, 1_000)
    runs.set("a", "close")
    runs.set("b", "continue")
    assert (runs.of("a"), runs.of("b"), runs.of("c"), len(runs)) == ("close", "continue", "pause", 2)
    runs.set("a", "pause")
    runs.set("c", "pause")
    assert (runs.of("a"), len(runs)) == ("pause", 1)
