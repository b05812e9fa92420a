"""A send is a span of the application's trace, ends as the send does, and nothing is loaded without a provider."""

from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from laneway.engine.client_spans import ClientSpans
from laneway.routing.envelope import TRACE, Envelope, envelope
from laneway.routing.errors import RateLimited
from laneway.routing.traceparent import parse, sampled

_GIVEN = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


def _event(trace: str = "") -> Envelope:
    return envelope(
        "USER_MESSAGE", producer="c", counter=7, tenant="", session="", lane=1, run="r", trace=trace, body=b"12"
    )


def _made() -> tuple[TracerProvider, InMemorySpanExporter]:
    kept, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    return provider, kept


def test_send_is_below_the_current_span_and_the_event_below_the_send() -> None:
    """Kind, attributes, parent; the call's metadata names the current span."""
    provider, kept = _made()
    spans = ClientSpans(provider, "s")
    with provider.get_tracer("app").start_as_current_span("application") as application:
        ((name, told),) = spans.metadata()
        with spans.sending(_event()) as sent:
            pass
    send = kept.get_finished_spans()[0]
    parts, current = parse(sent[TRACE]), parse(told)
    assert parts is not None
    assert current is not None
    assert (name, int(current.span_id, 16)) == ("traceparent", application.get_span_context().span_id)
    assert int(parts.span_id, 16) == send.context.span_id
    assert send.parent is not None
    assert send.parent.span_id == application.get_span_context().span_id
    assert (send.name, send.kind.name) == ("send", "PRODUCER")
    assert dict(send.attributes or {}) == {
        "messaging.system": "laneway",
        "messaging.operation.type": "send",
        "messaging.message.id": "c:7",
        "messaging.message.conversation_id": "s",
        "messaging.message.body.size": 2,
        "laneway.kind": "USER_MESSAGE",
        "laneway.session": "s",
        "laneway.run": "r",
    }


def test_refusal_marks_the_span_and_goes_on() -> None:
    """With its code; another error with its type."""
    provider, kept = _made()
    spans = ClientSpans(provider, "s")
    for error in (RateLimited("slow down"), ValueError("no")):
        with pytest.raises(type(error)), spans.sending(_event()):
            raise error
    codes = [(span.attributes or {})["error.type"] for span in kept.get_finished_spans()]
    assert codes == ["RATE_LIMITED", "ValueError"]


def test_without_a_current_span_a_trace_begins_only_where_that_is_wanted() -> None:
    """A client begins one; code in the engine's process leaves the decision to the engine."""
    provider, kept = _made()
    with ClientSpans(provider, "s", rooted=False).sending(_event()) as sent:
        assert sent[TRACE] == ""
    assert kept.get_finished_spans() == ()
    with ClientSpans(provider, "s").sending(_event()) as sent:
        assert sampled(sent[TRACE])
    assert ClientSpans(provider, "s").metadata() == ()


def test_given_traceparent_is_gone_on_with() -> None:
    """It stands for the current span."""
    provider, kept = _made()
    with ClientSpans(provider, "s", rooted=False).sending(_event(_GIVEN)) as sent:
        assert sent[TRACE][3:35] == "a" * 32
    assert kept.get_finished_spans()[0].parent is not None


def test_what_is_not_recorded_here_is_not_recorded_there() -> None:
    """An unsampled span's traceparent goes along, with its flag."""
    provider = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
    with ClientSpans(provider, "s").sending(_event()) as sent:
        assert parse(sent[TRACE]) is not None
        assert not sampled(sent[TRACE])


class Broken(SpanProcessor):
    """A processor with a bug."""

    def on_start(self, span: object, parent_context: object = None) -> None:
        raise RuntimeError("a bug")


def test_broken_provider_costs_the_span_and_not_the_event() -> None:
    """The event goes out untraced."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Broken())
    with ClientSpans(provider, "s").sending(_event()) as sent:
        assert sent == _event()


def test_client_without_a_provider_loads_no_opentelemetry() -> None:
    """Whoever does not trace does not pay for the import."""
    code = "import sys; from laneway import Client; Client('127.0.0.1:1'); sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
