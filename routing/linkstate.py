"""The life of a link as a table: what state follows which on what.

Law of this file: a link begins OPEN, is LIVE from its first poll, CLOSING while it still has something to
say, and CLOSED for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["step"]

_STEPS: Final[Mapping[tuple[str, str], str]] = {
    ("OPEN", "poll"): "LIVE",
    ("OPEN", "close"): "CLOSING",
    ("LIVE", "close"): "CLOSING",
    ("CLOSING", "poll"): "CLOSED",
    ("OPEN", "bye"): "CLOSED",
    ("LIVE", "bye"): "CLOSED",
    ("CLOSING", "bye"): "CLOSED",
}


def step(state: str, event: str) -> str:
    """Return the state after "poll", "close" or "bye"; an event that is not in the table changes nothing."""
    return _STEPS.get((state, event), state)
