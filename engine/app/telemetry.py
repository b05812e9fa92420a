"""What an engine measures about itself: counters, traces, and where they are sent.

Law of this file: made with the engine, started and closed with it; without a receiver nothing of
OpenTelemetry is imported, and whatever the receiver does, events go on.
"""

from __future__ import annotations

from laneway.actors.ports import Clock, Probe
from laneway.actors.spans import Tracer
from laneway.engine.sections import TelemetryConfig
from laneway.engine.telemetry.counters import Counters

__all__ = ["Telemetry"]


class Telemetry:
    """Counters and tracer of one engine.

    Args:
        config: what to send where.
        clock: the engine's.
        probe: the embedder's own metrics port instead of `counters`.

    Attributes:
        counters: what `/metrics` and the status call show.
        probe: where the engine counts.
        tracer: spans of sampled events, or None: nothing is traced.
    """

    def __init__(self, config: TelemetryConfig, clock: Clock, probe: Probe | None = None) -> None:
        self.counters = Counters()
        self.probe: Probe = probe or self.counters
        self.tracer: Tracer | None = None
        self._config = config
        self._clock = clock

    async def start(self) -> None:
        """Begin to export."""

    async def close(self) -> None:
        """Send what is left, within bounds; idempotent."""
