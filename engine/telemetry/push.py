"""Metrics out over OTLP/gRPC: the same catalogue, every few seconds and once more at the end.

Law of this file: numbers are read on the event loop, encoded and sent by a thread; one export at a
time, each with a deadline. A dead receiver costs exports, never events, and the log hears once that
it is away and once that it is back.

Counters and histograms are cumulative since the start, so a lost export loses nothing but a point.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import export as otel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from laneway.actors.ports import Probe
from laneway.engine.telemetry.counters import Distribution
from laneway.engine.telemetry.families import Family

__all__ = ["MetricsPush", "metrics_data"]

_log: Final = logging.getLogger(__name__)
_EXPORTER_LOG: Final = logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter")
_T = TypeVar("_T")
_EXPORT_S: Final = 5.0
_LAST_S: Final = 3.0
_CUMULATIVE: Final = otel.AggregationTemporality.CUMULATIVE


class MetricsPush:
    """Sends the metrics of one engine to one receiver.

    Args:
        url: ``http://HOST:PORT`` in plain text, or ``https://`` with TLS.
        source: who sends; see `otlp.resource`.
        read: gives the metrics of this moment; called on the event loop.
        every_s: pause between two exports.
        probe: counter `metrics.export_failed`.
        within_s: how long one export may take, with its retries.
    """

    def __init__(
        self,
        url: str,
        source: Resource,
        read: Callable[[], Sequence[Family]],
        *,
        every_s: float,
        probe: Probe,
        within_s: float = _EXPORT_S,
    ) -> None:
        self._url = url
        self._source = source
        self._read = read
        self._every_s = every_s
        self._probe = probe
        self._within_s = within_s
        self._exporter = OTLPMetricExporter(endpoint=url, insecure=url.startswith("http://"), timeout=within_s)
        self._started_ns = time.time_ns()
        self._away = self._exporting = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; the first export comes after the first pause."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="laneway metrics push")

    async def close(self) -> None:
        """Send the last numbers, for at most 3 s, and stop; idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        try:
            async with asyncio.timeout(_LAST_S):
                if not self._exporting:  # one that hangs is given up, and the last numbers with it
                    await self.push()
        except TimeoutError:
            self._failed()
        await _in_thread(self._exporter.shutdown)

    async def push(self) -> bool:
        """Read and send once; returns whether the receiver took it."""
        data = metrics_data(self._read(), self._source, self._started_ns, time.time_ns())
        self._exporting = True
        sent = await _in_thread(lambda: self._export(data))
        if not sent:
            self._failed()
        elif self._away:
            self._away = False
            _log.info("metrics are sent to %s again", self._url)
        return sent

    def _failed(self) -> None:
        self._probe.count("metrics.export_failed")
        if not self._away:
            self._away = True
            _log.warning("metrics cannot be sent to %s; events go on, and so do the numbers", self._url)

    def _export(self, data: otel.MetricsData) -> bool:
        try:
            with _silenced(_EXPORTER_LOG):  # what it says at each try, `push` says once
                return (
                    self._exporter.export(data, timeout_millis=self._within_s * 1000) is otel.MetricExportResult.SUCCESS
                )
        except Exception as error:  # encoding or transport, whatever it is: the next export is another try
            _log.debug("an export of metrics failed: %s", error)
            return False
        finally:
            self._exporting = False

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self.push()


async def _in_thread(call: Callable[[], _T]) -> _T:
    """Run `call` in a thread that holds up nobody: the executor's would delay the end of the process."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[_T] = loop.create_future()

    def settle(outcome: Callable[[], _T]) -> None:
        if over.done():
            return
        try:
            over.set_result(outcome())
        except Exception as error:
            over.set_exception(error)

    def run() -> None:
        future: concurrent.futures.Future[_T] = concurrent.futures.Future()
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)
        with contextlib.suppress(RuntimeError):  # nobody waits any more, and the loop is gone
            loop.call_soon_threadsafe(settle, future.result)

    threading.Thread(target=run, name="laneway metrics export", daemon=True).start()
    return await over


@contextlib.contextmanager
def _silenced(logger: logging.Logger) -> Iterator[None]:
    """Keep what this thread makes `logger` say out of the log while the block lasts."""
    thread = threading.get_ident()

    def others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)


def metrics_data(families: Sequence[Family], source: Resource, started_ns: int, now_ns: int) -> otel.MetricsData:
    """Return the metrics as OpenTelemetry's own data, cumulative from `started_ns`. O(series)."""
    metrics = [
        otel.Metric(family.metric.name, family.metric.help, family.metric.unit, _data(family, started_ns, now_ns))
        for family in families
    ]
    scope = otel.ScopeMetrics(InstrumentationScope("laneway"), metrics, "")
    return otel.MetricsData([otel.ResourceMetrics(source, [scope], "")])


def _data(family: Family, started_ns: int, now_ns: int) -> otel.Sum | otel.Gauge | otel.Histogram:
    metric = family.metric
    numbers, histograms = [], []
    for values, value in family.series:
        attributes = dict(zip(metric.labels, values, strict=True))
        if isinstance(value, Distribution):
            histograms.append(_histogram_point(attributes, value, started_ns, now_ns))
        else:
            numbers.append(otel.NumberDataPoint(attributes, started_ns, now_ns, value))
    if metric.type == "histogram":
        return otel.Histogram(histograms, _CUMULATIVE)
    if metric.type == "counter":
        return otel.Sum(numbers, _CUMULATIVE, is_monotonic=True)
    return otel.Gauge(numbers)


def _histogram_point(
    attributes: dict[str, str], value: Distribution, started_ns: int, now_ns: int
) -> otel.HistogramDataPoint:
    unknown: float = None  # type: ignore[assignment]  # optional on the wire, and nobody keeps extremes
    return otel.HistogramDataPoint(
        attributes, started_ns, now_ns, value.count, value.total, value.buckets, value.bounds, unknown, unknown
    )
