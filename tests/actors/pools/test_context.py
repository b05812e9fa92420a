"""A context speaks for one open event: it emits in its name and calls tools as AG-UI tells it."""

from __future__ import annotations

import asyncio
import json

import msgpack
import pytest

from laneway.actors.pools.context import ContextMaker, LateEmits, Surroundings
from laneway.actors.ports import Out, Outcome, Principal, ToolSpec
from laneway.routing.classify import KindTable
from laneway.routing.envelope import LANE, EnvelopeView
from laneway.routing.envelope import TRACE as TRACE_FIELD
from laneway.routing.errors import LocalProtocolError
from laneway.routing.lanes import Lane
from tests.actors.recording import TRACE, KeptTracer


class Desk:
    """An outlet and a tools pool that keep what they get."""

    def __init__(self, outcome=None):
        self.emitted, self.asked = [], []
        self.outcome = outcome or Outcome("handled", msgpack.packb({"content": "21", "code": "", "retryable": False}))

    async def emit(self, env):
        self.emitted.append(EnvelopeView(env))

    async def emit_all(self, envs):
        self.emitted.extend(map(EnvelopeView, envs))

    async def ask(self, env, timeout_s):
        self.asked.append((EnvelopeView(env), timeout_s))
        return self.outcome

    def now(self):
        return 100.0


def _context(rig, desk, env=None, **surroundings):
    numbers = iter(range(1, 100))
    around = Surroundings(desk, desk, KindTable(), lambda: "fresh", **surroundings)
    maker = ContextMaker("p", around, desk.ask, lambda: next(numbers), LateEmits("p", rig.Probe()))
    env = env or rig.event(1, run="r1", trace="00-a-b-01", deadline=130.0)
    return maker(env, env[TRACE_FIELD]), maker


def test_emit_speaks_for_the_run(rig):
    """Tenant, session, run and trace are the event's; the lane is the kind's; ids are unique."""
    desk = Desk()
    context, _ = _context(rig, desk)

    async def main():
        await context.emit(Out("TEXT_MESSAGE_CONTENT", b"hi", "m1"))
        await context.emit(Out("RUN_ERROR"))

    asyncio.run(main())
    first, second = desk.emitted
    assert (first.id, second.id) == ("engine/r1:1", "engine/r1:2")
    assert (first.tenant, first.session, first.run, first.trace, first.entity) == ("t", "s", "r1", "00-a-b-01", "m1")
    assert (first.lane, second.lane) == (Lane.NORMAL, Lane.CRITICAL)
    assert {type(event.raw[LANE]) for event in (first, second)} == {int}, (
        "what is kept long costs no garbage collection"
    )


def test_emit_all_is_emit_for_each_or_for_none(rig):
    """In order, as one hand-over; nothing goes out if one kind is unknown; after the answer all are counted."""
    desk = Desk()
    context, maker = _context(rig, desk)

    async def main():
        await context.emit_all((Out("LOG", b"1", "a"), Out("RUN_ERROR")))
        await context.emit_all(())
        with pytest.raises(LocalProtocolError, match="never declared"):
            await context.emit_all((Out("LOG"), Out("NOBODY_KNOWS")))
        context.end()
        await context.emit_all((Out("LOG"), Out("LOG")))

    asyncio.run(main())
    assert [(each.kind, each.id, each.lane) for each in desk.emitted] == [
        ("LOG", "engine/r1:1", desk.emitted[0].lane),
        ("RUN_ERROR", "engine/r1:2", Lane.CRITICAL),
    ]
    assert maker.late.count == 2


def test_outside_a_run_the_pool_is_the_producer(rig):
    """So that two pools of one session never share an id."""
    desk = Desk()
    context, _ = _context(rig, desk, rig.event(1))
    asyncio.run(context.emit(Out("LOG")))
    assert desk.emitted[0].id == "engine/p:1"


def test_an_undeclared_kind_is_a_bug(rig):
    """The message says what to do."""
    context, _ = _context(rig, Desk())
    with pytest.raises(LocalProtocolError, match="never declared"):
        asyncio.run(context.emit(Out("MINE")))


def test_after_the_answer_everything_is_discarded(rig):
    """Late events are counted, not sent; no tool is started."""
    desk = Desk()
    context, maker = _context(rig, desk)
    context.end()

    async def main():
        await context.emit(Out("LOG"))
        return await context.call_tool("double", {})

    assert asyncio.run(main()).code == "CANCELLED"
    assert (desk.emitted, desk.asked, maker.late.count) == ([], [], 1)


def test_a_tool_call_is_told_and_asked(rig):
    """START, ARGS, END, the call through the dispatcher, RESULT; the answer goes to the caller."""
    desk = Desk()
    context, _ = _context(rig, desk)
    result = asyncio.run(context.call_tool("double", {"x": 10.5, "ü": [None]}, "c1", "m1"))
    assert (result.call_id, result.content, result.ok) == ("c1", "21", True)
    start, args, end, told = desk.emitted
    assert [view.kind for view in desk.emitted] == [
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "TOOL_CALL_RESULT",
    ]
    assert {view.entity for view in desk.emitted} == {"c1"}
    assert msgpack.unpackb(start.body) == {"toolCallId": "c1", "toolCallName": "double", "parentMessageId": "m1"}
    assert json.loads(args.body) == {"x": 10.5, "ü": [None]}
    assert msgpack.unpackb(end.body) == {"toolCallId": "c1"}
    assert msgpack.unpackb(told.body) == {
        "messageId": "c1-result",
        "toolCallId": "c1",
        "content": "21",
        "role": "tool",
    }
    call, timeout_s = desk.asked[0]
    assert (call.kind, call.entity, call.run, call.deadline, timeout_s) == ("TOOL_CALL", "c1", "r1", 130.0, 30.0)
    assert call.id.startswith("engine/")
    assert msgpack.unpackb(call.body) == {"name": "double", "arguments": {"x": 10.5, "ü": [None]}, "call_id": "c1"}


def test_a_tool_call_is_never_more_urgent_than_its_cause(rig):
    """A low event's call is low; without a deadline of its own it gets the engine's."""
    desk = Desk()
    context, _ = _context(rig, desk, rig.event(1, lane=Lane.LOW), tool_timeout_s=7.0)
    asyncio.run(context.call_tool("double", {}))
    call, timeout_s = desk.asked[0]
    assert (call.lane, call.entity, timeout_s) == (Lane.LOW, "fresh", 7.0)


def test_a_failed_tool_is_a_result(rig):
    """The code is the outcome's, and the model reads it as JSON."""
    desk = Desk(Outcome("expired", code="DEADLINE_EXCEEDED", message="too late", retryable=True))
    context, _ = _context(rig, desk)
    result = asyncio.run(context.call_tool("double", {}))
    assert (result.code, result.retryable) == ("DEADLINE_EXCEEDED", True)
    assert json.loads(result.content)["error"]["message"] == "too late"
    assert desk.emitted[-1].kind == "TOOL_CALL_RESULT"


def test_a_users_own_tools_pool_may_answer_with_text(rig):
    """Bytes that are no packed answer are the content."""
    context, _ = _context(rig, Desk(Outcome("handled", b'{"t": 21}')))
    assert asyncio.run(context.call_tool("double", {})).content == '{"t": 21}'


@pytest.mark.parametrize("value", [object(), float("nan"), 2**70, {1, 2}], ids=["object", "nan", "huge", "set"])
def test_arguments_that_are_no_json_are_refused_before_anything_is_told(rig, value):
    """INVALID_ARGUMENT, and no half-told call."""
    desk = Desk()
    context, _ = _context(rig, desk)
    result = asyncio.run(context.call_tool("double", {"x": value}))
    assert result.code == "INVALID_ARGUMENT"
    assert desk.emitted == []


def test_a_cancelled_event_starts_no_tool(rig):
    """It may still emit its last words."""
    desk = Desk()
    context, _ = _context(rig, desk)
    context.cancel()

    async def main():
        result = await context.call_tool("double", {})
        await context.emit(Out("LOG"))
        return result

    assert asyncio.run(main()).code == "CANCELLED"
    assert context.cancelled
    assert [view.kind for view in desk.emitted] == ["LOG"]


def test_who_asks_and_what_they_may_call(rig):
    """The principal is looked up once; without a lookup it is nobody of the tenant."""
    row = ToolSpec("double", "", {})
    known, _ = _context(
        rig, Desk(), principal=lambda env: Principal("ann", env[3]), tools=lambda who: [row] if who.subject else []
    )
    assert known.principal is known.principal
    assert (known.principal.subject, known.tools()) == ("ann", [row])
    unknown, _ = _context(rig, Desk())
    assert (unknown.principal, unknown.tools()) == (Principal("", "t"), ())
    assert (unknown.tenant, unknown.session, unknown.run, unknown.deadline) == ("t", "s", "r1", 130.0)


def test_steps_are_spans_of_the_events_trace(rig):
    """Inside a block events belong to its span; what was timed elsewhere is told below it; errors mark it."""
    desk = Desk()
    tracer = KeptTracer(desk)
    context, _ = _context(rig, desk, rig.event(1, run="r1", trace=TRACE), tracer=tracer)

    def broken():
        with context.span("inner"):
            context.record("elsewhere", 98.0, 99.0, process__pid=7)
            raise ValueError("no")

    async def main():
        with context.span("outer", "client", laneway__step=1) as outer:
            await context.emit(Out("LOG"))
            with pytest.raises(ValueError, match="no"):
                broken()
            assert context.trace == outer.traceparent
        assert context.trace == TRACE

    asyncio.run(main())
    outer, inner, elsewhere = tracer.spans
    assert tracer.told == [("outer", ""), ("inner", "ValueError"), ("elsewhere", "")]
    assert (outer.parent, inner.parent, elsewhere.parent) == (TRACE, outer.traceparent, inner.traceparent)
    assert (outer.kind, outer.attributes) == ("client", {"laneway.step": 1})
    assert (elsewhere.start, elsewhere.end_at, elsewhere.attributes) == (98.0, 99.0, {"process.pid": 7})
    assert desk.emitted[0].trace == outer.traceparent


def test_steps_of_an_event_that_is_not_sampled_reach_no_tracer(rig):
    """The block runs, and nobody is asked."""
    desk = Desk()
    tracer = KeptTracer(desk)
    context, _ = _context(rig, desk, rig.event(1), tracer=tracer)
    with context.span("outer") as span:
        context.record("elsewhere", 98.0, 99.0)
        assert span.traceparent == ""
    assert tracer.spans == []


def test_a_delta_that_the_session_gathers_is_not_emitted(rig):
    """The outlet takes it into what it holds; once the event is answered it is discarded like any other."""

    class Gathering(Desk):
        def gathering(self, tenant, session, run, kind, entity):
            self.asked.append((tenant, session, run, kind, entity))
            return lambda body: body == b"gathered"

    async def main():
        desk = Gathering()
        context, maker = _context(rig, desk)
        await context.emit(Out("TEXT_MESSAGE_CONTENT", b"emitted", "m"))
        await context.emit(Out("TEXT_MESSAGE_CONTENT", b"gathered", "m"))
        assert [event.body for event in desk.emitted] == [b"emitted"]
        assert desk.asked[1] == (
            context.tenant,
            context.session,
            context.run,
            "TEXT_MESSAGE_CONTENT",
            "m",
        )
        add = context.gathering("TEXT_MESSAGE_CONTENT", "m")
        assert add is not None
        assert add(b"gathered")
        context.end()
        await context.emit(Out("TEXT_MESSAGE_CONTENT", b"gathered", "m"))
        assert context.gathering("TEXT_MESSAGE_CONTENT", "m") is None
        assert (len(desk.asked), maker.late.count) == (3, 1)

    asyncio.run(main())


def test_a_maker_may_be_for_one_event_of_somebody_else(rig):
    """Its outlet and principal are then that event's own, whatever the surroundings have."""
    desk, theirs = Desk(), Desk()
    around = Surroundings(desk, desk, KindTable(), lambda: "fresh", principal=lambda env: Principal("nobody"))
    ada = Principal("ada", "t")
    made = {"outlet": theirs, "principal": ada}
    maker = ContextMaker("p", around, desk.ask, lambda: 1, LateEmits("p", rig.Probe()), **made)
    context = maker(rig.event(1), "")

    async def main():
        await context.emit(Out("LOG", b"1"))
        await context.emit_all([Out("LOG", b"2")])

    asyncio.run(main())
    assert (context.principal, len(theirs.emitted), desk.emitted) == (ada, 2, [])
