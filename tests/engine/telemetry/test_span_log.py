"""A logged span keeps what its caller gave and two times, and is handed over once."""

from __future__ import annotations

from laneway.engine.telemetry.sampling import Sampler
from laneway.engine.telemetry.span_log import SpanLog
from laneway.routing.traceparent import parse, sampled

_CLIENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


class Hands:
    """A clock set by hand."""

    at = 100.0

    def now(self):
        return self.at


def _made(ratio=1.0):
    clock, spans = Hands(), []
    sampler = Sampler(ratio, follow=True, traces_per_s=1e6, random=lambda: 0.5)
    log = SpanLog(clock, sampler, wall_ns=lambda: 1_000_000_000_000)
    log.use(spans.append)
    return clock, log, spans


def test_spans_have_the_engines_times_and_their_parents():
    """The client's span is the remote parent; each child is below the one whose traceparent it was given."""
    clock, log, spans = _made()
    receive = log.receive(_CLIENT, 101.5, laneway__kind="X")
    clock.at = 103.0
    log.record("queue high", receive.traceparent, 102.0, 101.0, attributes={"laneway.lane": "high"})
    receive.event("told", n=1)
    receive.end("RATE_LIMITED", "slow down")
    receive.end()
    queue, span = spans
    assert (span.parent, span.remote, span.kind) == ("b" * 16, True, "server")
    assert (span.start, span.ended, span.code, span.message) == (101.5, 103.0, "RATE_LIMITED", "slow down")
    assert span.events == [("told", 103.0, {"n": 1})]
    assert (queue.start, queue.ended, queue.remote) == (102.0, 102.0, False)
    assert queue.parent == parse(span.traceparent).span_id
    assert parse(queue.traceparent).trace_id == parse(span.traceparent).trace_id == "a" * 32
    assert log.unix_ns(101.5) == 1_001_500_000_000


def test_the_decision_is_the_samplers():
    """What it does not want is not received; what it begins has a trace of its own."""
    assert _made(ratio=0.0)[1].receive("", 0.0) is None
    one, other = (_made()[1].receive("", 0.0).traceparent for _ in range(2))
    assert sampled(one)
    assert parse(one).trace_id != parse(other).trace_id


def test_what_has_ended_does_not_change():
    """It may be on its way already."""
    _, log, spans = _made()
    span = log.begin("x", _CLIENT)
    span.note(a=1)
    span.end()
    span.note(b=2)
    span.event("late")
    assert [(row.attributes, row.events) for row in spans] == [({"a": 1}, None)]


def test_nothing_is_recorded_before_use_and_after_stop_and_under_no_trace():
    """Whoever asks gets a span that does nothing."""
    _, log, spans = _made()
    assert log.begin("x", "").traceparent == ""
    assert log.begin("x", "rubbish").traceparent == ""
    going_on = log.begin("x", _CLIENT)
    log.stop()
    going_on.end()
    assert log.receive(_CLIENT, 0.0) is None
    log.begin("late", _CLIENT).end()
    assert spans == []
