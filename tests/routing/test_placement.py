"""Rendezvous placement: stable, minimal movement, weights."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.errors import LocalProtocolError
from laneway.routing.placement import ranked, rendezvous

_NAMES = st.lists(st.text(max_size=8), min_size=1, max_size=8, unique=True)


@settings(deadline=None)
@given(key=st.text(), members=_NAMES, data=st.data())
def test_order_of_members_does_not_matter(key: str, members: list[str], data: st.DataObject) -> None:
    """The same set of members gives the same answer, however it is listed."""
    shuffled = data.draw(st.permutations(members))
    assert rendezvous(key, members) == rendezvous(key, shuffled)
    assert ranked(key, members) == ranked(key, shuffled)


@settings(deadline=None)
@given(key=st.text(), members=_NAMES, data=st.data())
def test_only_the_keys_of_a_leaver_move(key: str, members: list[str], data: st.DataObject) -> None:
    """Without its first choice a key goes to its second; without any other member it stays."""
    order = ranked(key, members)
    leaver = data.draw(st.sampled_from(members))
    rest = [member for member in members if member != leaver]
    assert ranked(key, rest) == [member for member in order if member != leaver]
    assert order[0] == rendezvous(key, members)


def test_the_answer_is_the_same_in_every_process() -> None:
    """Placement is part of what hosts agree on, so it is pinned."""
    assert ranked("tenant/session", ["a", "b", "c", "d"]) == ranked("tenant/session", ["d", "c", "b", "a"])
    assert [rendezvous(f"k{i}", ["a", "b", "c"]) for i in range(12)] == list(PINNED)


PINNED = "caacabbcacca"


def test_keys_spread_evenly_and_by_weight() -> None:
    """Each of n equal members gets about 1/n; one of weight 3 gets three times one of weight 1."""
    keys = [f"session-{i}" for i in range(6000)]
    placed = [rendezvous(key, ["a", "b", "c"]) for key in keys]
    assert all(1850 <= placed.count(member) <= 2150 for member in "abc")
    weighted = [rendezvous(key, ["a", "b"], {"a": 3.0}) for key in keys]
    assert 4350 <= weighted.count("a") <= 4650


@settings(deadline=None)
@given(key=st.text(), members=_NAMES)
def test_weight_zero_gets_nothing(key: str, members: list[str]) -> None:
    """A member of weight 0 is out; if all are, there is nobody to ask."""
    assert members[0] not in ranked(key, members, {members[0]: 0.0})
    with pytest.raises(LocalProtocolError):
        rendezvous(key, members, dict.fromkeys(members, 0.0))
    with pytest.raises(LocalProtocolError):
        rendezvous(key, [])
