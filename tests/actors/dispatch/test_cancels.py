"""A cancel is remembered for what it names, for a minute, within bounds."""

from __future__ import annotations

from laneway.actors.dispatch.cancels import Cancel, RememberedCancels


def test_what_a_cancel_is_meant_for(rig):
    """A run, an event, a tool call by its call id, or every run of the session; never another tenant."""
    run = rig.event(1, run="r1")
    call = rig.event(2, kind="TOOL_CALL", run="r1", entity="call-7")
    edit = rig.event(3, kind="DOC_SYNC", entity="call-7")
    everything = Cancel("t", "s")
    assert [everything.meant_for(env) for env in (run, call, edit)] == [True, True, False]
    one_run = Cancel("t", "s", run="r1")
    assert [one_run.meant_for(env) for env in (run, call, edit)] == [True, True, False]
    by_id = Cancel("t", "s", event_id="client:1")
    assert [by_id.meant_for(env) for env in (run, call, edit)] == [True, False, False]
    by_call = Cancel("t", "s", event_id="call-7")
    assert [by_call.meant_for(env) for env in (run, call, edit)] == [False, True, False]
    assert not Cancel("other", "s", run="r1").meant_for(run)
    assert not Cancel("t", "other", run="r1").meant_for(run)
    assert not Cancel("t", "s", run="r2", event_id="client:1").meant_for(run)


def test_found_for_a_minute(rig):
    """A run, an event and a tool call are met when they arrive within 60 s, and not after."""
    kept = RememberedCancels()
    kept.add(Cancel("t", "s", run="r1", reason="a"), 0.0)
    kept.add(Cancel("t", "s", event_id="client:9", reason="b"), 1.0)
    kept.add(Cancel("t", "s", event_id="call-7", reason="c"), 2.0)
    arrivals = [
        rig.event(1, run="r1"),
        rig.event(9),
        rig.event(3, kind="TOOL_CALL", entity="call-7"),
        rig.event(4, run="r2"),
        rig.event(9, tenant="other"),
    ]
    assert [found and found.reason for found in (kept.find(env, 59.0) for env in arrivals)] == [
        "a",
        "b",
        "c",
        None,
        None,
    ]
    assert [bool(kept.find(env, 61.5)) for env in arrivals] == [False, False, True, False, False]
    assert kept.alive(61.5) == 1
    assert kept.alive(99.0) == 0


def test_whom_they_concern(rig):
    """The sessions that some are remembered for, as long as they are; nobody else is looked at."""
    kept = RememberedCancels(max_kept=2)
    mine, other, stranger = rig.event(1), rig.event(1, session="other"), rig.event(1, tenant="other")
    assert not kept.concern([mine], 0.0)
    for at, (session, run) in enumerate((("s", "r1"), ("s", "r1"), ("other", "r2"))):
        kept.add(Cancel("t", session, run=run), float(at))
    assert [kept.concern([env], 3.0) for env in (mine, other, stranger)] == [True, True, False]
    assert kept.concern([stranger, mine], 3.0)
    kept.add(Cancel("t", "other", run="r3"), 3.0)
    assert [kept.concern([env], 3.0) for env in (mine, other)] == [False, True], "the oldest has made room"
    assert kept.concern([other], 62.5)
    assert kept.alive(62.5) == 1
    assert not kept.concern([stranger], 63.0)
    assert (kept.alive(0.0), kept.concern([other], 63.0)) == (0, False), "who asks for others forgets as well"


def test_a_cancel_of_everything_is_not_remembered():
    """It means what there is, not what comes."""
    kept = RememberedCancels()
    kept.add(Cancel("t", "s"), 0.0)
    assert kept.alive(0.0) == 0


def test_the_memory_is_bounded():
    """The oldest is forgotten and counted; a repetition renews instead of adding."""
    kept = RememberedCancels(max_kept=2)
    for run in ("r1", "r2", "r1", "r3"):
        kept.add(Cancel("t", "s", run=run), 0.0)
    assert (kept.alive(0.0), kept.forgotten) == (2, 1)
