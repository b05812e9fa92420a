"""The driver of runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any

import msgpack
import pytest

from laneway.actors.nlp import vocabulary as v
from laneway.actors.nlp.chosen import Chosen
from laneway.actors.nlp.runs import RunDriver
from laneway.actors.ports import Context, Out
from laneway.routing.envelope import SEAL, Envelope, envelope
from laneway.routing.errors import DeadlineExceeded, Drained, HandlerFailed, ModelFailed, PeerProtocolError
from laneway.routing.lanes import Lane
from tests.actors.conftest import RecordingProbe

Recording = Callable[..., Any]
Script = Callable[[Mapping[str, Any], Context], AsyncIterator[Out]]


class LoopClock:
    def now(self) -> float:
        return asyncio.get_running_loop().time()


class ScriptedStream:
    """A model made of one async generator function."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.closed = 0
        self.runs: list[Mapping[str, Any]] = []

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        self.runs.append(run)
        try:
            async for out in self._script(run, context):
                yield out
        finally:
            self.closed += 1


def message(text: str = "hi", counter: int = 1) -> Envelope:
    return envelope(
        "USER_MESSAGE",
        producer="client",
        counter=counter,
        tenant="acme",
        session="s1",
        run=f"r{counter}",
        lane=Lane.HIGH,
        body=text.encode(),
    )


async def _answer(run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
    for out in (v.text_start("m"), v.text("m", "Hello"), v.text("m", " you"), v.text_end("m")):
        yield out


async def _endless(run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
    yield v.mark("STEP_STARTED", {"stepName": "think"})
    yield v.text_start("m")
    while True:
        yield v.text("m", "word ")
        await asyncio.sleep(0)


async def _until(context: Any, kind: str) -> None:
    while kind not in context.kinds:
        context.emitted.clear()
        await context.emitted.wait()


async def _cancel_when(task: asyncio.Task[None], context: Any, kind: str) -> None:
    await _until(context, kind)
    context.cancelled = True
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_message_becomes_a_whole_run(recording: Recording) -> None:
    """RUN_STARTED, the model's events in order, RUN_FINISHED; the iterator is closed."""

    async def main() -> None:
        context, model = recording(), ScriptedStream(_answer)
        await RunDriver(model, clock=LoopClock())(message(), context)
        assert context.kinds == [
            "RUN_STARTED",
            "TEXT_MESSAGE_START",
            "TEXT_MESSAGE_CONTENT",
            "TEXT_MESSAGE_CONTENT",
            "TEXT_MESSAGE_END",
            "RUN_FINISHED",
        ]
        assert v.fields_of(context.outs[-1]) == {"threadId": "s1", "runId": "r1"}
        assert model.closed == 1
        assert model.runs[0]["messages"] == [{"id": "client:1", "role": "user", "content": "hi"}]

    asyncio.run(main())


def test_the_next_message_brings_what_was_said(recording: Recording) -> None:
    """A second message is given with the first turn before it, tool calls included."""

    async def script(run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        await context.call_tool("weather", {"city": "Rome"})
        async for out in _answer(run, context):
            yield out

    async def main() -> None:
        model = ScriptedStream(script)
        driver = RunDriver(model, clock=LoopClock())
        await driver(message("one", 1), recording())
        await driver(message("two", 2), recording())
        assert [(m["role"], m["content"]) for m in model.runs[1]["messages"]] == [
            ("user", "one"),
            ("assistant", ""),
            ("tool", '{"ok": true}'),
            ("assistant", "Hello you"),
            ("user", "two"),
        ]

    asyncio.run(main())


def test_a_given_history_is_used_without_the_current_message(recording: Recording) -> None:
    """A home's transcript may hold the new message already; it is not said twice."""

    async def main() -> None:
        earlier = [{"id": "x", "role": "user", "content": "a"}, {"id": "client:1", "role": "user", "content": "hi"}]
        model = ScriptedStream(_answer)
        await RunDriver(model, clock=LoopClock(), history=lambda tenant, session: earlier)(message(), recording())
        assert [m["id"] for m in model.runs[0]["messages"]] == ["x", "client:1"]

    asyncio.run(main())


def test_run_input_is_bound_to_its_envelope(recording: Recording) -> None:
    """Thread and run ids are the envelope's, whatever the body claims; unknown fields survive."""

    async def main() -> None:
        body = json.dumps({"threadId": "other", "runId": "x", "messages": [], "state": {"a": 1}}).encode()
        env = (*message()[:2], "RUN_INPUT", *message()[3:11], body, 0.0)
        model = ScriptedStream(_answer)
        await RunDriver(model, clock=LoopClock())(env, recording())
        assert model.runs[0] == {"threadId": "s1", "runId": "r1", "messages": [], "state": {"a": 1}}

    asyncio.run(main())


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": 3}', b"\xff", b"[" * 100_000])
def test_unusable_run_input_is_a_typed_run_error(recording: Recording, body: bytes) -> None:
    """The client gets RUN_ERROR MALFORMED and the model is never asked."""

    async def main() -> None:
        context, model = recording(), ScriptedStream(_answer)
        env = (*message()[:2], "RUN_INPUT", *message()[3:11], body, 0.0)
        with pytest.raises(PeerProtocolError):
            await RunDriver(model, clock=LoopClock())(env, context)
        assert context.kinds == ["RUN_ERROR"]
        assert v.fields_of(context.outs[0])["code"] == "MALFORMED"
        assert model.runs == []

    asyncio.run(main())


def test_the_models_own_marks_are_folded_into_the_runs(recording: Recording) -> None:
    """A framework's RUN_STARTED and RUN_FINISHED do not appear twice; its outcome and usage are kept."""

    async def script(run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        yield v.run_started("foreign", "foreign")
        yield v.run_finished("foreign", "foreign", outcome={"type": "success"}, usage=[{"totalTokens": 3}])
        yield v.text_start("never")

    async def main() -> None:
        context, model = recording(), ScriptedStream(script)
        await RunDriver(model, clock=LoopClock())(message(), context)
        assert context.kinds == ["RUN_STARTED", "RUN_FINISHED"]
        assert v.fields_of(context.outs[1]) == {
            "threadId": "s1",
            "runId": "r1",
            "outcome": {"type": "success"},
            "usage": [{"totalTokens": 3}],
        }
        assert model.closed == 1

    asyncio.run(main())


def test_what_the_model_left_open_is_closed(recording: Recording) -> None:
    """A model that forgets its ends still gives a legal run."""

    async def script(run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        yield v.mark("STEP_STARTED", {"stepName": "s"})
        yield v.mark("TEXT_MESSAGE_CHUNK", {"messageId": "m", "delta": "x"}, "m")

    async def main() -> None:
        context = recording()
        await RunDriver(ScriptedStream(script), clock=LoopClock())(message(), context)
        assert context.kinds[-3:] == ["TEXT_MESSAGE_END", "STEP_FINISHED", "RUN_FINISHED"]

    asyncio.run(main())


@pytest.mark.parametrize("raw", [False, True])
def test_raw_is_stripped_by_default(recording: Recording, raw: bool) -> None:
    """RAW events and rawEvent fields pass only when asked for."""

    async def script(run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        yield v.mark("RAW", {"event": {"big": 1}})
        yield v.mark("CUSTOM", {"name": "n", "value": 1, "rawEvent": {"big": 1}})

    async def main() -> None:
        context = recording()
        probe = RecordingProbe()
        await RunDriver(ScriptedStream(script), clock=LoopClock(), raw=raw, probe=probe)(message(), context)
        assert probe.counts.get("run.stripped", 0) == (0 if raw else 2)
        assert ("RAW" in context.kinds) is raw
        custom = next(out for out in context.outs if out.kind == "CUSTOM")
        assert ("rawEvent" in v.fields_of(custom)) is raw

    asyncio.run(main())


def test_cancel_closes_what_is_open_and_says_so(recording: Recording) -> None:
    """Interrupted in mid-text: END marks, then RUN_FINISHED cancelled, after the model has stopped."""

    async def main() -> None:
        context, model = recording(), ScriptedStream(_endless)
        task = asyncio.ensure_future(RunDriver(model, clock=LoopClock())(message(), context))
        await _cancel_when(task, context, "TEXT_MESSAGE_CONTENT")
        assert context.kinds[-3:] == ["TEXT_MESSAGE_END", "STEP_FINISHED", "RUN_FINISHED"]
        assert v.fields_of(context.outs[-1])["outcome"] == {"type": "cancelled"}
        assert model.closed == 1

    asyncio.run(main())


@pytest.mark.parametrize("held", ["RUN_STARTED", "STEP_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_END"])
def test_cancel_while_waiting_for_credit_never_closes_what_was_not_sent(recording: Recording, held: str) -> None:
    """An emit that was cancelled had no effect, so the end of the run matches what was really sent."""

    async def script(run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        yield v.mark("STEP_STARTED", {"stepName": "s"})
        async for out in _answer(run, context):
            yield out

    async def main() -> None:
        waiting = asyncio.Event()

        async def gate(out: Out) -> None:
            if out.kind == held and not waiting.is_set():
                waiting.set()
                await asyncio.Event().wait()

        context = recording(gate)
        task = asyncio.ensure_future(RunDriver(ScriptedStream(script), clock=LoopClock())(message(), context))
        await waiting.wait()
        context.cancelled = True
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        kinds = context.kinds
        assert kinds[0] == "RUN_STARTED"
        assert kinds[-1] == "RUN_FINISHED"
        assert kinds.count("STEP_STARTED") == kinds.count("STEP_FINISHED")
        assert kinds.count("TEXT_MESSAGE_START") == kinds.count("TEXT_MESSAGE_END")

    asyncio.run(main())


def test_cancel_of_a_client_without_credit_ends_by_run_error(recording: Recording) -> None:
    """If the closing events cannot get out in time, the critical RUN_ERROR ends the run."""

    async def main() -> None:
        stuck = asyncio.Event()

        async def gate(out: Out) -> None:
            if stuck.is_set() and out.kind != "RUN_ERROR":
                await asyncio.Event().wait()

        context = recording(gate)
        driver = RunDriver(ScriptedStream(_endless), clock=LoopClock(), close_s=0.05)
        task = asyncio.ensure_future(driver(message(), context))
        await _until(context, "TEXT_MESSAGE_CONTENT")
        stuck.set()
        context.cancelled = True
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # a second, impatient cancel does not break the ending
        with pytest.raises(asyncio.CancelledError):
            await task
        assert context.kinds[-1] == "RUN_ERROR"
        assert v.fields_of(context.outs[-1])["code"] == "CANCELLED"

    asyncio.run(main())


def test_a_model_that_swallows_the_cancel_is_left_at_its_next_event(recording: Recording) -> None:
    """A model that catches CancelledError and goes on does not keep the run."""

    async def script(run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        yield v.text_start("m")
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            yield v.text("m", "still here ")

    async def main() -> None:
        context = recording()
        task = asyncio.ensure_future(RunDriver(ScriptedStream(script), clock=LoopClock())(message(), context))
        await _cancel_when(task, context, "TEXT_MESSAGE_CONTENT")
        assert context.kinds[-2:] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]

    asyncio.run(main())


def test_a_stop_that_is_no_cancel_is_drained(recording: Recording) -> None:
    """A task ended by shutdown, not by the user, tells a retryable DRAINED."""

    async def main() -> None:
        context = recording()
        task = asyncio.ensure_future(RunDriver(ScriptedStream(_endless), clock=LoopClock())(message(), context))
        await _until(context, "TEXT_MESSAGE_CONTENT")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        fields = v.fields_of(context.outs[-1])
        assert (context.kinds[-1], fields["code"], fields["metadata"]["retryable"]) == ("RUN_ERROR", Drained.code, True)

    asyncio.run(main())


def _raising(error: Exception) -> Script:
    async def script(run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        yield v.text_start("m")
        raise error

    return script


@pytest.mark.parametrize(
    ("error", "raised", "code"),
    [
        (ModelFailed("endpoint gone"), ModelFailed, "MODEL_FAILED"),
        (KeyError("x"), HandlerFailed, "HANDLER_FAILED"),
    ],
)
def test_failure_is_one_run_error_and_nothing_after(
    recording: Recording, error: Exception, raised: type[Exception], code: str
) -> None:
    """RUN_ERROR carries code and message and is the last event; the cause is raised on."""

    async def main() -> None:
        context = recording()
        with pytest.raises(raised):
            await RunDriver(ScriptedStream(_raising(error)), clock=LoopClock())(message(), context)
        assert context.kinds == ["RUN_STARTED", "TEXT_MESSAGE_START", "RUN_ERROR"]
        assert v.fields_of(context.outs[-1])["code"] == code

    asyncio.run(main())


def test_a_broken_sequence_stops_the_run(recording: Recording) -> None:
    """A delta without a start never reaches the client; the run ends with MODEL_FAILED and the model stops."""

    async def script(run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        yield v.text("nowhere", "x")

    async def main() -> None:
        context, model = recording(), ScriptedStream(script)
        with pytest.raises(ModelFailed, match="not open"):
            await RunDriver(model, clock=LoopClock())(message(), context)
        assert context.kinds == ["RUN_STARTED", "RUN_ERROR"]
        assert v.fields_of(context.outs[-1])["metadata"]["reason"] == "SEQUENCE"
        assert model.closed == 1

    asyncio.run(main())


def test_the_deadline_ends_the_run(recording: Recording) -> None:
    """A run past its deadline ends with DEADLINE_EXCEEDED and the model is closed."""

    async def main() -> None:
        context = recording(deadline=asyncio.get_running_loop().time() + 0.02)
        model = ScriptedStream(_endless)
        with pytest.raises(DeadlineExceeded):
            await RunDriver(model, clock=LoopClock())(message(), context)
        assert v.fields_of(context.outs[-1])["code"] == "DEADLINE_EXCEEDED"
        assert model.closed == 1

    asyncio.run(main())


def test_a_stop_after_the_deadline_is_called_that(recording: Recording) -> None:
    """If the cell's watch is first to stop a late run, the client still hears DEADLINE_EXCEEDED."""

    class Jump:
        at = 0.0

        def now(self) -> float:
            return self.at

    async def main() -> None:
        context, clock = recording(deadline=500.0), Jump()
        task = asyncio.ensure_future(RunDriver(ScriptedStream(_endless), clock=clock)(message(), context))
        await _until(context, "TEXT_MESSAGE_CONTENT")
        clock.at = 1_000.0
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert v.fields_of(context.outs[-1])["code"] == "DEADLINE_EXCEEDED"

    asyncio.run(main())


def test_a_model_that_never_waits_lets_others_run(recording: Recording) -> None:
    """A cancel reaches it, although neither it nor the session ever pauses it."""

    async def never_waits(run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        yield v.text_start("m")
        while True:
            yield v.text("m", "word ")

    async def main() -> None:
        context = recording()
        task = asyncio.create_task(RunDriver(ScriptedStream(never_waits), clock=LoopClock())(message(), context))
        await _cancel_when(task, context, "TEXT_MESSAGE_CONTENT")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert context.kinds[-2:] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]
        assert len(context.outs) < 200

    asyncio.run(main())


def test_only_what_goes_on_where_the_last_delta_stopped_is_not_checked_again(recording: Recording) -> None:
    """The first delta, one after another event, of another entity, and a sealed one are held to the sequence."""

    async def main(*outs: Out) -> str:
        async def script(run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
            for out in (v.text_start("m"), v.text("m", "a"), v.text("m", "b"), *outs):
                yield out

        context = recording()
        with suppress(ModelFailed):
            await RunDriver(ScriptedStream(script), clock=LoopClock())(message(), context)
        return str(context.kinds[-1])

    sealed = Out("TEXT_MESSAGE_CONTENT", bytes([SEAL]) + msgpack.packb({"subagentRunId": "other"}), "m")
    assert asyncio.run(main(v.text("m", "c"))) == "RUN_FINISHED"
    assert asyncio.run(main(v.text_end("m"), v.text("m", "c"))) == "RUN_ERROR"
    assert asyncio.run(main(v.text("n", "c"))) == "RUN_ERROR"
    assert asyncio.run(main(v.reasoning("m", "c"))) == "RUN_ERROR"
    assert asyncio.run(main(sealed)) == "RUN_ERROR"


@pytest.mark.parametrize("room", [0, 1, 2, 100])
def test_gathered_deltas_come_in_order_with_those_that_are_not(recording: Recording, room: int) -> None:
    """Text goes to what waits for company as long as that takes it; what is sealed, and what is no text, never."""
    sealed = bytes([SEAL]) + msgpack.packb({"delta": "sealed"})

    async def script(run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        yield v.text_start("m")
        for word in ("a", "b", "ä", "日本", "c", "d"):
            yield v.text("m", word)
        yield Out("TEXT_MESSAGE_CONTENT", sealed, "m")
        yield v.text("m", "e")
        yield v.text("m", "f")
        yield Out("TEXT_MESSAGE_CONTENT", b"no text: \xff", "m")

    async def main() -> None:
        context = recording()
        told: list[bytes] = []
        left = [0]

        def add(body: bytes) -> bool:
            left[0] -= 1
            if left[0] < 0:
                return False
            told.append(body)
            return True

        def gathering(kind: str, entity: str) -> Callable[[bytes], bool]:
            assert (kind, entity) == ("TEXT_MESSAGE_CONTENT", "m")
            left[0] = room
            return add

        async def gate(out: Out) -> None:
            if out.kind == "TEXT_MESSAGE_CONTENT":
                told.append(out.body)

        context.gathering, context._gate = gathering, gate
        with pytest.raises(HandlerFailed, match="UnicodeDecodeError"):
            await RunDriver(ScriptedStream(script), clock=LoopClock(), history=lambda t, s: [])(message(), context)
        words = ["a", "b", "ä", "日本", "c", "d"]
        assert told == [*(word.encode() for word in words), sealed, b"e", b"f"]

    asyncio.run(main())


def test_a_run_says_so_if_another_model_stands_in(recording: Recording) -> None:
    """In RUN_STARTED's metadata, by the name of the one that answers; it is chosen once, before anything is told."""

    class Several(ScriptedStream):
        """Stands for another model while `busy`."""

        def __init__(self, other: ScriptedStream) -> None:
            super().__init__(_answer)
            self.other, self.busy = other, True

        def choose(self) -> Chosen:
            return Chosen(self.other, degraded=True) if self.busy else Chosen(self)

    async def main() -> None:
        cheap = ScriptedStream(_answer)
        cheap.name = "cheap-1"  # type: ignore[attr-defined]
        several = Several(cheap)
        driver = RunDriver(several, clock=LoopClock())
        context = recording()
        await driver(message(), context)
        assert v.fields_of(context.outs[0])["metadata"] == {"model": "cheap-1", "degraded": True}
        assert (len(cheap.runs), len(several.runs)) == (1, 0)
        several.busy = False
        context = recording()
        await driver(message(counter=2), context)
        assert "metadata" not in v.fields_of(context.outs[0])
        assert (len(cheap.runs), len(several.runs)) == (1, 1)

    asyncio.run(main())
