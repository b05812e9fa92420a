"""What an OTLP receiver is sent, as plain records: spans and points of metrics.

Law of this file: protobuf in, frozen values out; ids are lower-case hex, times are UNIX nanoseconds,
an id that was not set is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["MetricPoint", "SpanEvent", "SpanRecord", "Value", "points_of", "spans_of"]

Value: TypeAlias = str | int | float | bool | bytes | list[Any] | dict[str, Any] | None
"""What an attribute may be."""

_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUS: Final = ("unset", "ok", "error")


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """A moment within a span."""

    name: str
    at_ns: int
    attributes: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """One span as it was exported.

    Attributes:
        trace, span, parent: ids; parent is empty for a root.
        kind: internal, server, client, producer, consumer.
        links: (trace, span) each.
        resource: what describes the process: service.name, process.pid.
        flags: of the OTLP span: 0x200 = the parent is in another process (if 0x100 says that this is known).
        status: unset, ok, error. message: what the status says.
    """

    trace: str
    span: str
    parent: str
    name: str
    kind: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value]
    links: tuple[tuple[str, str], ...]
    events: tuple[SpanEvent, ...]
    resource: Mapping[str, Value]
    flags: int
    status: str
    message: str

    @property
    def base(self) -> str:
        """First word of the name: `queue` of `queue high`."""
        return self.name.partition(" ")[0]

    @property
    def duration_ms(self) -> float:
        """How long it took."""
        return (self.end_ns - self.start_ns) / 1e6

    @property
    def process(self) -> tuple[str, Value]:
        """Service name, and the id of the process it tells of: its own word, or the exporter's."""
        pid = self.attributes.get("process.pid", self.resource.get("process.pid"))
        return str(self.resource.get("service.name", "?")), pid


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One point of one metric.

    Attributes:
        value: of a sum or gauge; the sum of a histogram. count: measurements in a histogram, else 1.
    """

    name: str
    unit: str
    attributes: Mapping[str, Value]
    value: float
    count: int


def spans_of(request: ExportTraceServiceRequest) -> Iterator[SpanRecord]:
    """Yield the spans of one export, in its order."""
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield _span(span, resource)


def points_of(request: ExportMetricsServiceRequest) -> Iterator[MetricPoint]:
    """Yield the points of one export, in its order."""
    for group in request.resource_metrics:
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                shape = metric.WhichOneof("data")
                for point in getattr(metric, shape).data_points if shape else ():
                    labels = _attributes(point.attributes)
                    if hasattr(point, "count"):
                        yield MetricPoint(metric.name, metric.unit, labels, point.sum, point.count)
                    else:
                        held = point.WhichOneof("value")
                        value = float(getattr(point, held)) if held else 0.0
                        yield MetricPoint(metric.name, metric.unit, labels, value, 1)


def _span(span: Any, resource: Mapping[str, Value]) -> SpanRecord:
    return SpanRecord(
        trace=span.trace_id.hex(),
        span=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        name=span.name,
        kind=_KINDS[span.kind],
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        events=tuple(SpanEvent(each.name, each.time_unix_nano, _attributes(each.attributes)) for each in span.events),
        resource=resource,
        flags=span.flags,
        status=_STATUS[span.status.code],
        message=span.status.message,
    )


def _attributes(pairs: Iterable[Any]) -> dict[str, Value]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(held: Any) -> Value:
    shape = held.WhichOneof("value")
    if shape is None:
        return None
    value = getattr(held, shape)
    if shape == "array_value":
        return [_value(each) for each in value.values]
    if shape == "kvlist_value":
        return _attributes(value.values)
    plain: Value = value
    return plain
