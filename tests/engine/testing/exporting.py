"""The real OpenTelemetry SDK and OTLP exporter, pointed at a sink."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer


@contextmanager
def providing(url: str, service: str = "client", pid: int = 1) -> Iterator[TracerProvider]:
    """A provider whose spans are at the sink when the block is left. Blocks: call it in a thread."""
    provider = TracerProvider(resource=Resource.create({"service.name": service, "process.pid": pid}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url, insecure=True, timeout=10)))
    try:
        yield provider
    finally:
        provider.shutdown()


@contextmanager
def tracing(url: str, service: str = "client", pid: int = 1) -> Iterator[Tracer]:
    """A tracer of such a provider."""
    with providing(url, service, pid) as provider:
        yield provider.get_tracer("test")
