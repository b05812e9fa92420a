import pytest

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
