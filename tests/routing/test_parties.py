"""Whose a queue's room is: tenants by equal parts, and sessions within them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from laneway.routing.envelope import Envelope, envelope
from laneway.routing.parties import FEW, MOST, Parties


def _waiting(counts: dict[tuple[str, str], int]) -> list[Envelope]:
    return [
        envelope("K", producer="p", counter=number, tenant=tenant, session=session, lane=2)
        for (tenant, session), many in counts.items()
        for number in range(1, many + 1)
    ]


def test_a_queue_of_nobody_is_everybodys() -> None:
    """The first to come has all of the room."""
    parties = Parties()
    assert parties.stretch("t", "s", 10) == MOST
    for _ in range(10):
        parties.add("t", "s")
    assert parties.stretch("t", "s", 10) == 1


def test_tenants_share_evenly_and_sessions_within_them() -> None:
    """A tenant with many sessions has no more than one with a single session."""
    parties = Parties()
    parties.count(_waiting({("t", "a"): 60, ("u", "b"): 20, ("u", "c"): 30}))
    assert parties.stretch("t", "a", 100) == 1
    assert parties.stretch("u", "b", 104) == MOST
    assert parties.stretch("u", "c", 104) == 1  # half of its tenant's half is 26
    assert 1 < parties.stretch("u", "b", 100) < MOST  # its tenant has its half, but not by this session
    assert parties.stretch("new", "s", 100) == MOST


def test_next_to_nothing_is_within_every_share() -> None:
    """However many share the queue: a few events are not what fills it."""
    parties = Parties()
    parties.count(_waiting({(f"t{number}", "s"): 1 for number in range(100)}))
    for _ in range(FEW - 1):
        assert parties.stretch("t0", "s", 10) == MOST
        parties.add("t0", "s")
    assert parties.stretch("t0", "s", 10) == 1


_PARTY = st.tuples(st.sampled_from("tuv"), st.sampled_from("abc"))


@given(st.dictionaries(_PARTY, st.integers(1, 40)), st.lists(_PARTY, max_size=40), st.integers(1, 200))
def test_counting_anew_and_one_by_one_is_the_same(
    counts: dict[tuple[str, str], int], more: list[tuple[str, str]], room: int
) -> None:
    """What was added since the count is as if it had been counted."""
    added, counted = Parties(), Parties()
    added.count(_waiting(counts))
    for tenant, session in more:
        added.add(tenant, session)
        counts[tenant, session] = counts.get((tenant, session), 0) + 1
    counted.count(_waiting(counts))
    for tenant in "tuvw":
        for session in "abcd":
            assert added.stretch(tenant, session, room) == counted.stretch(tenant, session, room)


@given(st.lists(_PARTY, max_size=300), st.integers(20, 100))
def test_shares_do_not_overfill_the_room(offers: list[tuple[str, str]], room: int) -> None:
    """All that is let in because it is within its share is at most the room, a few for each session, and what came
    when fewer shared it."""
    parties, let_in = Parties(), 0
    for tenant, session in offers:
        if parties.stretch(tenant, session, room) > 1:
            parties.add(tenant, session)
            let_in += 1
    assert let_in <= room * (1 + 1 / 2 + 1 / 3) + 9 * FEW
