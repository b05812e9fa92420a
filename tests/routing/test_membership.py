"""Hosts are members while they beat."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from laneway.routing import membership
from laneway.routing.membership import FRONT, POOL, Member, Membership, View, succeeding


def host(name: str, incarnation: str = "1", role: str = POOL, address: str = "127.0.0.1:1") -> Member:
    return Member(name, incarnation, role, address)


def names(view: View) -> list[tuple[str, str]]:
    return [(member.name, member.incarnation) for member in view.members]


def test_a_view_is_asked_by_role() -> None:
    """Fronts and pool hosts are told apart."""
    front, pool = Member("a", "1", FRONT, "127.0.0.1:1"), Member("b", "1", POOL, "127.0.0.1:2", pools=("nlp",))
    view = View(1, (front, pool), settled=True)
    assert view.of(FRONT) == [front]
    assert view.of(POOL) == [pool]


def test_who_is_silent_for_lost_s_is_dropped_for_good() -> None:
    """Its late beat is refused; a new incarnation of the same name is welcome."""
    table = Membership(2.0, now=0.0)
    assert table.beat(host("a"), 0.0)
    assert table.beat(host("b"), 0.0)
    for at in (0.5, 1.0, 1.5):
        assert table.beat(host("a"), at)
        assert table.poll(at) == []
    assert table.deadline() == 2.0
    assert table.poll(2.0) == [host("b")]
    assert names(table.view()) == [("a", "1")]
    assert not table.beat(host("b"), 2.1)
    assert table.beat(host("b", "2"), 2.2)
    assert names(table.view()) == [("a", "1"), ("b", "2")]


def test_a_new_incarnation_takes_the_place_at_once() -> None:
    """The former one is told that it is over, and does not replace it in turn."""
    table = Membership(2.0, now=0.0)
    table.beat(host("a", "1"), 0.0)
    assert table.beat(host("a", "2", address="127.0.0.1:9"), 0.1)
    assert table.view().members == (host("a", "2", address="127.0.0.1:9"),)
    assert not table.beat(host("a", "1"), 0.2)


def test_who_leaves_is_gone_whatever_was_under_way() -> None:
    """Also if its last beat arrives after the goodbye; the goodbye of a former life changes nothing."""
    table = Membership(2.0, now=0.0)
    table.beat(host("a", "1"), 0.0)
    table.leave("a", "1")
    assert table.view().members == ()
    assert not table.beat(host("a", "1"), 0.1)
    table.leave("b", "7")
    assert not table.beat(host("b", "7"), 0.1)
    table.beat(host("a", "2"), 0.2)
    number = table.view().number
    table.leave("a", "1")
    assert names(table.view()) == [("a", "2")]
    assert table.view().number == number


def test_a_fresh_table_is_not_settled_until_it_has_listened_long_enough() -> None:
    """A registry that was restarted knows nobody, and says so."""
    table = Membership(2.0, now=100.0, number=7)
    assert table.view() == View(7, (), settled=False)
    for at in (100.9, 101.8):
        table.beat(host("a"), at)
        table.poll(at)
        assert not table.view().settled
    assert table.deadline() == 102.0
    table.poll(102.0)
    assert table.view() == View(9, (host("a"),), settled=True)
    assert table.deadline() == 103.8


def test_time_in_which_the_table_was_stopped_is_nobodys_silence() -> None:
    """A registry that hung for a minute calls nobody lost, and is as unsettled as before."""
    table = Membership(2.0, now=0.0)
    table.beat(host("a"), 0.5)
    assert table.poll(60.5) == []
    assert not table.view().settled
    for at in (61.4, 62.3):
        assert table.poll(at) == []
    assert table.view().settled
    assert table.poll(62.5) == [host("a")]


def test_what_changes_gives_the_view_a_new_number_and_what_does_not_keeps_it() -> None:
    """So that a number says whether there is anything to read; a new address is a change."""
    table = Membership(2.0, now=0.0)
    table.beat(host("a"), 0.0)
    first = table.view()
    table.beat(host("a"), 0.1)
    assert table.view() is first
    table.beat(host("a", address="127.0.0.1:2"), 0.2)
    assert table.view().number == first.number + 1


def test_ages_are_told_by_name() -> None:
    """For people who look."""
    table = Membership(2.0, now=0.0)
    table.beat(host("b"), 0.0)
    table.beat(host("a"), 0.4)
    assert table.heard(0.5) == [(host("a"), pytest.approx(0.1)), (host("b"), pytest.approx(0.5))]


def test_the_memory_of_former_lives_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten first."""
    monkeypatch.setattr(membership, "_MAX_OVER", 3)
    table = Membership(2.0, now=0.0)
    for life in range(5):
        table.beat(host("a", str(life)), 0.0)
    assert [table.beat(host("a", str(life)), 0.0) for life in (1, 2, 3)] == [False, False, False]
    assert len(table._over) == 3


def test_an_unsettled_view_takes_nobody_away() -> None:
    """What is new is believed at once, what is missing only when the table has listened long enough."""
    known = View(9, (host("a"), host("b")), settled=True)
    fresh = View(12, (host("b", "2"), host("c")), settled=False)
    assert succeeding(known, fresh) == View(12, (host("a"), host("b", "2"), host("c")), settled=False)
    assert succeeding(known, fresh._replace(settled=True)) == fresh._replace(settled=True)


class Table(RuleBasedStateMachine):
    """Any history of beats, goodbyes and looks, against what the law says."""

    lost_s = 2.0

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.table = Membership(self.lost_s, 0.0)
        self.heard: dict[str, tuple[str, float]] = {}
        self.over: set[tuple[str, str]] = set()
        self.seen = self.table.view()

    def _end(self, name: str) -> None:
        self.over.add((name, self.heard.pop(name)[0]))

    @rule(name=st.sampled_from("abc"), incarnation=st.sampled_from("12345"))
    def beat(self, name: str, incarnation: str) -> None:
        accepted = self.table.beat(host(name, incarnation), self.now)
        assert accepted == ((name, incarnation) not in self.over)
        if accepted:
            if name in self.heard and self.heard[name][0] != incarnation:
                self._end(name)
            self.heard[name] = (incarnation, self.now)

    @rule(name=st.sampled_from("abc"), incarnation=st.sampled_from("12345"))
    def leave(self, name: str, incarnation: str) -> None:
        self.table.leave(name, incarnation)
        self.over.add((name, incarnation))
        if self.heard.get(name, ("",))[0] == incarnation:
            del self.heard[name]

    @rule(step_s=st.floats(0.0, 0.99))
    def look(self, step_s: float) -> None:
        deadline = self.table.deadline()
        self.now += step_s
        before = self.table.view()
        dropped = self.table.poll(self.now)
        assert sorted(member.name for member in dropped) == sorted(
            name for name, (_, at) in self.heard.items() if self.now - at >= self.lost_s
        )
        for member in dropped:
            self._end(member.name)
        if self.now < deadline - 1e-9:
            assert self.table.view() is before, "a deadline that was too late"

    @invariant()
    def the_view_is_who_lives(self) -> None:
        view = self.table.view()
        assert names(view) == sorted((name, incarnation) for name, (incarnation, _) in self.heard.items())
        assert not view.settled or self.now >= self.lost_s
        if view != self.seen:
            assert view.number > self.seen.number
        assert view.settled >= self.seen.settled
        self.seen = view


Table.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestTable = Table.TestCase


def test_a_table_that_begins_anew_goes_on_above_what_was_seen() -> None:
    """Whoever keeps the newest of two views by their numbers believes the new table's."""
    table = Membership(2.0, 0.0, number=7)
    table.exceed(5)
    assert table.view().number == 7
    table.exceed(1_000)
    assert table.view().number == 1_001
    assert table.beat(Member("a", "1", POOL, ""), 0.0)
    assert table.view().number == 1_002
