"""Awareness: clocks, removal, timeouts, bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.sync.presence import PresenceTable
from laneway.routing.errors import PeerProtocolError

entry = PresenceTable.entry


def test_a_state_is_kept_told_and_times_out():
    """30 s without a sign is gone, told once, and forgotten 30 s later."""
    table = PresenceTable()
    assert table.receive(entry(7, 1, '{"name":"Ada"}'), "s", 0.0) == [7]
    assert table.states() == {7: '{"name":"Ada"}'}
    assert table.deadline() == 30.0
    assert table.poll(29.9) == []
    assert table.poll(30.0) == [7]
    assert table.encode([7]) == entry(7, 1, "null")
    assert table.encode() == b"\0"
    assert table.poll(60.0) == []
    assert len(table) == 0
    assert table.deadline() is None


def test_old_and_repeated_messages_change_nothing():
    """Only a higher clock is news; a removal also with the same clock."""
    table = PresenceTable()
    table.receive(entry(7, 5, "1"), "s", 0.0)
    assert table.receive(entry(7, 5, "2"), "s", 1.0) == []
    assert table.receive(entry(7, 4, "3"), "s", 1.0) == []
    assert table.receive(entry(7, 5, "null"), "s", 1.0) == [7]
    assert table.receive(entry(7, 5, "null"), "s", 1.0) == []
    assert table.receive(entry(7, 6, "4"), "s", 1.0) == [7]
    assert table.receive(entry(9, 1, "null"), "s", 1.0) == []


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5)), max_size=12), st.randoms())
def test_order_does_not_matter(rows, rng):
    """Whatever the order of delivery, the highest clock of each client stands."""
    shuffled = list(rows)
    rng.shuffle(shuffled)
    tables = PresenceTable(), PresenceTable()
    for table, sequence in zip(tables, (rows, shuffled), strict=True):
        for client, clock in sequence:
            table.receive(entry(client, clock, str(clock)), "s", 0.0)
    assert tables[0].states() == tables[1].states()


def test_a_session_takes_its_clients_along():
    """Leaving removes who was last heard through it."""
    table = PresenceTable()
    table.receive(entry(1, 1, "1"), "a", 0.0)
    table.receive(entry(2, 1, "2"), "b", 0.0)
    assert table.leave("a", 1.0) == [1]
    assert table.states() == {2: "2"}


def test_bounds_and_bad_states_are_refused_whole():
    """Nothing of a refused message is kept."""
    table = PresenceTable(max_clients=2, state_chars=10)
    for payload, reason in (
        (entry(1, 1, '"' + "x" * 20 + '"'), "TOO_LARGE"),
        (entry(1, 1, "{"), "BAD_TYPE"),
        (entry(1, 1, "[NaN]"), "NON_FINITE"),
        (entry(1, 1, "1")[:-1], "TRUNCATED"),
        (entry(1, 1, "1") + b"\0", "TRAILING_BYTES"),
    ):
        with pytest.raises(PeerProtocolError) as caught:
            table.receive(payload, "s", 0.0)
        assert caught.value.reason == reason
    table.receive(entry(1, 1, "1"), "s", 0.0)
    table.receive(entry(2, 1, "1"), "s", 0.0)
    with pytest.raises(PeerProtocolError, match="TOO_MANY_ITEMS"):
        table.receive(entry(3, 1, "1"), "s", 0.0)
    assert table.receive(entry(2, 2, "1"), "s", 0.0) == [2]
