"""What a client keeps back: little in calm times, most of a flood that is refused, never what is critical."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.routing.lanes import Lane
from laneway.routing.restraint import Restraint

CRITICAL, HIGH, NORMAL, LOW = Lane


def _flood(load: float, seconds: float = 20.0, capacity: float = 100.0) -> tuple[float, float, float]:
    """A client that offers `load` times what an engine takes, and tries again; events a second of the second half:
    those that went out, the tries among them that were not the first, and those taken."""
    restraint, out, again, taken = Restraint(Random(1).random), 0, 0, 0
    due: list[float] = []
    steps = int(seconds * capacity * load)
    room = 0.0
    for step in range(steps):
        now = step / (capacity * load)
        room = min(capacity / 10, room + 1 / load)
        tries = [each for each in due if each <= now]
        due = [each for each in due if each > now]
        offered = [True] * len(tries) + ([False] if restraint.holds(NORMAL, now) is None else [])
        for retried in offered:
            counts = step >= steps / 2
            out, again = out + counts, again + (counts and retried)
            if room >= 1:
                room -= 1
                taken += counts
                restraint.taken(NORMAL)
            elif (at := restraint.refused(NORMAL, "POOL", 500, now, last=retried)) is not None:
                due.append(at)
    half = seconds / 2
    return out / half, again / half, taken / half


@pytest.mark.parametrize("load", [2, 4, 10, 50])
def test_an_overloaded_engine_gets_little_more_than_twice_what_it_takes(load: float) -> None:
    """Or a tenth of the flood: the rest ends here, what can be taken still is, and few tries are second ones."""
    out, again, taken = _flood(load)
    assert out <= max(2.6 * taken, 0.15 * load * 100) + 0.12 * load * 100
    assert again <= 0.12 * load * 100 + 1
    assert taken >= 99


def test_in_calm_times_nothing_is_kept_back() -> None:
    """Without a refusal, or once its time is over."""
    restraint = Restraint(lambda: 0.0)
    assert all(restraint.holds(NORMAL, 0.01 * n) is None for n in range(1_000))
    for _ in range(100):
        restraint.holds(NORMAL, 10.0)
        restraint.refused(NORMAL, "POOL", 200, 10.0, last=True)
    assert restraint.holds(NORMAL, 10.0) == pytest.approx(0.2)
    assert restraint.holds(LOW, 10.0) is None
    assert restraint.holds(NORMAL, 10.2) is None


def test_a_client_that_hardly_speaks_is_heard() -> None:
    """The first few events go out whatever became of those before them."""
    restraint = Restraint(lambda: 0.0)
    restraint.refused(NORMAL, "POOL", 60_000, 0.0)
    assert [restraint.holds(NORMAL, 0.0) for _ in range(8)] == [None] * 8
    assert restraint.holds(NORMAL, 0.0) == 60.0


def test_a_second_try_costs_a_token_and_events_and_time_bring_some() -> None:
    """Ten at once, then one for every ten events, or a second."""
    restraint = Restraint(lambda: 0.5)
    tries = [restraint.refused(HIGH, "POOL", 1_000, 5.0) for _ in range(12)]
    assert tries == [pytest.approx(6.05)] * 10 + [None] * 2
    for _ in range(10):
        restraint.holds(HIGH, 5.0)
    assert [restraint.refused(HIGH, "POOL", 1_000, 5.0) is None for _ in range(2)] == [False, True]
    assert [restraint.refused(HIGH, "POOL", 1_000, 6.0) is None for _ in range(2)] == [False, True]


def test_a_session_that_is_refused_for_its_own_sake_tries_as_often_as_it_was_taken() -> None:
    """A thousand at once all come again; then one for each that was taken, and no other tokens are spent."""
    restraint = Restraint(lambda: 0.0)
    tries = [restraint.refused(NORMAL, "SESSION", 100, 1.0) for _ in range(1_100)]
    assert tries[:1_000] == [1.1] * 1_000
    assert tries[-1] is None
    for _ in range(3):
        restraint.taken(NORMAL)
    assert [restraint.refused(NORMAL, "SESSION", 100, 1.0) is None for _ in range(4)] == [False, False, True, True]
    assert restraint.refused(NORMAL, "SESSION", 100, 1.0, last=True) is None
    assert restraint.refused(NORMAL, "POOL", 100, 1.0) == 1.1


@given(
    st.lists(
        st.tuples(st.sampled_from(["new", "taken", "refused"]), st.sampled_from(list(Lane)), st.floats(0, 2)),
        max_size=200,
    ),
    st.integers(0, 9),
)
def test_what_is_critical_is_never_kept_back_and_nobody_comes_too_early(
    steps: list[tuple[str, Lane, float]], seed: int
) -> None:
    """Whatever happened before; and what is kept back is so for no longer than the engine said."""
    restraint, now = Restraint(Random(seed).random), 0.0
    for what, lane, later in steps:
        now += later
        if what == "taken":
            restraint.taken(lane)
        elif what == "refused":
            at = restraint.refused(lane, "POOL", 700, now)
            assert at is None or now + 0.7 <= at <= now + 0.78
        else:
            held_s = restraint.holds(lane, now)
            assert held_s is None or (lane != CRITICAL and 0 < held_s <= 0.7)
