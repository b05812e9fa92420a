"""How many events a cell keeps ready."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.pools.pace import Pace


def after(service_s: float, times: int = 200, concurrency: int = 8, most: int = 16) -> Pace:
    pace = Pace(concurrency, most)
    for _ in range(times):
        pace.took(service_s)
    return pace


def test_brief_handlers_get_all_the_room() -> None:
    """Up to a millisecond at twice the concurrency: the cell never runs dry between two turns of the loop."""
    assert [after(service_s).ready for service_s in (0.0, 0.000_01, 0.001)] == [16, 16, 16]
    assert after(0.000_01).room(free=16, idle=0, waiting=0) == 16


def test_longer_ones_get_what_begins_within_two_milliseconds() -> None:
    """Half the concurrency at 4 ms; one event at seconds, so that the next is there when a slot is."""
    assert [after(service_s).ready for service_s in (0.004, 0.016, 3.0)] == [4, 1, 1]


def test_idle_slots_are_filled_at_once() -> None:
    """What is kept ready comes on top of what may begin now."""
    slow = after(0.004)
    assert [slow.room(16, idle, waiting) for idle, waiting in ((8, 0), (0, 0), (0, 4), (0, 6), (2, 5))] == [
        12,
        4,
        0,
        0,
        1,
    ]
    assert slow.room(3, 8, 0) == 3


def test_one_slow_event_changes_little() -> None:
    """The time is smoothed, and comes back when handlers are brief again."""
    pace = after(0.000_1)
    pace.took(0.005)
    assert pace.ready == 16
    slow = after(0.010)
    assert slow.ready == 1
    for _ in range(100):
        slow.took(0.000_1)
    assert slow.ready == 16


@given(st.lists(st.floats(0, 100), max_size=50), st.integers(1, 1_000), st.integers(1, 2_000))
def test_something_is_always_ready(services: list[float], concurrency: int, most: int) -> None:
    """At least one event and at most the bound, whatever was measured; an empty cell takes some."""
    pace = Pace(concurrency, most)
    for service_s in services:
        pace.took(service_s)
        assert 1 <= pace.ready <= most
        assert pace.room(most, concurrency, 0) >= 1


def handled(pace: Pace, each_s: float, times: int, *, at_once: int = 1) -> Pace:
    """A slot that handles one event after the other, or so many at once, without rest."""
    slot = SimpleNamespace(since=0.0, began=0.0, taken=0)
    now = 0.0
    for _ in range(times):
        slot.since = now
        now += each_s * at_once
        if at_once == 1:
            pace.ended(slot, now)
        else:
            slot.taken, slot.began = at_once, slot.since
            pace.ran(slot, now)
    pace.ran(slot, now)
    return pace


@pytest.mark.parametrize("at_once", [1, 64])
def test_the_briefest_fill_two_milliseconds(at_once: int) -> None:
    """Handlers of microseconds get as many as begin in that time, up to the limit; never less than twice the slots."""
    ready = {
        each_s: handled(Pace(8, 16, 1024), each_s, 6400, at_once=at_once).ready for each_s in (0, 1e-6, 1e-5, 5e-4)
    }
    assert ready[0] == ready[1e-6] == 1024
    assert ready[1e-5] == pytest.approx(200, rel=0.1)
    assert ready[5e-4] == 16
    assert handled(Pace(8, 16), 1e-6, 6400).ready == 16


def test_one_that_takes_long_ends_the_abundance() -> None:
    """What is ready can be overtaken by nothing, so it is little until many have been brief again."""
    pace = handled(Pace(8, 16, 1024), 1e-6, 6400)
    pace.took(0.9)
    assert (pace.brief, pace.ready, pace.capacity) == (False, 1, 16)
    for _ in range(100):
        pace.took(1e-6)
    assert (pace.brief, pace.ready, pace.capacity) == (True, 16, 16)
    assert handled(pace, 1e-6, 6400).capacity == 1024


def test_one_pause_of_the_machine_changes_little() -> None:
    """However long it was: it counts as handlers that are just not brief enough for more."""
    pace = handled(Pace(8, 128, 1024), 1e-6, 6400, at_once=64)
    handled(pace, 1.0, 64, at_once=64)
    assert pace.ready == 128
    pace = handled(Pace(8, 128, 1024), 1e-6, 6400, at_once=64)
    slot = SimpleNamespace(since=0.0, began=0.0, taken=64)
    pace.ran(slot, 3.0)
    assert pace.ready > 500
