"""What an engine measures about itself: counters, traces, and where they are sent.

Law of this file: made with the engine, started and closed with it; without a receiver nothing of
OpenTelemetry is imported, and whatever the receiver does, events go on.
"""

from __future__ import annotations

import random
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from laneway.actors.ports import Clock, Probe
from laneway.actors.spans import Tracer
from laneway.engine.sections import TelemetryConfig
from laneway.engine.telemetry.counters import Counters

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from laneway.engine.telemetry.otlp import OtlpSpans
    from laneway.engine.telemetry.tracing import OtelTracer

__all__ = ["Telemetry"]


class Telemetry:
    """Counters and tracer of one engine.

    Args:
        config: what to send where.
        clock: the engine's.
        probe: the embedder's own metrics port instead of `counters`.
        provider: the embedder's own OpenTelemetry tracer provider; it stays the embedder's to close.

    Attributes:
        counters: what `/metrics` and the status call show.
        probe: where the engine counts.
        tracer: spans of sampled events, or None: nothing is traced.
        provider: as given.
    """

    def __init__(
        self,
        config: TelemetryConfig,
        clock: Clock,
        probe: Probe | None = None,
        provider: TracerProvider | None = None,
    ) -> None:
        self.counters = Counters()
        self.probe: Probe = probe or self.counters
        self.provider = provider
        self._config = config
        self._clock = clock
        self._spans = self._make_tracer() if provider is not None or config.otlp else None
        self.tracer: Tracer | None = self._spans
        self._otlp: OtlpSpans | None = None

    def _make_tracer(self) -> OtelTracer:
        from laneway.engine.telemetry.sampling import Sampler
        from laneway.engine.telemetry.tracing import OtelTracer

        config = self._config
        sampler = Sampler(
            config.sample_ratio,
            follow=config.follow_clients,
            traces_per_s=config.traces_per_s,
            random=random.random,
        )
        return OtelTracer(self._clock, sampler)

    async def start(self) -> None:
        """Begin to export."""
        if self._spans is None:
            return
        if self.provider is not None:
            self._spans.use(self.provider, _version())
            return
        from laneway.engine.telemetry.otlp import OtlpSpans, resource

        self._otlp = OtlpSpans(self._config.otlp, resource(self._config.service, _version()))
        self._spans.use(self._otlp.provider, _version())

    async def close(self) -> None:
        """Send what is left, within bounds; idempotent."""
        if self._spans is not None:
            self._spans.stop()
        otlp, self._otlp = self._otlp, None
        if otlp is not None:
            await otlp.close()


def _version() -> str:
    try:
        return version("laneway")
    except PackageNotFoundError:  # run from a source tree
        return "0"
