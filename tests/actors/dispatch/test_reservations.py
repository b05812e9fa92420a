"""A reservation ends once, with its frame or by itself."""

from __future__ import annotations

from laneway.actors.dispatch.reservations import Reservations
from laneway.routing.envelope import key_of
from laneway.routing.frame import frame_of


def _held(rig, reservations, first=1, **fields):
    envs = [rig.event(counter, **fields) for counter in range(first, first + 5)]
    reservations.hold(frame_of(envs))
    return envs


def test_a_frame_ends_as_it_was_let_in(rig):
    """All of it, in order, once; whatever else is asked for ends nothing."""
    reservations = Reservations()
    envs = _held(rig, reservations)
    others = _held(rig, reservations, first=6)
    assert (len(reservations), list(reservations)) == (10, [*envs, *others])
    assert reservations.whole(envs[:4]) is None
    assert reservations.whole([*envs[:4], others[0]]) is None
    assert reservations.whole([]) is None
    assert reservations.whole(list(envs)) == envs
    assert reservations.whole(envs) is None
    assert list(reservations) == others


def test_a_frame_falls_into_single_events(rig):
    """Once one of them ends by itself; the others keep their places."""
    reservations = Reservations()
    envs = _held(rig, reservations)
    elsewhere = _held(rig, reservations, session="x")
    assert reservations.end(key_of(envs[2])) is envs[2]
    assert reservations.end(key_of(envs[2])) is None
    assert reservations.whole(envs) is None
    assert list(reservations.single.values()) == [*envs[:2], *envs[3:]]
    assert [reservations.end(key_of(env)) for env in envs[:2]] == envs[:2]
    assert reservations.whole(elsewhere) is not None
    assert len(reservations) == 2


def test_single_events_end_by_their_keys(rig):
    """As they were put in."""
    reservations, env = Reservations(), rig.event(1)
    reservations.single[key_of(env)] = env
    assert len(reservations) == 1
    assert reservations.end(key_of(env)) is env
    assert reservations.end(key_of(env)) is None
