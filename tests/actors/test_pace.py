"""How many events a cell keeps ready."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.pace import Pace


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
