"""What a sender hears of events that were taken: ranges of its counters, each with a grade.

Law of this file: a row is ``[first, count, grade]`` and says of `count` events from counter `first` on what
became of them, so that a frame of events costs one row. Rows that go on where the last one ended are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

__all__ = ["OkRow", "join_oks", "oks"]

OkRow: TypeAlias = "list[Any]"
"""[first counter, how many, grade]."""


def oks(counters: Sequence[int], grade: str) -> list[OkRow]:
    """Return the rows that answer these counters, in order, with one grade. O(counters)."""
    first, count = counters[0], len(counters)
    if counters[-1] - first == count - 1 and (count < 3 or list(counters) == list(range(first, first + count))):
        return [[first, count, grade]]
    rows: list[OkRow] = []
    for counter in counters:
        join_oks(rows, [[counter, 1, grade]])
    return rows


def join_oks(rows: list[OkRow], more: Sequence[OkRow]) -> None:
    """Add rows to others; the first of them grows the last one there if it goes on where that one ended."""
    if rows and more:
        first, count, grade = rows[-1]
        if more[0][0] == first + count and more[0][2] == grade:
            rows[-1] = [first, count + more[0][1], grade]  # a new one: the old may be the caller's
            more = more[1:]
    rows.extend(more)
