"""The breaker: when it opens, how it probes, how long it waits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.tools.breaker import Breaker


def broken(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(10):
        assert breaker.allow(now) == 0.0
        breaker.record(False, now)
    return breaker


def test_it_needs_ten_results_and_half_of_them_broken() -> None:
    """Nine failures leave it closed, the tenth opens it; with more successes than failures it stays closed."""
    breaker = Breaker()
    for n in range(9):
        breaker.record(False, float(n) / 10)
    assert breaker.state == "closed"
    breaker.record(False, 1.0)
    assert breaker.state == "open"
    mixed = Breaker()
    for n in range(40):
        mixed.record(n % 5 < 3, 0.0)  # 40 % broken
    assert mixed.state == "closed"


def test_old_results_do_not_count() -> None:
    """Failures older than 10 s are forgotten."""
    breaker = Breaker()
    for _ in range(9):
        breaker.record(False, 0.0)
    breaker.record(False, 10.5)
    assert breaker.state == "closed"


def test_one_probe_decides_and_failed_probes_double_the_pause() -> None:
    """Open: refused with the time left; then one call goes; 1, 2, 4 ... 30 s."""
    breaker, now = broken(), 0.0
    assert breaker.allow(0.25) == 0.75
    for pause in (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        now += pause
        assert breaker.allow(now) == 0.0
        assert breaker.state == "half_open"
        assert breaker.allow(now) > 0.0
        breaker.record(False, now)
    now += 30.0
    assert breaker.allow(now) == 0.0
    breaker.record(True, now)
    assert breaker.state == "closed"


def test_a_probe_that_said_nothing_leaves_room_for_the_next() -> None:
    """A cancelled probe is forgotten and another may go at once."""
    breaker = broken()
    assert breaker.allow(1.0) == 0.0
    breaker.forget()
    assert breaker.allow(1.0) == 0.0


@given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from(["good", "bad", "silent"])), max_size=80))
def test_it_never_locks_up(steps: list[tuple[float, str]]) -> None:
    """Whatever happened, 30 s later a call is let through."""
    breaker, now = Breaker(), 0.0
    for wait, result in steps:
        now += wait
        if breaker.allow(now) == 0.0:
            if result == "silent":
                breaker.forget()
            else:
                breaker.record(result == "good", now)
    assert breaker.allow(now + 30.0) == 0.0
