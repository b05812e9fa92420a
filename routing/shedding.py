"""Which load is shed at which level of overload.

Law of this file: load is shed from the bottom: at level 1 the low lane, at 2 sessions not known here,
at 3 new runs. What is going on is never shed, nor a critical event at any level. Load shedding by
class, with a retry-after that grows with the level, as in Google's SRE book, chapter 21. The level is
found by `overload.py`; one object of this class is shared by all that act on it.
"""

from __future__ import annotations

from typing import Final

from laneway.routing.errors import LocalProtocolError, Overloaded
from laneway.routing.lanes import Lane

__all__ = ["MAX_LEVEL", "Shedding"]

MAX_LEVEL: Final = 3
_RETRY_MS: Final = 1000
"""Times the level: shed load returns the later the worse it is."""


class Shedding:
    """The level of overload, and what it refuses.

    Attributes:
        level: 0 (none) to 3.
    """

    __slots__ = ("level",)

    def __init__(self) -> None:
        self.level = 0

    def set_level(self, level: int) -> None:
        """Set the level. Raises LocalProtocolError outside 0 to 3."""
        if not 0 <= level <= MAX_LEVEL:
            raise LocalProtocolError(f"overload level {level} is not 0 to {MAX_LEVEL}")
        self.level = level

    def refuse(self, lane: int, starts_run: bool, new: bool) -> Overloaded | None:
        """Return why an event of this lane is shed, or None.

        Args:
            starts_run: its handling is a run. new: its session is not known here.
        """
        level, what = self.level, ""
        if lane == Lane.CRITICAL:
            return None
        if level >= 1 and lane == Lane.LOW:
            what = "events of the low lane"
        elif level >= 2 and new:
            what = "new sessions"
        elif level >= 3 and starts_run:
            what = "new runs"
        if not what:
            return None
        message = f"the engine is overloaded (level {level}) and takes no {what} now; retry later"
        return Overloaded(message, reason=f"LEVEL_{level}", retry_after_ms=_RETRY_MS * level)
