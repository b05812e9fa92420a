"""OKs as ranges: every counter once, in order, with its grade."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from laneway.routing.answers import OkRow, join_oks, oks

grades = st.sampled_from(["durable", "volatile", "duplicate"])


def told(rows: list[OkRow]) -> list[tuple[int, str]]:
    return [(counter, grade) for first, count, grade in rows for counter in range(first, first + count)]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), grades)
def test_rows_say_exactly_these_counters(counters: list[int], grade: str) -> None:
    """In whatever order they are given, repeats and gaps included."""
    assert told(oks(counters, grade)) == [(counter, grade) for counter in counters]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5), grades).map(list), max_size=6))
def test_joined_rows_say_the_same_and_leave_the_callers_alone(given_: list[OkRow]) -> None:
    """Rows that go on where the last ended are one."""
    rows: list[OkRow] = []
    for row in given_:
        mine = [row]
        join_oks(rows, mine)
        assert mine == [row]
    assert told(rows) == told(given_)
    assert all(a[0] + a[1] != b[0] or a[2] != b[2] for a, b in pairwise(rows))


def test_a_frame_of_events_is_one_row() -> None:
    """However many they are."""
    assert oks(range(7, 71), "durable") == [[7, 64, "durable"]]
    assert oks([7], "volatile") == [[7, 1, "volatile"]]
