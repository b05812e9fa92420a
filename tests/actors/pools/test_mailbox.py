"""The mailbox hands out the most urgent event first and never mixes the bounds of its two sides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.pools.mailbox import Mailbox, critical_room, ordinary_room
from laneway.routing.errors import LocalProtocolError
from laneway.routing.lanes import Lane


def _mailbox(capacity=4, reserve=2):
    late = []
    return Mailbox(capacity, reserve, late.append), late


def test_most_urgent_lane_first_and_fifo_inside(rig):
    """A critical event overtakes everything; inside a lane arrival order holds."""
    box, _ = _mailbox()
    for counter, lane in enumerate([Lane.LOW, Lane.NORMAL, Lane.NORMAL, Lane.HIGH, Lane.CRITICAL], 1):
        box.push(rig.event(counter, lane=lane))
    assert [box.pop(0.0)[1] for _ in range(5)] == [5, 4, 2, 3, 1]
    assert box.pop(0.0) is None


def test_critical_has_a_reserve_that_ordinary_events_cannot_take(rig):
    """A mailbox full of ordinary events still takes critical ones, up to the reserve."""
    box, _ = _mailbox(capacity=1, reserve=1)
    box.push(rig.event(1))
    assert (box.free(), box.free(critical=True)) == (0, 1)
    with pytest.raises(LocalProtocolError, match="client:2"):
        box.push(rig.event(2))
    box.push(rig.event(3, lane=Lane.CRITICAL))
    with pytest.raises(LocalProtocolError):
        box.push(rig.event(4, lane=Lane.CRITICAL))


def test_critical_beyond_the_reserve_takes_ordinary_room(rig):
    """Any mix of lanes up to `free()` fits."""
    box, _ = _mailbox(capacity=2, reserve=1)
    for counter in (1, 2, 3):
        assert box.free() > 0
        box.push(rig.event(counter, lane=Lane.CRITICAL))
    assert (box.free(), box.free(critical=True)) == (0, 0)


def test_an_event_past_its_deadline_is_not_handed_out(rig):
    """Expired events are told at dequeue; the next live one is returned."""
    box, late = _mailbox()
    box.push(rig.event(1, deadline=5.0))
    box.push(rig.event(2, deadline=9.0))
    assert box.pop(5.0)[1] == 2
    assert [env[1] for env in late] == [1]
    assert len(box) == 0


def test_a_batch_never_holds_a_critical_event_among_others(rig):
    """Critical events come alone, so that they do not wait for the handling of the rest."""
    box, _ = _mailbox()
    for counter, lane in [(1, Lane.HIGH), (2, Lane.CRITICAL), (3, Lane.LOW)]:
        box.push(rig.event(counter, lane=lane))
    assert [env[1] for env in box.pop_batch(0.0, 8)] == [2]
    assert [env[1] for env in box.pop_batch(0.0, 8, only_critical=True)] == []
    assert [env[1] for env in box.pop_batch(0.0, 8)] == [1, 3]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 3), st.sampled_from([1.0, float("inf")])),
        st.tuples(st.just("pop"), st.booleans(), st.just(0.0)),
        st.tuples(st.just("remove"), st.integers(1, 3), st.just(0.0)),
    ),
    max_size=80,
)


@given(steps)
def test_every_event_leaves_exactly_once_and_the_counts_agree(rig, script):
    """Popped, expired and removed events together are the pushed ones; bounds hold throughout."""
    box, late = _mailbox(capacity=5, reserve=2)
    pushed, left = [], []
    for number, (what, which, deadline) in enumerate(script, 1):
        if what == "push" and (box.free() > 0 or (which == Lane.CRITICAL and box.free(critical=True) > 0)):
            pushed.append(number)
            box.push(rig.event(number, lane=which, deadline=deadline))
        elif what == "pop":
            env = box.pop(2.0, only_critical=which)
            left += [env] if env else []
            assert env is None or not which or env[7] == Lane.CRITICAL
        elif what == "remove":
            left += box.remove(lambda env, which=which: env[1] % (which + 1) == 0)
        assert len(box) == sum(box.depths()) == len(pushed) - len(left) - len(late)
        assert len(box) <= 7
        assert sum(box.depths()[1:]) <= 5
        assert box.free() >= 0
    left += box.clear()
    assert sorted(env[1] for env in left + late) == pushed


def test_how_much_waits_in_a_cell():
    """Twice what runs at once, and for critical events as many as that, at least two."""
    assert [(ordinary_room(n), critical_room(n)) for n in (1, 2, 8)] == [(2, 2), (4, 2), (16, 8)]
    assert [ordinary_room(n, 64) for n in (1, 100)] == [128, 200]


@given(
    room=st.tuples(st.integers(1, 6), st.integers(1, 4)),
    lists=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), max_size=8),
    limit=st.integers(1, 6),
)
def test_lists_go_in_and_come_out_as_one_by_one(rig, room, lists, limit):
    """Pushed and taken in lists or one by one: the same events are taken, refused and left, in the same order."""
    whole, late = _mailbox(*room)
    single, late_single = _mailbox(*room)
    number = 0
    for lanes in lists:
        envs = []
        for lane in lanes:
            number += 1
            envs.append(rig.event(number, lane=lane, deadline=number % 3 + 0.5))
        fits = True
        copy = [list(lane) for lane in single._lanes], single._ordinary, single.waiting
        try:
            for env in envs:
                single.push(env)
        except LocalProtocolError:
            fits = False  # of a list none is taken
            for lane, kept in zip(single._lanes, copy[0], strict=True):
                lane.clear()
                lane.extend(kept)
            single._ordinary, single.waiting = copy[1:]
        try:
            whole.push(*envs)
        except LocalProtocolError:
            assert not fits
        else:
            assert fits
        assert (whole.depths(), whole.free(), whole.free(True)) == (single.depths(), single.free(), single.free(True))
        if number % 2:
            taken = whole.pop_batch(1.0, limit)
            one = []
            only_critical = False
            while len(one) < limit and (env := single.pop(1.0, only_critical)) is not None:
                one.append(env)
                only_critical = only_critical or env[7] == Lane.CRITICAL
            assert taken == one
            assert late == late_single
            assert (whole.waiting, whole.ordinary, whole.critical) == (single.waiting, single.ordinary, single.critical)


def test_how_long_each_has_waited_is_told_when_it_is_taken(rig):
    """Of a list as of one by one; expired ones have no wait."""
    told = [[] for _ in range(4)]

    def meter(lane):
        return lambda value, times=1: told[lane].extend([value] * times)

    box = Mailbox(9, 2, lambda env: None, [meter(lane) for lane in range(4)])
    box.push(*(rig.event(n, accepted=float(n // 2), lane=Lane.NORMAL) for n in range(2, 6)))
    box.push(rig.event(9, lane=Lane.CRITICAL), rig.event(10, lane=Lane.LOW, deadline=1.0), rig.event(11, lane=Lane.LOW))
    assert box.pop(5.0)[1] == 9
    assert [env[1] for env in box.pop_batch(5.0, 3)] == [2, 3, 4]
    assert [env[1] for env in box.pop_batch(5.0, 9)] == [5, 11]
    assert told == [[5.0], [], [4.0, 4.0, 3.0, 3.0], [5.0]]
