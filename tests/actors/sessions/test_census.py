"""Sums over sessions."""

from __future__ import annotations

from laneway.actors.sessions.census import Census, SessionStatistics

AWAKE = SessionStatistics(
    links=2,
    pending=1,
    paused=1,
    issued_urgent=1,
    issued_data=4,
    commit_backlog_bytes=10,
    failing=True,
    gapped=3,
    merged=5,
    conflated=2,
    grades=(1, 0, 1),
)


def test_what_a_session_counted_stays_when_it_sleeps():
    """Gauges go with the home, counters do not shrink."""
    census = Census(capacity=7)
    both = census.of([AWAKE, AWAKE])
    assert (both.sessions, both.capacity, both.links, both.pending, both.paused) == (2, 7, 4, 2, 2)
    assert (both.issued, both.gapped, both.merged, both.conflated) == (10, 6, 10, 4)
    assert both.grades == (2, 0, 2)
    assert (both.commit_backlog_bytes, both.failing) == (20, 2)
    census.gone(AWAKE)
    one = census.of([AWAKE])
    assert (one.issued, one.gapped, one.merged, one.conflated) == (10, 6, 10, 4)
    assert one.grades == (1, 0, 1)
    assert (one.sessions, one.failing) == (1, 1)
