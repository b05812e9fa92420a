"""Spans out over OTLP/gRPC, to Jaeger or any other receiver.

Law of this file: a receiver that is slow, full or dead costs spans, never events: what waits is
bounded, exporting is a thread's business, and closing waits for it a bounded time off the event
loop. The log hears once that the receiver is away and once that it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import uuid
from collections.abc import Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from laneway.engine.telemetry.tracing import MAX_LINKS

__all__ = ["OtlpSpans", "resource"]

_log: Final = logging.getLogger(__name__)
_EXPORTER_LOG: Final = logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter")
_QUEUE_SPANS: Final = 8_192
"""What may wait for a receiver: some 16 MiB at worst."""
_BATCH_SPANS: Final = 512
_PAUSE_MS: Final = 1_000
_EXPORT_S: Final = 5.0
_FLUSH_S: Final = 3.0
_MAX_VALUE_CHARS: Final = 256


def resource(service: str, version: str) -> Resource:
    """Return who sends: service name, version and instance, and the process."""
    return Resource(
        {
            "service.name": service,
            "service.version": version,
            "service.instance.id": uuid.uuid4().hex,
            "process.pid": os.getpid(),
        }
    )


class OtlpSpans:
    """A provider that sends every span to one receiver.

    Args:
        url: ``http://HOST:PORT`` in plain text, or ``https://`` with TLS.
        source: see `resource`.

    Attributes:
        provider: for the tracer.
    """

    def __init__(self, url: str, source: Resource) -> None:
        self._exporter = _Steady(url)
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=_QUEUE_SPANS,
            max_export_batch_size=_BATCH_SPANS,
            schedule_delay_millis=_PAUSE_MS,
        )
        limits = SpanLimits(max_links=MAX_LINKS, max_span_attribute_length=_MAX_VALUE_CHARS)
        # sampling is decided before a span is asked for; interpreter exit must not wait for a receiver
        self.provider = TracerProvider(ALWAYS_ON, source, shutdown_on_exit=False, span_limits=limits)
        self.provider.add_span_processor(self._processor)

    @property
    def lost(self) -> int:
        """Spans that no receiver took."""
        return self._exporter.lost

    async def close(self, flush_s: float = _FLUSH_S) -> None:
        """Send what waits, for at most `flush_s` seconds, and stop; the event loop goes on meanwhile."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            if not over.done():
                over.set_result(None)

        def shut_down() -> None:
            try:
                self._processor.shutdown()  # type: ignore[no-untyped-call]
            finally:
                with contextlib.suppress(RuntimeError):  # nobody waits any more, and the loop is gone
                    loop.call_soon_threadsafe(settle)

        # a thread of its own, and a daemon: the executor's threads would hold up the end of the process
        threading.Thread(target=shut_down, name="laneway otlp close", daemon=True).start()
        try:
            async with asyncio.timeout(flush_s):
                await asyncio.shield(over)
        except TimeoutError:
            _log.warning("spans that were not sent within %g s are lost: the receiver is slow or away", flush_s)
            self._exporter.shutdown()  # ends what is still trying to send, and with it the thread


class _Steady(SpanExporter):
    """The OTLP exporter, with one log line per change instead of some per batch."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._exporter = OTLPSpanExporter(endpoint=url, insecure=url.startswith("http://"), timeout=_EXPORT_S)
        self.lost = 0
        self._away = self._over = False
        self._exporting_thread = 0
        _EXPORTER_LOG.addFilter(self._not_ours)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._exporting_thread = threading.get_ident()
        try:
            result = SpanExportResult.FAILURE if self._over else self._exporter.export(spans)
        finally:
            self._exporting_thread = 0
            self._let_others_speak()
        failed = result is not SpanExportResult.SUCCESS
        self.lost += len(spans) * failed
        if failed and not self._away:
            _log.warning("spans cannot be sent to %s; events go on, spans are lost until it answers", self._url)
        elif self._away and not failed:
            _log.info("spans are sent to %s again", self._url)
        self._away = failed
        return result

    def shutdown(self) -> None:
        if not self._over:
            self._over = True
            self._exporter.shutdown()
            self._let_others_speak()

    def _let_others_speak(self) -> None:
        if self._over and not self._exporting_thread:
            _EXPORTER_LOG.removeFilter(self._not_ours)

    def _not_ours(self, record: logging.LogRecord) -> bool:
        """Keep what other exporters of this process say; what ours says is said above, once."""
        return threading.get_ident() != self._exporting_thread
