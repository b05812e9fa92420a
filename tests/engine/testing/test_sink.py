"""The OTLP receiver, with the real exporters of the SDK."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.trace import Link, SpanKind, StatusCode

from laneway.engine.testing.sink import Sink
from laneway.routing.errors import DeadlineExceeded
from tests.engine.testing.exporting import tracing

WITHIN_S = 60.0


def _export(url: str) -> None:
    with tracing(url, "shop", 42) as tracer, tracer.start_as_current_span("outer", kind=SpanKind.SERVER) as outer:
        link = Link(outer.get_span_context())
        with tracer.start_as_current_span("inner x", links=[link], attributes={"laneway.lane": "high"}) as inner:
            inner.add_event("first token", {"n": 1})
            inner.set_status(StatusCode.ERROR, "it broke")


def test_spans_of_the_real_sdk_arrive_whole() -> None:
    """Ids, parent, kind, links, events, status, resource and flags."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Sink() as sink:
            await asyncio.to_thread(_export, sink.url)
            inner, outer = sorted(await sink.spans(lambda spans: len(spans) == 2), key=lambda span: span.name)
            assert (outer.kind, outer.parent, len(outer.trace), len(outer.span)) == ("server", "", 32, 16)
            assert (inner.trace, inner.parent, inner.kind) == (outer.trace, outer.span, "internal")
            assert inner.links == ((outer.trace, outer.span),)
            assert [(event.name, event.attributes) for event in inner.events] == [("first token", {"n": 1})]
            assert (inner.status, inner.message, inner.attributes) == ("error", "it broke", {"laneway.lane": "high"})
            assert inner.process == ("shop", 42)
            assert inner.flags == outer.flags == 0x100  # parents of this very process
            assert outer.start_ns <= inner.start_ns <= inner.end_ns <= outer.end_ns
            assert inner.duration_ms >= 0
            sink.clear()
            assert sink.received == ()

    asyncio.run(main())


def test_metrics_and_logs_are_taken_as_well() -> None:
    """Points of metrics are kept, records of logs are counted."""

    def measure(url: str) -> None:
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=url, insecure=True, timeout=10))
        meters = MeterProvider([reader])
        meters.get_meter("test").create_counter("events").add(3, {"lane": "high"})
        meters.shutdown()

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Sink() as sink:
            await asyncio.to_thread(measure, sink.url)
            (point,) = await sink.metrics(lambda points: any(point.name == "events" for point in points))
            assert (point.value, point.attributes) == (3.0, {"lane": "high"})
            request = ExportLogsServiceRequest()
            request.resource_logs.add().scope_logs.add().log_records.add()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{sink.port}") as channel:
                export = channel.unary_unary(
                    "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
                    request_serializer=ExportLogsServiceRequest.SerializeToString,
                    response_deserializer=ExportLogsServiceResponse.FromString,
                )
                await export(request)
            assert sink.log_records == 1

    asyncio.run(main())


def test_it_refuses_beyond_its_bound() -> None:
    """Nothing of such a request is kept, and the exporter is told."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Sink(max_bytes=10) as sink:
            await asyncio.to_thread(_export, sink.url)
            assert (sink.received, sink.refused, sink.requests) == ((), 1, 1)

    asyncio.run(main())


def test_waiting_ends_at_its_deadline_and_says_what_came() -> None:
    """So that a failing test explains itself."""

    async def main() -> None:
        async with Sink() as sink:
            await asyncio.to_thread(_export, sink.url)
            with pytest.raises(DeadlineExceeded, match="inner x, outer"):
                await sink.spans(lambda spans: len(spans) > 2, within_s=0.05)

    asyncio.run(main())
