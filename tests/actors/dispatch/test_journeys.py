"""A sampled event's way to its handler is told whole, and the stage where it ended carries the cause."""

from __future__ import annotations

from laneway.actors.dispatch.journeys import Journeys, parts_in
from laneway.actors.endings import cancelled, expired
from laneway.actors.ports import Outcome
from laneway.routing.classify import KindTable
from laneway.routing.dispatch import DispatchPolicy
from laneway.routing.errors import RateLimited
from laneway.routing.lanes import Lane
from tests.actors.recording import TRACE, KeptTracer


class Hands:
    """A clock set by hand."""

    def __init__(self):
        self.at = 0.0

    def now(self):
        return self.at


def _made(**options):
    clock = Hands()
    tracer = KeptTracer(clock)
    return clock, tracer, Journeys(tracer, clock, **options)


def test_stages_follow_each_other_without_a_gap(rig):
    """shape ends with the decision, queue begins in the queues, route ends where handle begins."""
    clock, tracer, journeys = _made()
    env = rig.event(1, trace=TRACE, run="r")
    clock.at = 1.0
    journeys.admitted(env, Lane.NORMAL, 0.5)
    clock.at = 2.0
    journeys.enqueued(env, "p")
    clock.at = 5.0
    journeys.taken(env, "p")
    clock.at = 6.0
    span = journeys.handled("p", "p/0", [env])
    clock.at = 8.0
    span.end()
    journeys.ended(env, Outcome("handled"))
    rows = [(s.name, s.kind, s.start, s.end_at) for s in tracer.spans]
    assert rows == [
        ("shape", "internal", 0.5, 1.0),
        ("queue normal", "internal", 2.0, 5.0),
        ("route p", "internal", 5.0, 6.0),
        ("handle p", "consumer", 6.0, 8.0),
    ]
    assert {s.parent for s in tracer.spans} == {TRACE}
    handle = tracer.named("handle")[0].attributes
    assert (handle["messaging.message.id"], handle["laneway.run"], handle["laneway.cell"]) == ("client:1", "r", "p/0")
    assert len(journeys) == 0


def test_an_event_that_is_sent_elsewhere_is_handled_there(rig):
    """route ends with its departure; if its host is lost it queues again, and is sent anew."""
    clock, tracer, journeys = _made()
    env = rig.event(1, trace=TRACE)
    journeys.admitted(env, Lane.NORMAL, 0.0)
    journeys.enqueued(env, "p")
    for departure in (1.0, 5.0):
        clock.at = departure
        journeys.taken(env, "p")
        clock.at = departure + 1.0
        journeys.sent("p", env, "c@h")
        clock.at = departure + 2.0
        journeys.returned(env)
    clock.at = 9.0
    journeys.ended(env, cancelled())
    assert tracer.named("route")[0].attributes["laneway.cell"] == "c@h"
    assert [(s.name, s.start, s.end_at, s.code) for s in tracer.spans[1:]] == [
        ("queue normal", 0.0, 1.0, ""),
        ("route p", 1.0, 2.0, ""),
        ("queue normal", 3.0, 5.0, ""),
        ("route p", 5.0, 6.0, ""),
        ("queue normal", 7.0, 9.0, "CANCELLED"),
    ]


def test_demotion_parking_and_parts_are_told_by_shape(rig):
    """shape lasts until the event is queued, and says which lane was asked for and into what it was cut."""
    clock, tracer, journeys = _made(parts=lambda _: 3)
    env = rig.event(1, trace=TRACE, lane=Lane.HIGH)
    journeys.admitted(env, Lane.CRITICAL, 0.0)
    journeys.enqueued(env, "")
    clock.at = 4.0
    journeys.resumed([env])
    shape = tracer.spans[0]
    assert (shape.start, shape.end_at) == (0.0, 4.0)
    assert shape.attributes == {
        "laneway.lane": "high",
        "laneway.lane_asked": "critical",
        "laneway.demoted": True,
        "laneway.after": True,
        "laneway.parts": 3,
    }


def test_whatever_ends_an_event_ends_the_stage_it_was_at(rig):
    """Refused, cancelled before it was queued, expired in the queue, cancelled on the way: never an open span."""
    _, tracer, journeys = _made()
    refused, early, late, staged, back = (rig.event(n, trace=TRACE) for n in range(1, 6))
    journeys.refused(refused, 0.0, RateLimited("slow down"))
    for env in (early, late, staged, back):
        journeys.admitted(env, env[7], 0.0)
    journeys.ended(early, cancelled())
    journeys.released(back)
    for env in (late, staged):
        journeys.enqueued(env, "p")
    journeys.ended(late, expired())
    journeys.taken(staged, "p")
    journeys.ended(staged, cancelled())
    journeys.ended(staged, cancelled())
    assert tracer.told == [
        ("shape", "RATE_LIMITED"),
        ("shape", "CANCELLED"),
        ("shape", ""),
        ("shape", ""),
        ("shape", ""),
        ("queue normal", "DEADLINE_EXCEEDED"),
        ("queue normal", ""),
        ("route p", "CANCELLED"),
    ]
    assert len(journeys) == 0


def test_event_taken_as_soon_as_it_may_go_on_is_queued_for_no_time(rig):
    """Whichever is told first, that it went on or that it was taken: one shape, one queue."""
    clock, tracer, journeys = _made()
    env = rig.event(1, trace=TRACE)
    journeys.admitted(env, env[7], 0.0)
    journeys.enqueued(env, "")
    clock.at = 2.0
    journeys.taken(env, "p")
    journeys.resumed([env])
    assert [(s.name, s.start, s.end_at) for s in tracer.spans] == [("shape", 0.0, 2.0), ("queue normal", 2.0, 2.0)]


def test_batch_is_one_span_with_links(rig):
    """Below the first sampled member, linked to the other sampled ones, and it says how many it holds."""
    _, tracer, journeys = _made()
    other = TRACE.replace("a", "c")
    span = journeys.handled("p", "p/0", [rig.event(1), rig.event(2, trace=TRACE), rig.event(3, trace=other)])
    span.end()
    handle = tracer.spans[0]
    assert (handle.parent, handle.links) == (TRACE, [other])
    assert handle.attributes["messaging.batch.message_count"] == 3


def test_without_a_tracer_nothing_is_kept(rig):
    """An event that only carries its client's traceparent costs no memory here."""
    journeys = Journeys(None, Hands())
    env = rig.event(1, trace=TRACE)
    journeys.admitted(env, env[7], 0.0)
    journeys.enqueued(env, "p")
    journeys.taken(env, "p")
    assert journeys.handled("p", "p/0", [env]).traceparent == ""
    journeys.ended(env, Outcome("handled"))
    assert len(journeys) == 0


def test_parts_are_counted_as_the_dispatcher_cuts(rig):
    """Large text is cut, whatever else is large is not."""
    parts = parts_in(DispatchPolicy(part_bytes=1_000), KindTable())
    assert parts(rig.event(1, kind="USER_MESSAGE", body=b"x" * 2_500)) == 3
    assert parts(rig.event(2, kind="USER_MESSAGE", body=b"x" * 1_000)) == 1
    assert parts(rig.event(3, kind="DOC_SYNC", body=b"x" * 2_500)) == 1
