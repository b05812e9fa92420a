"""What a cell and a pool tell about themselves at one moment.

Law of this file: plain data, read when somebody asks.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CellStatistics", "PoolStatistics"]


@dataclass(frozen=True, slots=True)
class CellStatistics:
    """One cell at one moment."""

    name: str
    waiting: tuple[int, ...]
    """Events in the mailbox per lane, critical first."""
    running: int
    """Events in handlers that are not abandoned."""
    workers: int
    """Worker tasks, idle ones included, abandoned ones not."""
    abandoned: int
    """Handlers that ignored their cancel and still run (gauge)."""
    abandoned_total: int
    crashes: int
    """Workers that died, since the start."""
    quarantined: bool


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """One pool at one moment."""

    name: str
    waiting: int
    """Events in mailboxes."""
    running: int
    """Events in handlers."""
    abandoned: int
    """Handlers that ignored their cancel and still run."""
    late_emits: int
    """Events emitted after the answer, discarded."""
    cells: tuple[CellStatistics, ...]
    slots: int
    """Handlers that the cells which take events now can run at once."""
