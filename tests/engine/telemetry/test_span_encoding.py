"""A request made of logged spans is the one that OpenTelemetry makes of the same spans."""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from laneway.engine.telemetry.sampling import Sampler
from laneway.engine.telemetry.span_encoding import MAX_VALUE_CHARS, Encoder
from laneway.engine.telemetry.span_log import SpanLog
from laneway.engine.telemetry.tracing import MAX_LINKS, OtelTracer
from laneway.routing.traceparent import parse

_CLIENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
_SOURCE = Resource({"service.name": "s", "process.pid": 7})


class Clock:
    """One moment."""

    def now(self):
        return 100.0


class Ids(IdGenerator):
    """Those that the log has given out."""

    def __init__(self, spans):
        self._own = [parse(span.traceparent) for span in spans]

    def generate_trace_id(self):
        return int(self._own[0].trace_id, 16)

    def generate_span_id(self):
        return int(self._own.pop(0).span_id, 16)


def _wall():
    return 1_000_000_000_000


def _say(tracer, client):
    """Every thing that a span may have; returns the spans in the order of their beginning."""
    first = tracer.receive(client, 99.0)
    first.note(**{"laneway.kind": "X", "laneway__run": "r", "n": 3, "share": 0.5, "yes": True, "long": "x" * 999})
    links = ["", "rubbish", *(f"00-{'c' * 32}-{n:016x}-01" for n in range(1, 200))]
    second = tracer.begin("handle p", _CLIENT, kind="consumer", start=99.5, links=links, attributes={"one": 1})
    second.event("start")
    second.event("retry", laneway__attempt=2)
    second.end("TOOL_TIMEOUT", "m" * 999)
    first.end(at=99.75)
    return [first, second]


def _both(client):
    """The same spans, as this encoder and as OpenTelemetry's encodes them."""
    sampler = Sampler(1.0, follow=True, traces_per_s=1e6, random=lambda: 0.0)
    log, ended = SpanLog(Clock(), sampler, wall_ns=_wall), []
    log.use(ended.append)
    begun = _say(log, client)
    exporter = InMemorySpanExporter()
    limits = SpanLimits(max_links=MAX_LINKS, max_span_attribute_length=MAX_VALUE_CHARS)
    provider = TracerProvider(shutdown_on_exit=False, resource=_SOURCE, id_generator=Ids(begun), span_limits=limits)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = OtelTracer(Clock(), sampler, wall_ns=_wall)
    tracer.use(provider, "1")
    _say(tracer, client)
    ours = Encoder(_SOURCE, InstrumentationScope("laneway", "1"), log.unix_ns).request(ended)
    return ours, encode_spans(exporter.get_finished_spans())


def _plain(request):
    """What of a request is compared: OpenTelemetry also counts the links and characters it drops."""
    (resource,) = request.resource_spans
    (scope,) = resource.scope_spans
    for span in scope.spans:
        span.dropped_links_count = 0
        rows = sorted(span.attributes, key=lambda row: row.key)
        del span.attributes[:]
        span.attributes.extend(rows)
    return request


def test_the_request_is_opentelemetrys_own():
    """Resource, scope, ids, times, kinds, attributes, events, links, status and flags."""
    for client in (_CLIENT, ""):
        ours, theirs = _both(client)
        assert _plain(ours) == _plain(theirs)


def test_what_cannot_be_encoded_is_left_out_and_the_rest_is_sent():
    """An attribute that is none, a kind that does not exist, an integer beyond 64 bits."""
    log, ended = SpanLog(Clock(), Sampler(1.0, follow=True, traces_per_s=1e6, random=lambda: 0.0)), []
    log.use(ended.append)
    log.begin("x", _CLIENT, kind="no such kind").end()
    log.begin("y", "z" * 55).end()
    strange = log.begin("z", _CLIENT)
    strange.note(a={"not": "a value"}, b=1 << 80, c="good", d=True, e=1)
    strange.end()
    encoder = Encoder(_SOURCE, InstrumentationScope("laneway", "1"), log.unix_ns)
    (span,) = encoder.request(ended).resource_spans[0].scope_spans[0].spans
    assert (span.name, [row.key for row in span.attributes]) == ("z", ["c", "d", "e"])
    assert [row.value.WhichOneof("value") for row in span.attributes] == ["string_value", "bool_value", "int_value"]
    again = encoder.request(ended).resource_spans[0].scope_spans[0].spans
    assert len(again) == 1
