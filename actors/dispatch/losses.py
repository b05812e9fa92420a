"""How often an event took its host with it, or happened to be there.

Law of this file: an event that was with three hosts when each was lost is given up. Nobody can tell
the event that kills a process from one that stands beside it, and three are enough to suspect it.

Only open events are remembered, and they are looked through when a host is lost, which is rare: an
event that is handled costs nothing here.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from laneway.routing.envelope import Envelope, Key, key_of

__all__ = ["Losses"]

_MAX_LOSSES: Final = 3
"""As many as the starts of a handler that end in a crash, see `Ingress`."""


class Losses:
    """Counts of one dispatcher.

    Args:
        open_events: which events are not over, by key.
    """

    __slots__ = ("_counts", "_open")

    def __init__(self, open_events: Container[Key]) -> None:
        self._open = open_events
        self._counts: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def again(self, env: Envelope) -> bool:
        """The host that had the event was lost; returns whether another may have it. O(1)."""
        key = key_of(env)
        count = self._counts[key] = self._counts.get(key, 0) + 1
        return count < _MAX_LOSSES

    def sweep(self) -> None:
        """Forget the events that are over. O(remembered)."""
        self._counts = {key: count for key, count in self._counts.items() if key in self._open}
