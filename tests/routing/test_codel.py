"""CoDel: a flow that keeps waiting loses events from its head, a burst and a light flow lose none."""

from __future__ import annotations

from math import inf, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.codel import Codel, CodelPolicy
from laneway.routing.envelope import ACCEPTED, COUNTER, SESSION, Envelope, envelope
from laneway.routing.errors import ConfigError
from laneway.routing.lanes import Lane
from laneway.routing.scheduler import Scheduler

_POLICY = CodelPolicy(target_s=0.5, interval_s=5.0)
_FLOW = ("t", "s")


def _event(number: int, accepted: float, session: str = "s", lane: Lane = Lane.LOW) -> Envelope:
    return envelope("K", producer="p", counter=number, tenant="t", session=session, lane=lane, accepted=accepted)


def _drops(codel: Codel, start: float, end: float, step: float = 0.01) -> list[float]:
    """When a flow that is above the target all the time loses an event."""
    times, now = [], start
    while now < end:
        if codel.above(_FLOW, now):
            times.append(now)
        now += step
    return times


def test_drops_follow_the_control_law() -> None:
    """The first one after an interval, then after interval / sqrt(1), sqrt(2), sqrt(3) ... (RFC 8289, 5.3)."""
    drops = _drops(Codel(_POLICY), 0.0, 30.0)
    expected = [5.0, 10.0]
    while expected[-1] < 25:
        expected.append(expected[-1] + 5.0 / sqrt(len(expected)))
    assert drops[: len(expected)] == pytest.approx(expected, abs=0.03)


def test_one_event_within_the_target_ends_it() -> None:
    """The next one may wait for a whole interval again; soon after, dropping goes on at the rate it had."""
    codel = Codel(_POLICY)
    assert len(_drops(codel, 0.0, 24.0)) == 7
    codel.within(_FLOW)
    assert _drops(codel, 24.0, 28.9) == []
    again = _drops(codel, 28.9, 40.0)
    assert again[1] - again[0] < 5.0 / sqrt(4)


@given(st.lists(st.tuples(st.floats(0, 4.9), st.booleans()), max_size=60))
def test_nothing_is_dropped_that_is_back_within_an_interval(steps: list[tuple[float, bool]]) -> None:
    """Whatever comes and goes: a flow that is within the target once per interval loses nothing."""
    codel, now = Codel(_POLICY), 0.0
    for pause, _ in steps:
        codel.within(_FLOW)
        assert not codel.above(_FLOW, now)
        now += pause
        assert not codel.above(_FLOW, now)


def test_what_is_remembered_is_bounded() -> None:
    """A million flows above the target do not fill memory."""
    codel = Codel(_POLICY)
    for number in range(5_000):
        codel.above(("t", f"s{number}"), 0.0)
    assert len(codel._flows) == 1024


def test_times_that_mean_nothing_are_refused() -> None:
    """Target and interval above 0; an infinite interval would never drop and say that it may."""
    for wrong in ({"target_s": 0.0}, {"interval_s": 0.0}, {"interval_s": inf}):
        with pytest.raises(ConfigError):
            CodelPolicy(**wrong)


@settings(deadline=None, max_examples=6)
@given(per_s=st.integers(20, 80), seed=st.integers(0, 9))
def test_a_session_beyond_its_share_of_low_is_thinned_out_and_a_light_one_is_not(per_s: int, seed: int) -> None:
    """One session sends low events at up to 4x what is served, the other few: the first loses events from its
    head, in order, the other none; taken + dropped + waiting = offered."""
    scheduler = Scheduler(codel=_POLICY)
    taken: list[Envelope] = []
    dropped: list[Envelope] = []
    number = 0
    for tick in range(4_000):  # 40 s; 20 events a second are served
        now = tick * 0.01
        for _ in range(per_s * (tick + 1) // 100 - per_s * tick // 100):
            number += 1
            scheduler.push(_event(number, now))
        if tick % 50 == seed:
            number += 1
            scheduler.push(_event(number, now, session="light"))
        if tick % 5 == 0:
            taken += scheduler.take(1, now)
        dropped += scheduler.dropped()
    assert len(taken) + len(dropped) + len(scheduler) == number
    assert scheduler.statistics().dropped == len(dropped)
    assert {env[SESSION] for env in dropped} <= {"s"}
    assert (per_s < 30) or dropped
    mine = [env[COUNTER] for env in taken if env[SESSION] == "s"]
    assert mine == sorted(mine)


def test_a_burst_and_other_lanes_lose_nothing() -> None:
    """A burst of low events that is through in 4 s loses none; normal events are never dropped however they wait."""
    scheduler = Scheduler(codel=_POLICY)
    for number in range(400):
        scheduler.push(_event(number, 0.0))
    out = [env for tick in range(400) for env in scheduler.take(1, tick * 0.01)]
    assert len(out) == 400
    for number in range(1_000):
        scheduler.push(_event(number, 0.0, lane=Lane.NORMAL))
    late = [env for tick in range(900) for env in scheduler.take(1, 100 + tick * 0.1)]
    assert len(late) == 900
    assert scheduler.dropped() == []


def test_a_take_is_full_although_something_was_dropped() -> None:
    """What is dropped costs no room: the next one takes its place, so that ageing and weights give low its service."""
    scheduler = Scheduler(codel=CodelPolicy(target_s=0.1, interval_s=0.2))
    for number in range(100):
        scheduler.push(_event(number, 0.0))
    sizes = [len(scheduler.take(2, 1.0 + tick * 0.1)) for tick in range(20)]
    assert sizes == [2] * 20
    assert len(scheduler.dropped()) > 3


def test_without_a_target_nothing_is_dropped() -> None:
    """An infinite target turns it off."""
    scheduler = Scheduler(codel=CodelPolicy(target_s=inf))
    for number in range(100):
        scheduler.push(_event(number, 0.0))
    assert sum(len(scheduler.take(1, 1_000.0 * tick)) for tick in range(100)) == 100
    assert scheduler.dropped() == []
    assert _event(1, 3.0)[ACCEPTED] == 3.0
