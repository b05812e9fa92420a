"""A pool beyond its capacity: what is done in time, who waits how long, who is refused, at 1x to 4x.

40 workers, handlers of 50 ms (lognormal, sigma 1), 20 s of load; whoever asks waits 3 s, and the engine
is not told. Goodput is what ended within those 3 s, of what the workers could have done.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from laneway.routing.backlog import LOW_PATIENCE
from laneway.routing.lanes import Lane
from tests.simulation.pool_load import Load, Tally, run_load

CRITICAL, HIGH, NORMAL, LOW = Lane


def _goodput(load: Load, tally: Tally) -> float:
    return sum(tally.in_time.values()) / (load.capacity * load.seconds)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_goodput_is_kept_beyond_the_capacity(factor: int) -> None:
    """At 2x, 3x and 4x at least 90 % of what is done at full load is done in time; low is refused most, high least."""
    full = Load(0.95)
    peak = _goodput(full, run_load(full))
    load = Load(factor)
    tally = run_load(load)
    assert _goodput(load, tally) >= 0.9 * peak
    assert tally.wait_s(HIGH, 0.5) < 1.0
    assert tally.wait_s(NORMAL, 0.5) < 2.0
    assert tally.refused_share(LOW) > tally.refused_share(NORMAL) > tally.refused_share(HIGH)
    assert min(tally.retry_ms) >= 100


def test_without_a_limit_most_is_done_too_late() -> None:
    """What the limit is for: without it the same load at 4x is answered after everybody has gone."""
    load = Load(4, target_s=inf)
    tally = run_load(load)
    assert _goodput(load, tally) < 0.6
    assert tally.wait_s(NORMAL) > 10


def test_at_its_capacity_a_pool_refuses_nothing() -> None:
    """Random arrivals at 95 % of the capacity queue now and then; that is no overload."""
    tally = run_load(Load(0.95))
    assert not tally.limited
    assert sum(tally.refused.values()) == 0


def test_a_burst_of_low_events_is_not_refused() -> None:
    """10,000 low events at once, which take 2.5 s to serve, are all taken and all handled, in any order of sessions."""
    load = Load(100, seconds=0.025, workers=200, sessions=200, patience_s=60, mix=((LOW, 1.0),))
    tally = run_load(load)
    assert tally.offered[LOW] > 9_000
    assert sum(tally.refused.values()) == 0
    assert 1.0 < tally.wait_s(LOW) < LOW_PATIENCE
    assert tally.in_time[LOW] == tally.offered[LOW]


def test_deadlines_that_are_told_do_the_same_and_the_limit_takes_nothing_away() -> None:
    """Events that carry their deadline are ended at dequeue for nothing: in-time work stays above 90 % with both."""
    for target_s in (inf, 1.0):
        load = Load(3, seconds=8.0, target_s=target_s, told=True)
        assert _goodput(load, run_load(load)) >= 0.9


@pytest.mark.parametrize("factor", [4, 10])
def test_few_events_are_taken_in_and_then_given_up(factor: int) -> None:
    """With a deadline of the target wait most of what cannot be served in time is refused instead, low too; and low
    is served its share in time."""
    load = Load(factor, seconds=8.0, patience_s=1.0, told=True)
    tally = run_load(load)
    assert sum(tally.expired.values()) < 0.12 * sum(tally.offered.values())
    assert tally.expired[LOW] < 0.15 * tally.refused[LOW] + 1_000
    assert tally.in_time[LOW] > 60 * load.seconds
    assert _goodput(load, tally) >= 0.95


def test_who_floods_is_refused_and_who_does_not_is_not() -> None:
    """One session at 3x the capacity: its excess is refused; the 99 light ones lose nothing and wait for little."""
    free = {"session_events": 100_000}
    alone = Load(3, seconds=8.0, sessions=1, tenants=1, mix=((NORMAL, 1.0),), policy=free)
    assert run_load(alone).refused_share(NORMAL) > 0.4
    mixed = run_load(replace(alone, sessions=100, noisy_share=0.9))
    assert mixed.light_refused == 0
    assert mixed.light_wait_s < 0.2
