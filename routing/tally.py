"""The tally of a link: what became of each seq, and what its frames carried.

Law of this file: it only counts. A seq that was sent whole is in exactly one account: given as it is or
merged with its neighbours (delivered), left out for a later one (conflated), or covered by a GAP (gapped).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from laneway.routing.items import Batch
from laneway.routing.quality import Grade
from laneway.routing.reader import StreamReader

__all__ = ["LinkStatistics", "Tally"]


class LinkStatistics(NamedTuple):
    """Counters of one link; pairs are (urgent, data).

    Attributes:
        delivered: seqs sent whole; gapped: seqs covered by a sent GAP; conflated: seqs left out because a later
            one, sent in their place, made them unnecessary. pending: committed seqs not sent whole yet.
            For each stream and at any time:
            committed - where the link began = delivered + conflated + gapped + pending.
        merged: seqs delivered in an earlier seq's item.
        bytes: bodies sent. frames: frames given out. grade: of the client's network, 0 good to 2 poor.
    """

    delivered: tuple[int, int]
    gapped: tuple[int, int]
    conflated: tuple[int, int]
    pending: tuple[int, int]
    merged: int
    bytes: int
    frames: int
    grade: int


class Tally:
    """Counts for one link.

    Args:
        start: last seqs its client had when it began, (urgent, data).
    """

    __slots__ = ("_bytes", "_conflated", "_frames", "_gapped", "_merged", "_start")

    def __init__(self, start: tuple[int, int]) -> None:
        self._start = start
        self._gapped = [0, 0]
        self._conflated = [0, 0]
        self._merged = self._bytes = self._frames = 0

    def take(self, stream: int, batch: Batch) -> None:
        """Count what one frame carries of a stream."""
        self._gapped[stream] += batch.gapped
        self._conflated[stream] += batch.conflated
        self._merged += batch.merged
        self._bytes += batch.bytes

    def frames(self, count: int) -> None:
        """Count frames given out."""
        self._frames += count

    def statistics(self, readers: Sequence[StreamReader], grade: Grade) -> LinkStatistics:
        """Return the counters of this moment; `readers` = (urgent, data)."""
        rows = zip(readers, self._start, self._gapped, self._conflated, strict=True)
        urgent, data = (reader.sent - start - gapped - left_out for reader, start, gapped, left_out in rows)
        return LinkStatistics(
            delivered=(urgent, data),
            gapped=(self._gapped[0], self._gapped[1]),
            conflated=(self._conflated[0], self._conflated[1]),
            pending=(readers[0].pending, readers[1].pending),
            merged=self._merged,
            bytes=self._bytes,
            frames=self._frames,
            grade=int(grade),
        )
