"""Rendezvous placement: stable, minimal movement, even."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.errors import LocalProtocolError
from laneway.routing.placement import rendezvous

_NAMES = st.lists(st.text(max_size=8), min_size=1, max_size=8, unique=True)


@settings(deadline=None)
@given(key=st.text(), members=_NAMES, data=st.data())
def test_order_of_members_does_not_matter(key: str, members: list[str], data: st.DataObject) -> None:
    """The same set of members gives the same answer, however it is listed."""
    shuffled = data.draw(st.permutations(members))
    assert rendezvous(key, members) == rendezvous(key, shuffled)


@settings(deadline=None)
@given(key=st.text(), members=_NAMES, data=st.data())
def test_only_the_keys_of_a_leaver_move(key: str, members: list[str], data: st.DataObject) -> None:
    """When another member leaves or joins, a key stays where it is."""
    home = rendezvous(key, members)
    staying = data.draw(st.sets(st.sampled_from(members)))
    assert rendezvous(key, [member for member in members if member == home or member in staying]) == home


def test_the_answer_is_the_same_in_every_process() -> None:
    """Placement is part of what hosts agree on, so it is pinned."""
    assert [rendezvous(f"k{i}", ["a", "b", "c"]) for i in range(12)] == list(PINNED)


PINNED = "caacabbcacca"


def test_keys_spread_evenly() -> None:
    """Each of n members gets about 1/n."""
    keys = [f"session-{i}" for i in range(6000)]
    placed = [rendezvous(key, ["a", "b", "c"]) for key in keys]
    assert all(1850 <= placed.count(member) <= 2150 for member in "abc")


def test_without_members_there_is_nobody_to_ask() -> None:
    """It is an error that says so."""
    with pytest.raises(LocalProtocolError, match="no member"):
        rendezvous("key", [])
