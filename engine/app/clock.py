"""The machine's monotonic time as the actors' Clock port.

Law of this file: what an engine builds gets its time from one object, which a test may replace.
"""

from __future__ import annotations

import time

__all__ = ["SystemClock"]


class SystemClock:
    """The Clock port over the machine's monotonic clock."""

    now = staticmethod(time.monotonic)
    """Monotonic seconds; the function itself, since every event asks several times."""
