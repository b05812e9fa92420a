"""Sessions that were at home here and are not any more: what others still remember of them.

Law of this file: what is remembered of a session that left goes as soon as nothing would be lost with it, and
not before; it is asked again and again until then. A session that another host has taken does not come back
by itself: what still runs here must not open it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Departures"]

_Key: TypeAlias = tuple[str, str]
"""tenant, session"""


class Departures:
    """Those of one directory. Bounded: each has events in flight, or is one of `max_lost`.

    Args:
        max_lost: sessions remembered as another host's; the longest gone are forgotten first.
    """

    def __init__(self, max_lost: int) -> None:
        self._max_lost = max_lost
        self._remembered: dict[_Key, None] = {}
        self._lost: OrderedDict[_Key, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._remembered)

    def left(self, key: _Key) -> None:
        """Its home is gone."""
        self._remembered[key] = None

    def lost(self, key: _Key) -> None:
        """Another host has it."""
        self._lost[key] = None
        if len(self._lost) > self._max_lost:
            self._lost.popitem(last=False)

    def taken(self, key: _Key) -> bool:
        """Whether another host has taken it, as far as is known."""
        return key in self._lost

    def back(self, key: _Key) -> None:
        """It is at home here again."""
        self._remembered.pop(key, None)
        self._lost.pop(key, None)

    def sweep(self, forget: Callable[[str, str], bool]) -> None:
        """Have them forgotten; asks again the next time where `forget` says no. O(those that left)."""
        for key in [key for key in self._remembered if forget(*key)]:
            del self._remembered[key]
