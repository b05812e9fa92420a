"""How big a simulated world is."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Shape"]


@dataclass(frozen=True, slots=True)
class Shape:
    """How big a world is.

    Attributes:
        events: how many events each client sends. pace_s: the longest it waits before the next.
        echo_s: what a handler of plain events takes at most; with a small pace it is overload.
        scale: times as many slots of each pool as the small world has.
        heartbeat_s: of links, both ways. idle_s: after it a session without a link goes to sleep.
        ring_bytes, ring_events, retention_bytes: of each session, small, so that bounds are met.
    """

    tenants: int = 2
    sessions: int = 2
    clients: int = 2
    events: int = 44
    pace_s: float = 0.2
    echo_s: float = 0.02
    scale: int = 1
    heartbeat_s: float = 1.0
    idle_s: float = 1.0
    ring_events: int = 200
    ring_bytes: int = 16_384
    budget_bytes: int = 32_768
    retention_bytes: int = 16_777_216
    checkpoint_records: int = 40
