"""The life of a link."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from laneway.routing.linkstate import step

_EVENTS = st.lists(st.sampled_from(["poll", "close", "bye", "other"]))


@given(_EVENTS)
def test_a_closed_link_stays_closed_and_none_comes_alive_again(events: list[str]) -> None:
    """States only ever go forward, whatever happens."""
    order = ["OPEN", "LIVE", "CLOSING", "CLOSED"]
    state, seen = "OPEN", []
    for event in events:
        state = step(state, event)
        seen.append(order.index(state))
    assert seen == sorted(seen)


def test_a_link_that_closes_may_say_what_is_due_first() -> None:
    """Closing is not closed: one more poll is."""
    assert step(step("OPEN", "poll"), "close") == "CLOSING"
    assert step("CLOSING", "poll") == "CLOSED"
    assert step("LIVE", "bye") == "CLOSED"
