"""The four lanes and their weights: one table that every scheduler, mailbox and metric reads.

Law of this file: a smaller number is more urgent, so that a lane sorts and indexes arrays as is.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["LANE_COUNT", "LANE_NAMES", "LANE_WEIGHTS", "Lane"]


class Lane(IntEnum):
    """Urgency class of an event; the value is its index and its rank (0 first)."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3


LANE_COUNT: Final = len(Lane)
LANE_NAMES: Final = tuple(lane.name.lower() for lane in Lane)
LANE_WEIGHTS: Final = (0, 8, 4, 1)
"""Deficit-round-robin shares of high:normal:low; critical is strict and has none."""
