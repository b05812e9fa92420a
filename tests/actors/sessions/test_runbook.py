"""The runs of a session: begun once, over once, counted by how they ended."""

from __future__ import annotations

import pytest

from laneway.actors.meters import SessionMeters
from laneway.actors.ports import Outcome, Principal
from laneway.actors.sessions.runbook import RunBook

ALICE = Principal("alice")


class _Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at


def _book(rig):
    clock, probe, awaited = _Clock(), rig.Probe(), {}
    return clock, probe, awaited, RunBook(clock, awaited, SessionMeters(probe))


@pytest.mark.parametrize(
    ("status", "result"),
    [("handled", "finished"), ("cancelled", "interrupted"), ("failed", "failed"), ("expired", "failed")],
)
def test_a_run_is_counted_and_timed_from_its_acceptance(rig, status, result):
    """Its response time is measured however it ended; what did not end well must be told."""
    clock, probe, awaited, book = _book(rig)
    env = rig.event(1, kind="USER_MESSAGE", run="r1", accepted=100.0)
    book.begin(env, ALICE)
    assert awaited == {"r1": 100.0}
    assert book.principal("r1") == ALICE
    clock.at = 102.5
    assert book.over(env, Outcome(status)) is (status != "handled")
    assert probe.labels == [("run.started", {}), ("run.ended", {"outcome": result})]
    assert probe.measured == [("run.response", {}, 2.5)]
    assert not awaited
    assert book.principal("r1") is None


def test_a_run_that_told_its_end_is_not_told_again(rig):
    """Also one that a former home left behind after telling it."""
    _, _, _, book = _book(rig)
    env = rig.event(1, kind="USER_MESSAGE", run="r1")
    book.begin(env, ALICE)
    book.told("r1")
    book.told("unknown")
    assert not book.over(env, Outcome("failed"))
    book.inherit(env, ALICE, told=True)
    assert not book.over(env, Outcome("failed"))
    book.inherit(env, ALICE, told=False)
    assert book.over(env, Outcome("failed"))


def test_a_lost_run_has_no_response_time(rig):
    """The process that accepted it is gone, and its clock with it."""
    _, probe, _, book = _book(rig)
    env = rig.event(1, kind="USER_MESSAGE", run="r1")
    book.inherit(env, ALICE, told=False)
    assert book.over(env, Outcome("dead"))
    assert probe.labels == [("run.ended", {"outcome": "lost"})]
    assert probe.measured == []
