"""One trace per sampled event, through every stage: names, kinds, parents, codes; nothing for the others."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from laneway import Config, Engine
from laneway.engine.models.scripted import ScriptedModel
from laneway.routing.errors import LanewayError, ToolError, ToolUnavailable

Rows = list[tuple[str, str, str]]


class Watch(SpanProcessor):
    """Counts what began and what ended."""

    def __init__(self) -> None:
        self.begun = self.ended = 0

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.begun += 1

    def on_end(self, span: ReadableSpan) -> None:
        self.ended += 1


class Traced:
    """An engine whose spans are kept."""

    def __init__(self, **telemetry: Any) -> None:
        self.kept = InMemorySpanExporter()
        self.watch = Watch()
        self.provider = provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(self.watch)
        provider.add_span_processor(SimpleSpanProcessor(self.kept))
        telemetry = {"sample_ratio": 1.0, "traces_per_s": 10_000, **telemetry}
        self.engine = Engine(Config.model_validate({"telemetry": telemetry}), tracer_provider=provider)

    @property
    def spans(self) -> list[ReadableSpan]:
        return sorted(self.kept.get_finished_spans(), key=lambda span: (span.start_time or 0, span.name))

    def rows(self) -> Rows:
        """(name, kind, name of the parent) of every span, in order of their beginning."""
        names = {span.context.span_id: span.name for span in self.spans}
        return [
            (span.name, span.kind.name.lower(), names[span.parent.span_id] if span.parent else "")
            for span in self.spans
        ]

    def one(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def check_whole(self) -> None:
        """Every span that began has ended, and every parent is there and began before its children."""
        known = {span.context.span_id: span for span in self.spans}
        assert self.watch.begun == self.watch.ended == len(known)
        for span in self.spans:
            assert span.end_time is not None
            assert span.start_time is not None
            assert span.end_time >= span.start_time
            if span.parent is not None:
                above = known[span.parent.span_id]
                assert above.context.trace_id == span.context.trace_id
                assert (above.start_time or 0) <= span.start_time


@asynccontextmanager
async def _running(traced: Traced) -> AsyncIterator[Engine]:
    async with traced.engine as engine:
        yield engine


def _code(span: ReadableSpan) -> str:
    return str((span.attributes or {}).get("error.type", ""))


def halved(n: int) -> float:
    """Half of it."""
    return n / 2


async def shifted(n: int) -> int:
    """One more."""
    return n + 1


def test_run_that_calls_a_tool_is_one_tree() -> None:
    """From receive to the worker process that ran the tool, with one trace id."""
    traced = Traced()
    traced.engine.tools.add(halved)
    traced.engine.nlp.use(ScriptedModel())

    async def main() -> None:
        async with _running(traced) as engine, engine.session("s") as session:
            async for event in session.ask('call halved {"n": 4}'):
                assert event.kind != "RUN_ERROR", event.data

    asyncio.run(main())
    traced.check_whole()
    assert len({span.context.trace_id for span in traced.spans}) == 1
    rows = set(traced.rows())
    assert {
        ("receive", "server", ""),
        ("commit", "internal", "receive"),
        ("shape", "internal", "receive"),
        ("queue high", "internal", "receive"),
        ("route nlp", "internal", "receive"),
        ("handle nlp", "consumer", "receive"),
        ("model scripted", "client", "handle nlp"),
        ("shape", "internal", "model scripted"),
        ("queue high", "internal", "model scripted"),
        ("route tools", "internal", "model scripted"),
        ("handle tools", "consumer", "model scripted"),
        ("tool halved", "internal", "handle tools"),
        ("worker", "internal", "tool halved"),
        ("commit", "internal", "handle nlp"),
        ("deliver", "producer", "handle nlp"),
    } <= rows
    receive, handle, model = traced.one("receive"), traced.one("handle nlp"), traced.one("model scripted")
    tool, worker = traced.one("tool halved"), traced.one("worker")
    assert receive.attributes is not None
    assert receive.attributes["laneway.transport"] == "embedded"
    assert handle.attributes is not None
    assert handle.attributes["messaging.message.conversation_id"] == "s"
    assert handle.attributes["messaging.operation.type"] == "process"
    assert model.attributes is not None
    assert model.attributes["gen_ai.operation.name"] == "chat"
    assert float(str(model.attributes["gen_ai.response.time_to_first_chunk"])) > 0
    assert int(str(model.attributes["gen_ai.usage.output_tokens"])) > 0
    assert tool.attributes is not None
    assert tool.attributes["gen_ai.tool.name"] == "halved"
    assert worker.attributes is not None
    assert worker.attributes["process.pid"] != os.getpid()
    (deliver,) = [span for span in traced.spans if span.name == "deliver"]
    assert deliver.attributes is not None
    assert int(str(deliver.attributes["laneway.events"])) > 5
    assert float(str(deliver.attributes["laneway.first_event_s"])) >= 0
    commits = [dict(span.attributes or {}) for span in traced.spans if span.name == "commit"]
    assert [commit["laneway.direction"] for commit in commits] == ["in", "out"]
    assert commits[1]["laneway.run"] == deliver.attributes["laneway.run"] == handle.attributes["laneway.run"]
    for below, above in ((model, handle), (tool, traced.one("handle tools")), (worker, tool)):
        assert (below.end_time or 0) <= (above.end_time or 0), below.name


def test_what_is_not_sampled_leaves_nothing() -> None:
    """Not one span, and the handler sees no trace; the same run as when it is sampled."""

    async def run(ratio: float) -> tuple[int, list[str], tuple[list[str], str]]:
        traced, seen = Traced(sample_ratio=ratio), []
        traced.engine.tools.add(shifted)
        traced.engine.nlp.use(ScriptedModel())

        @traced.engine.pool("look", ["LOOK"])
        async def look(event: Any, context: Any) -> None:
            seen.append(context.trace)

        async with _running(traced) as engine, engine.session("s") as session:
            await session.send_event("LOOK")
            events = [event async for event in session.ask('call shifted {"n": 4}')]
        traced.check_whole()
        kinds = [event.kind for event in events if not event.text]
        return len(traced.spans), seen, (kinds, "".join(event.text for event in events))

    none, unseen, plain = asyncio.run(run(0.0))
    some, seen, traced = asyncio.run(run(1.0))
    assert (none, unseen) == (0, [""])
    assert some > 10
    assert seen[0].endswith(("-01", "-03"))
    assert plain == traced


def test_batch_is_handled_in_one_span_with_links() -> None:
    """Events that were sent together and handled together: a child of the first, linked to the rest."""
    traced, gate = Traced(), asyncio.Event()

    @traced.engine.pool("many", ["MANY"], batch=True, concurrency=1)
    async def many(events: Any, contexts: Any) -> None:
        await gate.wait()

    async def main() -> None:
        async with _running(traced) as engine, engine.session("s") as session:
            await asyncio.gather(*(session.send_event("MANY") for _ in range(4)))
            gate.set()

    asyncio.run(main())
    traced.check_whole()
    handles = [span for span in traced.spans if span.name == "handle many"]
    receives = {span.context.span_id for span in traced.spans if span.name == "receive"}
    covered = {span.parent.span_id for span in handles if span.parent} | {
        link.context.span_id for span in handles for link in span.links
    }
    assert covered == receives
    assert any(span.links for span in handles)
    assert len(handles) < 4


def test_every_ending_has_its_code_and_no_span_is_left_open() -> None:
    """A mixed run: handled, failed, crashed, cancelled while it ran and while it waited, expired, refused."""
    traced, began = Traced(), asyncio.Event()

    @traced.engine.pool("slow", ["SLOW"], concurrency=1)
    async def slow(event: Any, context: Any) -> None:
        began.set()
        await asyncio.sleep(60)

    @traced.engine.pool("bad", ["BAD", "TYPED"])
    async def bad(event: Any, context: Any) -> None:
        if event.kind == "TYPED":
            raise ToolError("no such thing")
        raise ValueError("a bug")

    async def main() -> None:
        async with _running(traced) as engine, engine.session("s", on_failure=lambda *_: None) as session:
            running = await session.send_event("SLOW")
            await began.wait()
            await session.send_event("SLOW", timeout_s=0.01)
            waiting = [await session.send_event("SLOW") for _ in range(4)]
            await session.send_event("CANCEL", entity=waiting[-1].id)
            await session.send_event("BAD")
            await session.send_event("TYPED")
            with pytest.raises(LanewayError):
                await session.send_event("RUN_STARTED")
            async with asyncio.timeout(60):
                await asyncio.sleep(0.02)  # past that event's deadline
                began.clear()
                await session.send_event("CANCEL", entity=running.id)
                await began.wait()  # by the next one that is not late

    asyncio.run(main())
    traced.check_whole()
    codes = {(span.name, _code(span)) for span in traced.spans}
    assert ("handle slow", "CANCELLED") in codes
    assert ("handle bad", "HANDLER_FAILED") in codes
    assert ("handle bad", "TOOL_FAILED") in codes
    assert ("receive", "PERMISSION_DENIED") in codes
    assert {("queue normal", "CANCELLED"), ("route slow", "CANCELLED")} & codes
    assert {("queue normal", "DEADLINE_EXCEEDED"), ("route slow", "DEADLINE_EXCEEDED")} & codes


class Panic(BaseException):
    """What native code raises when it breaks."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_handler_that_takes_its_worker_down_ends_its_span() -> None:
    """The span says so, and the next event is handled in a new one."""
    traced = Traced()

    @traced.engine.pool("mad", ["MAD", "SANE"], concurrency=1)
    async def mad(event: Any, context: Any) -> None:
        if event.kind == "MAD":
            raise Panic("broken")

    async def main() -> None:
        async with _running(traced) as engine, engine.session("s", on_failure=lambda *_: None) as session:
            await session.send_event("MAD")
            await session.send_event("SANE")

    asyncio.run(main())
    traced.check_whole()
    handles = [span for span in traced.spans if span.name == "handle mad"]
    assert [_code(span) for span in handles] == ["HANDLER_FAILED", ""]


_failures = 0


async def shaky() -> str:
    """Fails the first time."""
    global _failures
    _failures += 1
    if _failures == 1:
        raise ToolUnavailable("not yet")
    return "done"


def test_retries_of_a_tool_are_moments_of_its_span() -> None:
    """One span for the call, however often it is tried."""
    traced = Traced()
    traced.engine.tools.add(shaky, idempotent=True)
    traced.engine.nlp.use(ScriptedModel())

    async def main() -> None:
        async with _running(traced) as engine, engine.session("s") as session:
            async for _ in session.ask("call shaky {}"):
                pass

    asyncio.run(main())
    traced.check_whole()
    tool = traced.one("tool shaky")
    assert [event.name for event in tool.events] == ["start", "retry", "start"]
    assert _code(tool) == ""


def test_interrupted_run_ends_its_spans() -> None:
    """handle and model say CANCELLED; the interrupt has a receive span of its own."""
    traced = Traced()
    traced.engine.nlp.use(_endless)

    async def main() -> None:
        async with _running(traced) as engine, engine.session("s") as session:
            async for event in session.ask("go"):
                if event.kind == "TEXT_MESSAGE_CONTENT":
                    await session.interrupt(event.run)

    asyncio.run(main())
    traced.check_whole()
    assert _code(traced.one("handle nlp")) == "CANCELLED"
    assert _code(traced.one("model _endless")) == "CANCELLED"


async def _endless(run: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
    yield {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
    while True:
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "on "}
        await asyncio.sleep(0.01)


def test_waiting_for_another_event_is_told_by_shape_and_not_by_queue() -> None:
    """An event that names another is shaped until that one is over; a large text says how it was cut."""
    traced, gate = Traced(), asyncio.Event()
    traced.engine.nlp.use(_short)

    @traced.engine.pool("first", ["FIRST"])
    async def first(event: Any, context: Any) -> None:
        await gate.wait()

    @traced.engine.pool("second", ["SECOND"])
    async def second(event: Any, context: Any) -> None: ...

    async def main() -> None:
        async with _running(traced) as engine, engine.session("s") as session:
            before = await session.send_event("FIRST")
            await session.send_event("SECOND", after=before.id)
            gate.set()
            async for _ in session.ask("x" * 40_000):
                pass

    asyncio.run(main())
    traced.check_whole()
    shapes = [dict(span.attributes or {}) for span in traced.spans if span.name == "shape"]
    assert [shape for shape in shapes if shape.get("laneway.after")] == [
        {"laneway.lane": "normal", "laneway.after": True}
    ]
    assert [shape["laneway.parts"] for shape in shapes if "laneway.parts" in shape] == [3]
    assert len([span for span in traced.spans if span.name.startswith("queue")]) == 3


async def _short(run: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
    yield {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
    yield {"type": "TEXT_MESSAGE_END", "messageId": "m"}


def test_what_the_application_sends_goes_on_with_its_span() -> None:
    """Below a span of the application there is a send span, and receive is its child; else receive is the root."""
    traced = Traced(sample_ratio=0.0)
    traced.engine.nlp.use(_short)

    async def main() -> None:
        async with _running(traced) as engine, engine.session("s") as session:
            await session.send_event("PUBLISH", entity="tenant")
            with traced.provider.get_tracer("app").start_as_current_span("application"):
                async for _ in session.ask("hello"):
                    pass

    asyncio.run(main())
    traced.check_whole()
    rows = traced.rows()
    assert rows[0] == ("application", "internal", "")
    assert {("send", "producer", "application"), ("receive", "server", "send")} <= set(rows)
    assert len({span.context.trace_id for span in traced.spans}) == 1
