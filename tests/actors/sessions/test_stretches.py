"""What a run emits is told in one span per link and one for the store, whatever ends it."""

from __future__ import annotations

from laneway.actors.sessions.stretches import Stretches
from tests.actors.recording import TRACE, KeptTracer

OTHER = TRACE.replace("a", "c")


class Hands:
    """A clock set by hand."""

    def __init__(self):
        self.at = 0.0

    def now(self):
        return self.at


def _made():
    clock = Hands()
    tracer = KeptTracer(clock)
    return clock, tracer, Stretches(tracer, clock, "s")


def test_run_is_one_span_from_its_first_event_to_its_last(rig):
    """However many frames: how many events, bytes, frames, and when the first was out."""
    clock, tracer, stretches = _made()

    def event(counter, kind, body=b""):
        return rig.event(counter, kind=kind, trace=TRACE, run="r", body=body, accepted=clock.at)

    first = event(1, "RUN_STARTED")
    clock.at = 0.5
    stretches.delivered("link", {"messaging.client.id": "c"}, [[first, rig.event(9)], [event(2, "X", b"1234")]])
    clock.at = 3.0
    assert tracer.spans == []
    stretches.delivered("link", {"messaging.client.id": "c"}, [[event(3, "RUN_FINISHED")]])
    (span,) = tracer.spans
    assert (span.name, span.kind, span.parent, span.start, span.end_at) == ("deliver", "producer", TRACE, 0.0, 3.0)
    assert span.attributes == {
        "messaging.system": "laneway",
        "messaging.client.id": "c",
        "laneway.session": "s",
        "laneway.run": "r",
        "laneway.events": 3,
        "laneway.frames": 3,
        "laneway.bytes": 4,
        "laneway.first_event_s": 0.5,
    }
    assert len(stretches) == 0


def test_commit_tells_its_longest_wait_and_the_pause_for_credit(rig):
    """Groups of one run make one span, apart from what links make of it."""
    clock, tracer, stretches = _made()
    started = rig.event(1, kind="RUN_STARTED", trace=TRACE, run="r")
    stretches.paused(started, 2.0)
    stretches.added()
    clock.at = 1.0
    stretches.added()
    stretches.committed([started])
    clock.at = 4.0
    stretches.committed([rig.event(2, kind="RUN_ERROR", trace=TRACE, run="r")])
    (span,) = tracer.spans
    assert (span.name, span.start, span.end_at) == ("commit", 0.0, 4.0)
    told = {name: span.attributes[f"laneway.{name}"] for name in ("direction", "groups", "longest_wait_s", "paused_s")}
    assert told == {"direction": "out", "groups": 2, "longest_wait_s": 3.0, "paused_s": 2.0}


def test_links_and_traces_are_kept_apart(rig):
    """Two links read at their own pace; another trace of the same run is another span."""
    _, tracer, stretches = _made()
    text = rig.event(1, trace=TRACE, run="r")
    stretches.delivered("fast", {}, [[text, rig.event(2, trace=OTHER, run="r")]])
    stretches.delivered("slow", {}, [[text]])
    assert len(stretches) == 3
    stretches.leave("fast")
    assert {span.parent for span in tracer.spans} == {TRACE, OTHER}
    assert len(stretches) == 1
    stretches.close()
    assert len(tracer.spans) == 3


def test_event_of_no_run_is_told_at_once(rig):
    """A publication, a document: its own short span."""
    _, tracer, stretches = _made()
    stretches.delivered("link", {}, [[rig.event(1, trace=TRACE), rig.event(2, trace=TRACE)]])
    assert [span.attributes["laneway.events"] for span in tracer.spans] == [1, 1]
    assert len(stretches) == 0


def test_silence_and_number_end_what_no_last_event_does(rig):
    """A user's own kind has no end of run: after 10 s without news it is told; at most 1,024 are kept."""
    clock, tracer, stretches = _made()
    stretches.delivered("link", {}, [[rig.event(1, trace=TRACE, run="r")]])
    clock.at = 9.0
    stretches.sweep()
    assert tracer.spans == []
    clock.at = 10.0
    stretches.sweep()
    (span,) = tracer.spans
    assert span.end_at == 0.0
    for number in range(1_100):
        stretches.delivered("link", {}, [[rig.event(number + 2, trace=TRACE, run=f"r{number}")]])
    assert len(stretches) == 1_024
    assert len(tracer.spans) == 1 + 1_100 - 1_024


def test_call_made_by_a_client_ends_with_its_result(rig):
    """Its run is named like the call; a run's own tool result does not end the run."""
    _, tracer, stretches = _made()
    result = {"kind": "TOOL_CALL_RESULT", "trace": TRACE}
    stretches.added()
    stretches.committed([rig.event(1, run="r", entity="call", **result)])
    assert tracer.spans == []
    stretches.added()
    stretches.committed([rig.event(2, run="call", entity="call", **result)])
    assert len(tracer.spans) == 1
