"""Seats of a pool: a tenant's share while there are others, all of them while it is alone."""

from __future__ import annotations

from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.dispatch import DispatchCore, DispatchPolicy, PoolRoute
from laneway.routing.envelope import COUNTER, TENANT, Envelope, envelope
from laneway.routing.lanes import Lane
from laneway.routing.limits import AdmissionPolicy
from laneway.routing.seats import LATELY_S, Seats


def _event(number: int, tenant: str = "a", lane: Lane = Lane.HIGH) -> Envelope:
    kind = "STOP" if lane is Lane.CRITICAL else "RUN"
    return envelope(kind, producer="p", counter=number, tenant=tenant, session=f"s{number % 7}", lane=lane)


def _core(slots: int = 8, share: float = 0.75) -> DispatchCore:
    kinds = KindTable([Kind("RUN", Lane.HIGH, direction=IN), Kind("STOP", Lane.CRITICAL, direction=IN)])
    core = DispatchCore(kinds, DispatchPolicy(admission=AdmissionPolicy(rate_per_s=inf)))
    core.add_pool(PoolRoute("p", ["RUN", "STOP"], tenant_share=share))
    core.slots("p", slots)
    return core


def _offer(core: DispatchCore, tenant: str, first: int, count: int, now: float = 0.0) -> None:
    answers = core.offer([_event(number, tenant) for number in range(first, first + count)], now)
    assert all(isinstance(answer, tuple) for answer in answers)


def _count(envs: list[Envelope], tenant: str) -> int:
    return sum(env[TENANT] == tenant for env in envs)


def test_alone_a_tenant_has_all_seats_and_others_get_the_next_ones() -> None:
    """Eight of eight while alone; what comes then is next, however long the line of the first is."""
    core = _core()
    _offer(core, "a", 1, 50)
    taken = core.take("p", 100, 0.0)
    assert len(taken) == 8
    _offer(core, "b", 101, 3)
    assert core.take("p", 100, 0.0) == []
    core.done(taken[:3])
    assert _count(core.take("p", 100, 0.0), "b") == 3


def test_while_there_are_others_a_tenant_leaves_its_share_of_seats() -> None:
    """Six of eight, although nobody else waits now: runs that nobody reads keep the last two free for others."""
    core = _core()
    _offer(core, "b", 101, 1)
    core.done(core.take("p", 100, 0.0))
    _offer(core, "a", 1, 50, 1.0)
    assert len(core.take("p", 100, 1.0)) == 6
    _offer(core, "b", 102, 5, 2.0)
    assert _count(core.take("p", 100, 2.0), "b") == 2
    assert core.take("p", 100, 3.0) == []


def test_who_has_gone_needs_no_room_any_more() -> None:
    """A minute after its last event a tenant counts no more."""
    core = _core()
    _offer(core, "b", 101, 1)
    core.done(core.take("p", 100, 0.0))
    _offer(core, "a", 1, 50, 1.0)
    assert len(core.take("p", 100, 1.0)) == 6
    assert len(core.take("p", 100, LATELY_S + 1.0)) == 2


def test_equal_seats_not_equal_turns() -> None:
    """One tenant's runs last ten times as long as another's: both have half of the seats, not ten to one."""
    core, running = _core(slots=10), list[tuple[float, Envelope]]()
    _offer(core, "a", 1, 200)
    _offer(core, "b", 1_001, 200)
    held: list[int] = []
    for tick in range(300):
        now = tick * 0.1
        over = [env for ends, env in running if ends <= now]
        running = [(ends, env) for ends, env in running if ends > now]
        core.done(over)
        for env in core.take("p", 10, now):
            running.append((now + (10.0 if env[TENANT] == "a" else 1.0), env))
        if _count([env for _, env in running], "b") and tick > 100:
            held.append(_count([env for _, env in running], "a"))
    assert 4 <= sum(held) / len(held) <= 6


def test_critical_events_need_no_seat() -> None:
    """With every seat taken a critical event is handed out into the reserve."""
    core = _core()
    _offer(core, "a", 1, 50)
    core.take("p", 100, 0.0)
    core.offer([_event(99, lane=Lane.CRITICAL)], 0.0)
    assert [env[COUNTER] for env in core.take("p", 1, 0.0, only_critical=True)] == [99]


def test_what_is_given_back_has_no_seat_and_is_first_again() -> None:
    """A cell that has gone: its events wait again, in order, and the seats are free."""
    core = _core()
    _offer(core, "a", 1, 50)
    taken = core.take("p", 100, 0.0)
    core.give_back("p", taken)
    assert sorted(env[COUNTER] for env in core.take("p", 100, 0.0)) == sorted(env[COUNTER] for env in taken)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["offer", "take", "done", "back", "cancel"]), st.sampled_from("abc")), max_size=80
    )
)
def test_seats_are_as_many_as_events_handed_out(script: list[tuple[str, str]]) -> None:
    """Whatever happens: never more than the slots, nothing lost, and at the end every seat is free."""
    core, out, number, now = _core(slots=4, share=0.5), list[Envelope](), 0, 0.0
    (seats,) = core._routes.seated
    for what, tenant in script:
        now += 1.0
        if what == "offer":
            number += 1
            core.offer([_event(number, tenant)], now)
        elif what == "take":
            out += core.take("p", 3, now)
        elif what == "done" and out:
            core.done([out.pop(0)])
        elif what == "back" and out:
            core.give_back("p", [out.pop()])
        elif what == "cancel":
            core.cancel(tenant, f"s{number % 7}", event_id=f"p:{number}")
        assert len(seats) == len(out) <= 4
        assert all(seats.held(name) == _count(out, name) for name in "abc")
    while core.backlog("p") or out:
        core.done(out)
        now += LATELY_S
        out = core.take("p", 10, now)
    assert len(seats) == 0
    assert core.statistics().pending == 0


def test_until_the_slots_are_known_there_is_no_limit() -> None:
    """An infinite number of seats."""
    assert Seats(0.5).may_sit("t", 0.0)
