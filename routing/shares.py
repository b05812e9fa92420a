"""How much of a room each of several sharers may use, without asking the others.

Law of this file: a sharer that comes gets its share at once, and one whose share shrinks is told and
needs to confirm nothing: what it has sent already may still arrive. So the room behind the shares is
larger than their sum, by exactly what can be on its way. If nothing is lent, the i-th oldest of those
present has never been alone with fewer than i - 1 others, so it was never given more than the i-th
part.
"""

from __future__ import annotations

__all__ = ["most_promised", "share"]


def share(room: int, sharers: int) -> int:
    """Return what each of `sharers` (at least 1) may use of `room`: an equal part, at least 1."""
    return max(1, room // sharers)


def most_promised(room: int, sharers: int) -> int:
    """Return the most that may arrive together, with never more than `sharers` present. O(sharers).

    About ``room * ln(sharers)``: for a room of 16 and 64 sharers 100 instead of 16.
    """
    return sum(share(room, present) for present in range(1, sharers + 1))
