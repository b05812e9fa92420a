"""The receive span: begun once per event, ended by whatever the engine says to it."""

from __future__ import annotations

from laneway.actors.ports import Entry
from laneway.actors.sessions.arrivals import Arrivals
from laneway.routing.envelope import TRACE as TRACE_FIELD
from laneway.routing.errors import RateLimited
from tests.actors.recording import TRACE, KeptTracer


class Hands:
    """A clock set by hand."""

    def __init__(self):
        self.at = 0.0

    def now(self):
        return self.at


class Speaker:
    """Somebody on gRPC."""

    origin = {"laneway.transport": "grpc"}  # noqa: RUF012


def _made():
    clock = Hands()
    tracer = KeptTracer(clock)
    return clock, tracer, Arrivals(tracer, clock)


def test_event_carries_the_span_that_received_it(rig):
    """What follows is a child of receive, which is a child of what the client sent; commit is inside."""
    clock, tracer, arrivals = _made()
    env = arrivals.take(rig.event(1, trace=TRACE, body=b"1234"), 0.0, Speaker())
    clock.at = 2.0
    arrivals.written(env, [Entry(2, 1, 10, b"x" * 10)])
    arrivals.answered(env, "durable")
    receive, commit = tracer.spans
    assert (receive.parent, receive.traceparent, receive.kind) == (TRACE, env[TRACE_FIELD], "server")
    assert (commit.parent, commit.start, commit.end_at) == (env[TRACE_FIELD], 0.0, 2.0)
    assert commit.attributes == {"laneway.direction": "in", "laneway.events": 1, "laneway.bytes": 10}
    assert receive.attributes["laneway.transport"] == "grpc"
    assert receive.attributes["messaging.message.body.size"] == 4
    assert receive.attributes["laneway.grade"] == "durable"
    assert tracer.told == [("receive", ""), ("commit", "")]


def test_refusal_and_the_end_of_the_home_end_it_too(rig):
    """With their codes; nothing is left open."""
    _, tracer, arrivals = _made()
    refused = arrivals.take(rig.event(1, trace=TRACE), 0.0, Speaker())
    arrivals.take(rig.event(2, trace=TRACE), 0.0, Speaker())
    arrivals.refused(refused, RateLimited("slow down"))
    arrivals.abandon()
    assert tracer.told == [("receive", "RATE_LIMITED"), ("receive", "UNANSWERED")]
    assert len(arrivals) == 0


def test_what_is_not_sampled_loses_its_trace(rig):
    """One decision for the whole way: later stages see an empty trace and do nothing."""
    _, tracer, arrivals = _made()
    unrecorded = TRACE[:-2] + "00"
    assert arrivals.take(rig.event(1, trace=unrecorded), 0.0, Speaker())[TRACE_FIELD] == ""
    plain = rig.event(2)
    assert arrivals.take(plain, 0.0, Speaker()) is plain
    assert tracer.spans == []


def test_repeat_before_the_answer_is_not_a_second_arrival(rig):
    """The first span stays, and is ended once."""
    _, tracer, arrivals = _made()
    first = arrivals.take(rig.event(1, trace=TRACE), 0.0, Speaker())
    assert arrivals.take(rig.event(1, trace=TRACE), 0.0, Speaker())[TRACE_FIELD] == ""
    arrivals.answered(first, "durable")
    assert tracer.told == [("receive", "")]


def test_without_a_tracer_the_traceparent_is_kept_for_the_handler(rig):
    """An engine that traces nothing still hands on what the client sent."""
    arrivals = Arrivals(None, Hands())
    env = rig.event(1, trace=TRACE)
    assert arrivals.take(env, 0.0, Speaker()) is env
    arrivals.answered(env, "durable")
