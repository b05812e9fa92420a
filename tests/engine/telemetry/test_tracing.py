"""Spans reach OpenTelemetry with the engine's times, and whatever OpenTelemetry does wrong ends there."""

from __future__ import annotations

import logging

import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from laneway.engine.telemetry.sampling import Sampler
from laneway.engine.telemetry.tracing import MAX_LINKS, OtelTracer
from laneway.routing.traceparent import sampled

_CLIENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


class Hands:
    """A clock set by hand."""

    at = 100.0

    def now(self):
        return self.at


def _made(ratio=1.0, processor=None, **options):
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False, **options)
    provider.add_span_processor(processor or SimpleSpanProcessor(exporter))
    clock = Hands()
    sampler = Sampler(ratio, follow=True, traces_per_s=1e6, random=lambda: 0.5)
    tracer = OtelTracer(clock, sampler, wall_ns=lambda: 1_000_000_000_000)
    tracer.use(provider, "1")
    return clock, tracer, exporter.get_finished_spans


def test_spans_have_the_engines_times_kinds_and_parents():
    """Clock seconds become UNIX nanoseconds by one offset; the client's span is the remote parent."""
    clock, tracer, spans = _made()
    receive = tracer.receive(_CLIENT, 101.5, laneway__kind="X")
    assert receive is not None
    clock.at = 103.0
    tracer.record("queue high", receive.traceparent, 102.0, 102.25, attributes={"laneway.lane": "high"})
    receive.event("told")
    receive.end("RATE_LIMITED", "slow down")
    receive.end()
    queue, span = spans()
    assert (span.name, span.kind.name, span.parent.span_id) == ("receive", "SERVER", int("b" * 16, 16))
    assert (span.start_time, span.end_time) == (1_001_500_000_000, 1_003_000_000_000)
    assert span.status.status_code.name == "ERROR"
    assert dict(span.attributes) == {"laneway.kind": "X", "error.type": "RATE_LIMITED"}
    assert [event.name for event in span.events] == ["told"]
    assert (queue.start_time, queue.end_time) == (1_002_000_000_000, 1_002_250_000_000)
    assert queue.parent.span_id == span.context.span_id
    assert queue.context.trace_id == span.context.trace_id == int("a" * 32, 16)
    assert dict(queue.attributes) == {"laneway.lane": "high"}


def test_decision_is_the_samplers_and_the_providers():
    """What either does not want is not received, so that the envelope carries no trace."""
    assert _made(ratio=0.0)[1].receive("", 0.0) is None
    assert _made(sampler=ALWAYS_OFF)[1].receive("", 0.0) is None
    begun = _made()[1].receive("", 0.0)
    assert begun is not None
    assert sampled(begun.traceparent)


def test_links_are_capped_and_what_is_no_traceparent_is_left_out():
    """At most 128; a span under no trace is silent."""
    _, tracer, spans = _made()
    many = [f"00-{'c' * 32}-{n:016x}-01" for n in range(1, 200)]
    tracer.begin("batch", _CLIENT, links=["", "rubbish", *many]).end()
    assert len(spans()[0].links) == MAX_LINKS
    assert tracer.begin("lost", "").traceparent == ""
    assert len(spans()) == 1


def test_nothing_is_recorded_before_use_and_after_stop():
    """An engine that is not started, or is closed, asks in vain and is not disturbed."""
    _, tracer, spans = _made()
    tracer.stop()
    assert tracer.receive(_CLIENT, 0.0) is None
    tracer.begin("late", _CLIENT).end()
    assert spans() == ()


class Broken(SpanProcessor):
    """A processor with a bug in every method."""

    def on_start(self, span, parent_context=None):
        raise RuntimeError("on_start")

    def on_end(self, span):
        raise RuntimeError("on_end")


def test_bug_of_a_processor_is_not_the_events(caplog: pytest.LogCaptureFixture):
    """It is counted, the first is logged, and the caller gets a span that does nothing."""
    _, tracer, _ = _made(processor=Broken())
    with caplog.at_level(logging.WARNING, "laneway"):
        assert tracer.receive(_CLIENT, 0.0) is None
        for _ in range(3):
            tracer.record("x", _CLIENT, 0.0, 1.0)
    assert tracer.failures == 4
    assert len(caplog.records) == 1


def test_strange_attributes_do_not_raise():
    """Whatever a handler notes, its event goes on."""
    _, tracer, spans = _made()
    span = tracer.begin("x", _CLIENT, kind="no such kind")
    span.note(a=object())  # type: ignore[arg-type]
    span.end()
    good = tracer.begin("y", _CLIENT)
    good.note(a={"not": "a value"})  # type: ignore[arg-type]
    good.end()
    assert [span.name for span in spans()] == ["y"]
