"""What is read out of OTLP requests."""

from __future__ import annotations

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from laneway.engine.testing.otlp import points_of, spans_of


def test_every_shape_of_attribute_becomes_a_plain_value() -> None:
    """Also lists, maps, and a value that was never set."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="queue high", trace_id=b"\1" * 16)
    for key, given in (("s", "x"), ("i", 7), ("d", 0.5), ("b", True), ("y", b"\0")):
        field = {"s": "string", "i": "int", "d": "double", "b": "bool", "y": "bytes"}[key]
        setattr(span.attributes.add(key=key).value, f"{field}_value", given)
    span.attributes.add(key="list").value.array_value.values.add().int_value = 1
    span.attributes.add(key="map").value.kvlist_value.values.add(key="k").value.string_value = "v"
    span.attributes.add(key="none")
    (record,) = spans_of(request)
    expected = {"s": "x", "i": 7, "d": 0.5, "b": True, "y": b"\0", "list": [1], "map": {"k": "v"}, "none": None}
    assert record.attributes == expected
    assert (record.trace, record.parent, record.base) == ("01" * 16, "", "queue")
    assert (record.kind, record.status) == ("unspecified", "unset")


def test_points_of_all_shapes_of_metrics() -> None:
    """Sums and gauges have a value, histograms sum and count; an empty metric has no points."""
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    scope.metrics.add(name="events", unit="1").sum.data_points.add(as_int=3)
    scope.metrics.add(name="load").gauge.data_points.add(as_double=0.5)
    scope.metrics.add(name="wait", unit="s").histogram.data_points.add(sum=1.5, count=4)
    scope.metrics.add(name="nothing")
    seen = [(point.name, point.unit, point.value, point.count) for point in points_of(request)]
    assert seen == [("events", "1", 3.0, 1), ("load", "", 0.5, 1), ("wait", "s", 1.5, 4)]
