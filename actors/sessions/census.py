"""What a directory tells about its sessions: sums over the homes awake, and over those that were.

Law of this file: what only grows never shrinks because a session went to sleep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from laneway.routing.quality import Grade

__all__ = ["Census", "DirectoryStatistics", "SessionStatistics"]


class SessionStatistics(NamedTuple):
    """One session's gauges."""

    links: int
    """Attached links."""
    pending: int
    """Accepted events that are not over."""
    paused: int
    """Producers waiting for credit."""
    issued_urgent: int
    """Events numbered on the urgent stream by this home."""
    issued_data: int
    """Events numbered on the data stream by this home."""
    commit_backlog_bytes: int
    """Bytes not yet in the store."""
    failing: bool
    """The log cannot be written now."""
    gapped: int
    """Events that links were told as a GAP, since this home began."""
    merged: int
    """Events that travelled in another's item, since this home began."""
    conflated: int
    """Events left out because a later one made them unnecessary, since this home began."""
    grades: tuple[int, ...]
    """Attached links by the grade of their client's network, the best first."""


class DirectoryStatistics(NamedTuple):
    """Gauges of all sessions in this process."""

    sessions: int
    """Homes awake."""
    links: int
    """Attached links."""
    pending: int
    """Accepted durable events that are not over."""
    paused: int
    """Producers waiting for credit."""
    issued: int
    """Events numbered since the start, by homes awake or asleep."""
    commit_backlog_bytes: int
    """Bytes numbered or accepted and not yet in the store."""
    failing: int
    """Sessions whose log cannot be written now."""
    gapped: int
    """Events that links were told as a GAP, since the start."""
    merged: int
    """Events that travelled in another's item, since the start."""
    conflated: int
    """Events left out because a later one made them unnecessary, since the start."""
    grades: tuple[int, ...]
    """Attached links by the grade of their client's network, the best first."""
    capacity: int
    """Homes that may be awake at once."""


class Census:
    """Adds sessions up.

    Args:
        capacity: homes that may be awake at once.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._before = (0, 0, 0, 0)

    def gone(self, row: SessionStatistics) -> None:
        """Remember what a home counted that is put to sleep, or lost."""
        self._before = self._counted([row])

    def of(self, rows: Sequence[SessionStatistics]) -> DirectoryStatistics:
        """Return the sums over the homes awake, with what others counted before. O(rows)."""
        issued, gapped, merged, conflated = self._counted(rows)
        return DirectoryStatistics(
            sessions=len(rows),
            capacity=self._capacity,
            links=sum(row.links for row in rows),
            pending=sum(row.pending for row in rows),
            paused=sum(row.paused for row in rows),
            issued=issued,
            gapped=gapped,
            merged=merged,
            conflated=conflated,
            grades=tuple(sum(row.grades[grade] for row in rows) for grade in Grade),
            commit_backlog_bytes=sum(row.commit_backlog_bytes for row in rows),
            failing=sum(row.failing for row in rows),
        )

    def _counted(self, rows: Sequence[SessionStatistics]) -> tuple[int, int, int, int]:
        issued, gapped, merged, conflated = self._before
        return (
            issued + sum(row.issued_urgent + row.issued_data for row in rows),
            gapped + sum(row.gapped for row in rows),
            merged + sum(row.merged for row in rows),
            conflated + sum(row.conflated for row in rows),
        )
