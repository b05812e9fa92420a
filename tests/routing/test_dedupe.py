"""Dedupe windows against a plain set."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.dedupe import WINDOW, ProducerWindow

_STEPS = st.lists(
    st.one_of(
        st.just(("next", 0)),
        st.tuples(st.just("run"), st.integers(1, 1500)),
        st.tuples(st.just("together"), st.tuples(st.integers(1, 1100), st.integers(1, 1500))),
        st.tuples(st.just("back"), st.integers(0, 1100)),
        st.tuples(st.just("jump"), st.integers(2, 1100)),
        st.tuples(st.just("raw"), st.integers(-5, 2**70)),
        st.just(("reload", 0)),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(_STEPS)
def test_window_agrees_with_a_set(steps: list[tuple[str, Any]]) -> None:
    """New exactly once inside the window, duplicate afterwards, unknown below it; also across a reload."""
    window, taken, high = ProducerWindow(), set[int](), 0
    for step, number in steps:
        if step == "reload":
            state = window.state()
            window = ProducerWindow.from_state(*state)
            assert window.state() == state
            continue
        if step == "together":
            first, count = high + number[0], number[1]
            window.offer_run(first, count)
            taken.update(range(first, first + count))
            high = first + count - 1
            assert window.high == high
            continue
        first = number if step == "raw" else high - number if step == "back" else high + (number or 1)
        counters = range(high + 1, high + 1 + number) if step == "run" else (first,)
        for counter in counters:
            if counter < 1 or (counter <= high and high - counter >= WINDOW):
                expected = "unknown"
            else:
                expected = "duplicate" if counter in taken else "new"
            assert window.peek(counter) == expected
            assert window.offer(counter) == expected
            if expected == "new":
                taken.add(counter)
                high = max(high, counter)
            assert window.high == high
    high, bits = window.state()
    assert 0 <= bits < 1 << WINDOW
    assert all(bool(bits >> back & 1) == (high - back in taken) for back in range(WINDOW))
