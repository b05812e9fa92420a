"""The books of a dispatcher, summed up."""

from __future__ import annotations

from laneway.actors.dispatch.accounts import totals
from laneway.actors.dispatch.books import ENDINGS, Books
from laneway.actors.ports import Outcome


def test_totals_are_over_all_lanes(rig):
    """Each ending is counted once, whatever lane the event had."""
    books = Books(lambda error: None)
    for counter, status in enumerate(ENDINGS, 1):
        env = rig.event(counter, lane=counter % 4)
        books.enter([env], None)
        books.close([(env, Outcome(status))], 0.0)
    left = rig.event(9, lane=3)
    books.enter([left], None)
    assert totals(books) == {"accepted": 7, **dict.fromkeys(ENDINGS, 1)}
    assert books.accepted == [1, 2, 2, 2]
