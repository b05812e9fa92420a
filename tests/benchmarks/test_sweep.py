"""The open-loop load: what is offered, and what is asked of the answers. No times."""

from __future__ import annotations

import asyncio
import math
import re

import pytest

from benchmarks import sweep
from benchmarks.sweep import CROWD, Due, Load, Tally
from laneway.routing.lanes import Lane

EVENTS = [Due(0, Lane.CRITICAL, 0.0, 0), Due(1, Lane.LOW, 0.1, 1), Due(2, Lane.LOW, 0.2, 1)]


def test_a_body_carries_an_event_there_and_back() -> None:
    """What a client needs to know of a result is in it."""
    due = Due(7, Lane.NORMAL, 12.5, 3, until=13.5)
    assert len(due.body()) == sweep.BODY_BYTES
    assert sweep.seen(due.body()) == due._replace(until=math.inf)


def test_a_load_is_so_many_events_of_its_lanes_and_speakers() -> None:
    """Rate times seconds, at least one; each has its time, and where nobody speaks there is none."""
    load = Load("x", 100.0, 0.04, lambda number: Lane.HIGH, lambda number: (0, 1, -1)[number % 3])
    assert load.events() == [Due(0, Lane.HIGH, 0.0, 0), Due(1, Lane.HIGH, 0.01, 1), Due(3, Lane.HIGH, 0.03, 0)]
    assert len(Load("x", 1.0, 0.0, lambda number: Lane.LOW, lambda number: 0).events()) == 1
    assert len(CROWD) == len(set(CROWD))


def test_every_event_ends_once() -> None:
    """As done, refused or expired: the accounts are in order."""
    tally = _tally("finish", "refuse", "expire")
    assert tally.settled == 3
    tally.account("row", EVENTS)
    assert len(tally.late_s(lambda event: event.lane == Lane.CRITICAL)) == 1
    assert tally.late_s(lambda event: event.lane == Lane.LOW) == []


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("", "1 events lost"),
        ("refuse", "critical: of 1 events 0 were done, 1 refused, 0 expired"),
        ("expire", "critical: of 1 events 0 were done, 0 refused, 1 expired"),
        ("finish finish", "0 events lost, 1 answered twice"),
    ],
)
def test_accounts_that_are_wrong_leave_no_figure(ending: str, said: str) -> None:
    """Lost, answered twice, or a critical one that was not done."""
    with pytest.raises(RuntimeError, match=re.escape(said)):
        _tally(ending, "finish", "finish").account("row", EVENTS)


def _tally(*endings: str) -> Tally:
    """A tally in which each event ended like this, if at all."""

    async def main() -> Tally:
        tally = Tally()
        for event, ways in zip(EVENTS, endings, strict=True):
            for way in ways.split():
                getattr(tally, way)(event)
        return tally

    return asyncio.run(main())
