import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.routing.heartbeat import Heartbeat


def test_a_ping_each_pause_and_only_its_own_pong_counts():
    """The round trip is measured once a ping; other numbers and repeats say nothing."""
    beat = Heartbeat(10.0, 25.0, 0.0)
    assert beat.due_at == 10.0
    assert beat.ping(9.9) == 0
    assert beat.ping(10.0) == 1
    assert beat.pong(2, 10.1) is None
    assert beat.pong(1, 10.2) == pytest.approx(0.2)
    assert beat.pong(1, 10.3) is None
    assert beat.ping(20.0) == 2


def test_any_frame_is_a_sign_of_life():
    """Lost is who sent nothing at all for 25 s."""
    beat = Heartbeat(10.0, 25.0, 0.0)
    assert not beat.lost(24.9)
    assert beat.lost(25.0)
    beat.heard(20.0)
    assert not beat.lost(44.9)
    assert beat.due_at == 10.0
    beat.ping(40.0)
    assert beat.due_at == 45.0


def test_while_data_flows_pings_ride_on_it():
    """Twenty times as often as without, twice a second at most, and only one at a time."""
    beat = Heartbeat(10.0, 25.0, 0.0)
    assert beat.ride(0.4) == 0
    assert beat.ride(0.5) == 1
    assert beat.ride(5.0) == 0, "the first one is awaited"
    assert beat.pong(1, 5.1) == pytest.approx(4.6)
    assert beat.ride(5.2) == 2
    assert beat.due_at == 15.2, "the next one of its own comes later"
    calm = Heartbeat(300.0, 750.0, 0.0)
    assert (calm.ride(14.9), calm.ride(15.0)) == (0, 1)


def test_a_late_pong_is_told_again_and_again_but_not_of_who_never_answers():
    """Each time it is 150 ms longer; a client that knows no pings is not called slow."""
    beat = Heartbeat(10.0, 25.0, 0.0)
    beat.ride(1.0)
    assert beat.late_s(9.0) == 0.0
    beat.pong(1, 9.0)
    beat.ride(10.0)
    assert [round(beat.late_s(at), 3) for at in (10.1, 10.2, 10.25, 10.4)] == [0.0, 0.2, 0.0, 0.4]
    beat.pong(2, 10.5)
    assert beat.late_s(12.0) == 0.0


@given(st.lists(st.tuples(st.sampled_from(["heard", "pong", "ride", "look"]), st.floats(0.0, 6.0)), max_size=40))
def test_a_calm_link_has_nothing_to_do(steps):
    """Calm is when there is neither a loss, nor a ping, nor a late pong to tell: the three need not be asked then."""
    beat, now = Heartbeat(10.0, 25.0, 0.0), 0.0
    for what, pause_s in steps:
        now += pause_s
        match what:
            case "heard":
                beat.heard(now)
            case "pong":
                beat.pong(beat._awaited, now)
            case "ride":
                beat.ride(now)
            case "look":
                calm = beat.calm(now)
                assert calm is (not beat.lost(now) and not beat.ping(now) and not beat.late_s(now))
