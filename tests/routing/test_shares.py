"""Shares need no confirmation, because the room behind them holds what may still be on its way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from laneway.routing.shares import most_promised, share


def test_equal_parts_and_at_least_one() -> None:
    """What cannot be divided stays free; nobody is left out."""
    assert [share(16, sharers) for sharers in (1, 2, 3, 16, 40)] == [16, 8, 5, 1, 1]


@given(st.integers(1, 64), st.lists(st.booleans(), max_size=80), st.data())
def test_what_was_promised_fits(room: int, steps: list[bool], data: st.DataObject) -> None:
    """However sharers come and go: the largest shares that those present ever had fit together."""
    largest: dict[int, int] = {}
    most = 0
    for number, comes in enumerate(steps):
        if comes or not largest:
            largest[number] = 0
        else:
            del largest[data.draw(st.sampled_from(sorted(largest)))]
        most = max(most, len(largest))
        for sharer in largest:
            largest[sharer] = max(largest[sharer], share(room, len(largest)))
        assert sum(largest.values()) <= most_promised(room, max(1, most))
