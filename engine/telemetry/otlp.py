"""Spans out over OTLP/gRPC, to Jaeger or any other receiver.

Law of this file: a receiver that is slow, full or dead costs spans, never events: what waits is
bounded, encoding and sending are a thread's business, and closing waits for it a bounded time off the
event loop. The log hears once that the receiver is away and once that it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from laneway.engine.telemetry.span_encoding import Encoder
from laneway.engine.telemetry.span_log import LoggedSpan

__all__ = ["OtlpSpans", "resource"]

_log: Final = logging.getLogger(__name__)
_EXPORTER_LOG: Final = logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter")
_QUEUE_SPANS: Final = 8_192
"""What may wait for a receiver: some 16 MiB at worst."""
_BATCH_SPANS: Final = 512
_PAUSE_S: Final = 1.0
_EXPORT_S: Final = 5.0
_FLUSH_S: Final = 3.0
_AT_ONCE: Final = 32
"""Spans encoded before the thread lets others run: a third of a millisecond."""


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
    """Sends every span that it is given to one receiver, a second later at the latest.

    Args:
        url: ``http://HOST:PORT`` in plain text, or ``https://`` with TLS.
        source: see `resource`.
        unix_ns: clock seconds as UNIX nanoseconds.
    """

    def __init__(self, url: str, source: Resource, unix_ns: Callable[[float], int]) -> None:
        scope = InstrumentationScope("laneway", str(source.attributes.get("service.version", "")))
        self._exporter = _Steady(url, Encoder(source, scope, unix_ns))
        self._waiting: deque[LoggedSpan] = deque()
        self._dropped = 0
        self._wake = threading.Event()
        self._closing = False
        self._sent: Callable[[], None] = _nobody_waits
        # a thread of its own, and a daemon: the executor's threads would hold up the end of the process
        threading.Thread(target=self._export, name="laneway otlp", daemon=True).start()

    def take(self, span: LoggedSpan) -> None:
        """Send a span that has ended; it is lost if too many wait. O(1)."""
        waiting = len(self._waiting)
        if waiting >= _QUEUE_SPANS:
            self._dropped += 1
            return
        self._waiting.append(span)
        if waiting == _BATCH_SPANS:
            self._wake.set()

    def _export(self) -> None:
        """Send what waits, until closed and empty: what the thread does."""
        try:
            while self._waiting or not self._closing:
                if not self._closing and len(self._waiting) < _BATCH_SPANS:
                    self._wake.wait(_PAUSE_S)
                    self._wake.clear()
                batch = [self._waiting.popleft() for _ in range(min(_BATCH_SPANS, len(self._waiting)))]
                if batch:
                    self._exporter.export(batch)
            self._exporter.shutdown()
        finally:
            self._sent()

    @property
    def lost(self) -> int:
        """Spans that no receiver took."""
        return self._exporter.lost + self._dropped

    async def close(self, flush_s: float = _FLUSH_S) -> None:
        """Send what waits, for at most `flush_s` seconds, and stop; the event loop goes on meanwhile."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            if not over.done():
                over.set_result(None)

        def sent() -> None:
            with contextlib.suppress(RuntimeError):  # nobody waits any more, and the loop is gone
                loop.call_soon_threadsafe(settle)

        self._sent, self._closing = sent, True
        self._wake.set()
        try:
            async with asyncio.timeout(flush_s):
                await asyncio.shield(over)
        except TimeoutError:
            _log.warning("spans that were not sent within %g s are lost: the receiver is slow or away", flush_s)
            self._exporter.shutdown()  # ends what is still trying to send, and with it the thread


def _nobody_waits() -> None:
    """Stands for whoever waits for the last span."""


class _Encoding(OTLPSpanExporter):
    """The exporter, given logged spans: its own encoder would want each as an object of the SDK first."""

    def __init__(self, url: str, encoder: Encoder) -> None:
        super().__init__(endpoint=url, insecure=url.startswith("http://"), timeout=_EXPORT_S)
        self._encoder = encoder

    def _translate_data(self, data: Any) -> ExportTraceServiceRequest:
        return self._encoder.request(_yielding(data))


def _yielding(spans: Sequence[LoggedSpan]) -> Any:
    """Give the spans one by one, and the interpreter's lock to the event loop now and then."""
    for number, span in enumerate(spans, 1):
        yield span
        if number % _AT_ONCE == 0:
            time.sleep(0)


class _Steady:
    """The OTLP exporter, with one log line per change instead of some per batch."""

    def __init__(self, url: str, encoder: Encoder) -> None:
        self._url = url
        self._exporter = _Encoding(url, encoder)
        self.lost = 0
        self._away = self._over = False
        self._exporting_thread = 0
        _EXPORTER_LOG.addFilter(self._not_ours)

    def export(self, spans: Sequence[LoggedSpan]) -> None:
        self._exporting_thread = threading.get_ident()
        result = SpanExportResult.FAILURE
        try:
            if not self._over:
                result = self._exporter.export(spans)  # type: ignore[arg-type]  # see `_Encoding`
        except Exception as error:
            _log.warning("%d spans could not be sent: %r; events go on", len(spans), error)
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
