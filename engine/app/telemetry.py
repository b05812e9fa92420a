"""What an engine measures about itself: metrics, traces, and where they are sent.

Law of this file: made with the engine, started and closed with it; without a receiver nothing of
OpenTelemetry is imported, and whatever the receiver does, events go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from laneway.actors.ports import Clock, Probe
from laneway.actors.spans import Tracer
from laneway.engine.client_spans import ClientSpans
from laneway.engine.edge.traffic import Traffic
from laneway.engine.telemetry.counters import Counters
from laneway.engine.telemetry.lag import LagTicker
from laneway.engine.telemetry.tee import Tee

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from laneway.engine.sections import TelemetryConfig
    from laneway.engine.telemetry.families import Family
    from laneway.engine.telemetry.otlp import OtlpSpans
    from laneway.engine.telemetry.push import MetricsPush
    from laneway.engine.telemetry.sampling import Sampler
    from laneway.engine.telemetry.span_log import SpanLog
    from laneway.engine.telemetry.tracing import OtelTracer

__all__ = ["TRANSPORTS", "Telemetry"]

TRANSPORTS: Final = ("embedded", "grpc", "http")
"""What carries connections: this process itself, or an edge; http is WebSocket, event streams and answers."""


class Telemetry:
    """Metrics and tracer of one engine.

    Args:
        config: what to send where.
        clock: the engine's.
        read: gives every metric of this moment.
        probe: the embedder's own metrics port, told beside `counters`.
        provider: the embedder's own OpenTelemetry tracer provider; it stays the embedder's to close.

    Attributes:
        counters: what actors counted and measured. probe: where they do.
        traffic: connections and bytes by transport.
        read: as given.
        tracer: spans of sampled events, or None: nothing is traced.
        lag: how late the event loop is, measured from `start` to `close`.
        provider: as given.
    """

    def __init__(
        self,
        config: TelemetryConfig,
        clock: Clock,
        read: Callable[[], list[Family]],
        probe: Probe | None = None,
        provider: TracerProvider | None = None,
    ) -> None:
        self.counters = Counters()
        self.probe: Probe = Tee(self.counters, probe) if probe is not None else self.counters
        self.traffic = {name: Traffic(name, clock, self.probe) for name in TRANSPORTS}
        self.read = read
        self.provider = provider
        self._config = config
        self._clock = clock
        self._theirs = self._make_theirs() if provider is not None else None
        self._ours = self._make_ours() if provider is None and config.otlp else None
        self.tracer: Tracer | None = self._theirs or self._ours
        self._otlp: OtlpSpans | None = None
        self._push: MetricsPush | None = None
        self.lag = LagTicker(clock, self.probe)

    def _make_theirs(self) -> OtelTracer:
        from laneway.engine.telemetry.tracing import OtelTracer

        return OtelTracer(self._clock, self._sampler())

    def _make_ours(self) -> SpanLog:
        from laneway.engine.telemetry.span_log import SpanLog

        return SpanLog(self._clock, self._sampler())

    def _sampler(self) -> Sampler:
        import random

        from laneway.engine.telemetry.sampling import Sampler

        config = self._config
        return Sampler(
            config.sample_ratio,
            follow=config.follow_clients,
            traces_per_s=config.traces_per_s,
            random=random.random,
        )

    @property
    def spans_lost(self) -> int:
        """Finished spans that could not be exported."""
        return self._otlp.lost if self._otlp is not None else 0

    def sender(self, session: str) -> ClientSpans | None:
        """Return the spans of what this process sends to a session, if the embedder traces itself."""
        return None if self.provider is None else ClientSpans(self.provider, session, rooted=False)

    async def start(self) -> None:
        """Begin to measure and to export."""
        self.lag.start()
        if self._theirs is not None and self.provider is not None:
            self._theirs.use(self.provider, _version())
        if self._config.otlp:
            self._start_export()

    def _start_export(self) -> None:
        from laneway.engine.telemetry.otlp import OtlpSpans, resource
        from laneway.engine.telemetry.push import MetricsPush

        config = self._config
        source = resource(config.service, _version())
        self._push = MetricsPush(config.otlp, source, self.read, every_s=config.export_s, probe=self.probe)
        self._push.start()
        if self._ours is not None:
            self._otlp = OtlpSpans(config.otlp, source, self._ours.unix_ns)
            self._ours.use(self._otlp.take)

    async def close(self) -> None:
        """Send what is left, within bounds; idempotent."""
        await self.lag.close()
        for tracer in (self._theirs, self._ours):
            if tracer is not None:
                tracer.stop()
        otlp, self._otlp = self._otlp, None
        push, self._push = self._push, None
        await asyncio.gather(*(each.close() for each in (otlp, push) if each is not None))


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # with zip files and e-mail: only for who exports

    try:
        return version("laneway")
    except PackageNotFoundError:  # run from a source tree
        return "0"
