"""Which documents are in memory, and which are known at all.

Law of this file: a document that is being changed, logged or told is never put away; whoever finds no
space is refused, and may try again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from laneway.actors.sync.bounds import DocumentsStatistics, SyncPolicy
from laneway.actors.sync.room import Room
from laneway.routing.errors import Overloaded

__all__ = ["least_needed", "make_space", "statistics"]


def least_needed(rooms: Collection[Room]) -> Room:
    """Return the longest unused document that nobody follows. O(rooms). Raises Overloaded if all are in use."""
    for room in rooms:
        if room.quiet and room.abandoned:
            return room
    raise Overloaded(f"{len(rooms)} documents are in use; try again later", retry_after_ms=1000)


def make_space(room: Room, rooms: Iterable[Room], policy: SyncPolicy) -> None:
    """Put the longest unused documents away until `room` may be in memory. O(rooms) at the bound.

    Raises Overloaded.
    """
    if room.resident:
        return
    residents = [other for other in rooms if other.resident]
    used = sum(other.archive.size_bytes for other in residents)
    count = len(residents)
    for other in residents:
        if count < policy.resident and used < policy.resident_bytes:
            return
        if other.quiet:
            count, used = count - 1, used - other.archive.size_bytes
            other.put_away()
    if count >= policy.resident or used >= policy.resident_bytes:
        raise Overloaded("too many documents are being edited at once; try again later", retry_after_ms=1000)


def statistics(rooms: Collection[Room], telling: int) -> DocumentsStatistics:
    """Return gauges; `telling`: views that are being told. O(rooms)."""
    residents = [room for room in rooms if room.resident]
    return DocumentsStatistics(
        rooms=len(rooms),
        resident=len(residents),
        resident_bytes=sum(room.archive.size_bytes for room in residents),
        views=sum(len(room.views()) for room in rooms),
        pending=sum(room.pending for room in residents),
        telling=telling,
        compactions=sum(room.archive.compactions for room in rooms),
    )
