"""A home's stamp: whose an event is and when it came, whatever its envelope said."""

from __future__ import annotations

import pytest

from laneway.actors.sessions.stamp import framed, stamped
from laneway.routing.envelope import ACCEPTED, COUNTER, PRODUCER, RUN, SESSION, TENANT

PLAIN = {"WORK", "USER_MESSAGE", "RUN_INPUT"}


def _frame(envelopes, newest=0):
    return framed(envelopes, "phone", "acme", "room", 7.0, PLAIN, newest)


def test_what_an_envelope_says_of_itself_does_not_count(rig):
    """One by one or as a frame; all else stays as it was."""
    forged = [rig.event(counter, producer="root", tenant="else", session="other", entity="e") for counter in (1, 2, 5)]
    envs = stamped(forged, "phone", "acme", "room", 7.0)
    for env, before in zip(envs, forged, strict=True):
        assert (env[PRODUCER], env[TENANT], env[SESSION], env[ACCEPTED]) == ("phone", "acme", "room", 7.0)
        assert (env[1:3], env[5:12]) == (before[1:3], before[5:12])
    frame = _frame(forged)
    assert frame == envs
    assert (frame.tenant, frame.session, frame.producer) == ("acme", "room", "phone")
    assert (frame.counters, frame.kinds) == ([1, 2, 5], ["WORK"] * 3)


def test_a_run_that_has_no_name_gets_one(rig):
    """From its event's id, so that the same request again is the same run; other events get none."""
    envs = [
        rig.event(1, kind="USER_MESSAGE"),
        rig.event(2, kind="RUN_INPUT", run="mine"),
        rig.event(3),
    ]
    assert [env[RUN] for env in stamped(envs, "phone", "acme", "room", 7.0)] == ["phone-1", "mine", ""]


@pytest.mark.parametrize(
    "change", [{"kind": "USER_MESSAGE"}, {"kind": "ODD"}, {"after": "c:1"}, {"counter": 2}, {"counter": 1}]
)
def test_events_that_must_be_looked_at_are_no_frame(rig, change):
    """One that starts a run, is not plain, names another, or came before."""
    events = [rig.event(counter) for counter in (1, 2)]
    assert _frame(events) is not None
    assert _frame([*events, rig.event(**{"counter": 3, **change})]) is None


def test_what_is_not_above_the_newest_is_no_frame(rig):
    """It may be a repeat."""
    events = [rig.event(counter) for counter in (4, 5)]
    assert _frame(events, newest=4) is None
    assert [env[COUNTER] for env in _frame(events, newest=3)] == [4, 5]
