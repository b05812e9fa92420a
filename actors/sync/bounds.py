"""How much documents may take, and what they take at one moment.

Law of this file: every bound of the documents pool is here, with its unit.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DocumentsStatistics", "SyncPolicy"]


@dataclass(frozen=True, slots=True)
class SyncPolicy:
    """Bounds and times.

    Attributes:
        resident: documents in memory at once (about 12 KiB each when small).
        resident_bytes: their stored size together.
        rooms: documents known at once, in memory or not.
        views: sessions that follow one document.
        idle_s: seconds without a change after which a document is put away.
        tick_s: pause between two tellings of a frame view: edits in it travel together.
        state_tick_s: the same for a JSON view.
        sweep_s: seconds between two looks at what is idle.
        document_bytes: largest document; whole, it must fit one frame (1 MiB).
        retry_s: pause before telling a session again that could not be told.
    """

    resident: int = 2_000
    resident_bytes: int = 67_108_864
    rooms: int = 10_000
    views: int = 1_000
    idle_s: float = 60.0
    tick_s: float = 0.015
    state_tick_s: float = 0.05
    sweep_s: float = 5.0
    document_bytes: int = 524_288
    retry_s: float = 1.0


@dataclass(frozen=True, slots=True)
class DocumentsStatistics:
    """All documents of one process at one moment."""

    rooms: int
    resident: int
    resident_bytes: int
    views: int
    pending: int
    """Updates that wait for missing ones."""
    telling: int
    """Views that are being told something now."""
    compactions: int
