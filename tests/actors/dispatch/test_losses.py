"""Three lost hosts are enough for one event; what is over is forgotten."""

from __future__ import annotations

from laneway.actors.dispatch.losses import Losses
from laneway.routing.envelope import key_of


def test_an_event_may_lose_two_hosts(rig):
    """The third time it is given up; other events count for themselves."""
    losses = Losses(set())
    one, other = rig.event(1), rig.event(2)
    assert [losses.again(one) for _ in range(3)] == [True, True, False]
    assert losses.again(other)


def test_only_open_events_are_remembered(rig):
    """An event that ended meanwhile is forgotten when the next host is lost."""
    env, over = rig.event(1), rig.event(2)
    losses = Losses({key_of(env)})
    losses.again(env)
    losses.again(over)
    losses.sweep()
    assert len(losses) == 1
    assert [losses.again(env), losses.again(over)] == [True, True]
