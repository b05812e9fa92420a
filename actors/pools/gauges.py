"""What a cell and a pool tell about themselves at one moment.

Law of this file: plain data, read when somebody asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["CellStatistics", "PoolStatistics", "fields_of"]


class CellStatistics(NamedTuple):
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


class PoolStatistics(NamedTuple):
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


def fields_of(told: Any) -> Any:
    """Return statistics as names and plain values, with all that is in them. O(values)."""
    if isinstance(told, tuple):
        names = getattr(told, "_fields", None)
        values = [fields_of(value) for value in told]
        return values if names is None else dict(zip(names, values, strict=True))
    return {name: fields_of(value) for name, value in told.items()} if isinstance(told, Mapping) else told
