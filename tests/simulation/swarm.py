"""Swarm testing: each seed takes a random part of all faults, each at a random strength.

Law of this file: a weather in which everything happens at once hides what only happens when little else
does, so most faults are absent from most seeds (Groce et al., "Swarm testing", ISSTA 2012).
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, Final

from tests.simulation.faults import CALM, Weather
from tests.simulation.shape import Shape

__all__ = ["swarm"]

_CHANCES: Final[tuple[tuple[str, float, float], ...]] = (
    ("slow_commit", 0.005, 0.1), ("lost_commit", 0.002, 0.06), ("torn_commit", 0.002, 0.06),
    ("failed_read", 0.001, 0.03), ("cut", 0.005, 0.12), ("stall", 0.005, 0.05), ("blackhole", 0.002, 0.03),
    ("forget", 0.01, 0.2), ("other_epoch", 0.01, 0.1), ("posts", 0.2, 1.0), ("double", 0.01, 0.3),
    ("reorder", 0.01, 0.3), ("mute", 0.05, 0.4), ("wrong_ack", 0.002, 0.05),
)  # fmt: skip
_EVERY_S: Final[tuple[tuple[str, float, float], ...]] = (
    ("crash_every_s", 0.8, 5.0), ("zombie_every_s", 1.0, 5.0), ("freeze_every_s", 2.0, 8.0),
    ("pause_every_s", 1.0, 6.0), ("suspend_every_s", 1.0, 6.0), ("rush_every_s", 0.5, 4.0),
    ("full_every_s", 1.0, 5.0), ("slow_every_s", 1.0, 5.0),
    ("power_every_s", 1.0, 6.0), ("overload_every_s", 0.7, 5.0),
)  # fmt: skip
_SHAPES: Final = (
    Shape(), Shape(tenants=1, sessions=1, clients=4), Shape(tenants=3, sessions=2, clients=1),
    Shape(ring_events=24, ring_bytes=2048, retention_bytes=12_288), Shape(pace_s=0.02, echo_s=0.3),
    Shape(pace_s=1.0),
)  # fmt: skip
_PRESENT: Final = 0.35


def swarm(seed: int) -> tuple[Weather, Shape]:
    """Return this seed's weather and shape: each fault is there with a chance of 0.35, log-uniformly strong."""
    rng = random.Random(f"swarm:{seed}")
    chosen: dict[str, Any] = {"wall_jumps": rng.random() < 0.5}
    for name, low, high in (*_CHANCES, *_EVERY_S):
        if rng.random() < _PRESENT:
            chosen[name] = float(low * (high / low) ** rng.random())
    return replace(CALM, **chosen), rng.choice(_SHAPES)
