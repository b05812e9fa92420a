"""What each level of overload does in an engine, and what passes at every one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgpack
import pytest

from laneway import Engine
from laneway.actors.nlp import vocabulary as v
from laneway.actors.ports import Context, Out
from laneway.engine.app.embedded import EmbeddedSession
from laneway.engine.delivery import Event
from laneway.routing.classify import IN, Kind
from laneway.routing.errors import Overloaded
from laneway.routing.lanes import Lane

WITHIN_S = 60.0
LEVELS = range(4)
_KINDS = (
    Kind("MOVE", Lane.LOW, durable=False, droppable=True, direction=IN),
    Kind("STOP_ALL", Lane.CRITICAL, direction=IN),
    Kind("WORK", Lane.NORMAL, direction=IN),
)


class Gated:
    """A model that says one word, waits to be told, and then ends, or fails, after a tool call if asked."""

    provider, name = "tests", "gated"

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.fails = False
        self.calls = False

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        yield v.text_start("m")
        yield v.text("m", "one")
        await self.go.wait()
        if self.fails:
            raise RuntimeError("no more")
        if self.calls:
            result = await context.call_tool("double", {"n": 4})
            yield v.text("m", f" {result.content}")
        yield v.text_end("m")


def _engine(seen: asyncio.Queue[str] | None = None) -> Engine:
    engine = Engine(kinds=_KINDS)

    async def note(event: Event, context: Context) -> None:
        if seen is not None:
            seen.put_nowait(event.kind)

    engine.pool("notes", [kind.name for kind in _KINDS], note)
    return engine


async def _next(session: EmbeddedSession, *kinds: str) -> Event:
    async for event in session:
        if event.kind in kinds:
            return event
    raise AssertionError("the session ended")


async def _refused(what: Any) -> Overloaded:
    with pytest.raises(Overloaded) as caught:
        await what
    return caught.value


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("how", ["interrupt", "cancel", "error", "critical"])
def test_what_stops_a_run_passes_at_every_level(level: int, how: str) -> None:
    """An interrupt, a cancel of the event that began it, an error of its model; and critical kinds of one's own."""

    async def main() -> None:
        seen: asyncio.Queue[str] = asyncio.Queue()
        model = Gated()
        async with asyncio.timeout(WITHIN_S), _engine(seen) as engine:
            engine.nlp.use(model)
            async with engine.session("s") as session:
                receipt = await session.send("begin")
                await _next(session, "TEXT_MESSAGE_CONTENT")
                engine.overload.hold(level)
                if how == "interrupt":
                    await session.interrupt()
                elif how == "cancel":
                    await session.send_event("CANCEL", entity=receipt.id)
                elif how == "error":
                    model.fails = True
                    model.go.set()
                else:
                    await session.send_event("STOP_ALL")
                    assert await seen.get() == "STOP_ALL"
                    model.go.set()
                ended = await _next(session, "RUN_FINISHED", "RUN_ERROR")
            if how in ("interrupt", "cancel"):
                assert ended.data["outcome"] == {"type": "cancelled"}
            elif how == "error":
                assert ended.data["code"] == "HANDLER_FAILED"

    asyncio.run(main())


@pytest.mark.parametrize("level", LEVELS)
def test_what_runs_goes_on_at_every_level(level: int) -> None:
    """To its end, tool calls and all; its client resumes, and its session is not new."""

    async def main() -> None:
        model = Gated()
        model.calls = True
        async with asyncio.timeout(WITHIN_S), _engine() as engine:
            engine.nlp.use(model)

            @engine.tools.add
            async def double(n: int) -> int:
                return 2 * n

            async with engine.session("s") as session:
                await session.send("begin")
                await _next(session, "TEXT_MESSAGE_CONTENT")
                engine.overload.hold(level)
                async with engine.session("s", user="ann") as other:
                    model.go.set()
                    assert (await _next(other, "RUN_FINISHED")).kind == "RUN_FINISHED"
                assert "one 8" in str(engine.directory.messages("default", "s"))

    asyncio.run(main())


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_refused_at_which_level(level: int) -> None:
    """Low events from 1 on, new sessions from 2 on, new runs at 3: OVERLOADED with a second to wait per level."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), _engine() as engine:
            model = Gated()
            model.go.set()
            engine.nlp.use(model)
            async with engine.session("s") as session:
                await session.send_event("WORK")
                engine.overload.hold(level)
                await session.send_event("WORK")
                attempts = {1: session.send_event("MOVE"), 2: _enter(engine, "new"), 3: session.send("a run")}
                for begins, attempt in attempts.items():
                    if level < begins:
                        await attempt
                        continue
                    error = await _refused(attempt)
                    assert (error.reason, error.retry_after_ms) == (f"LEVEL_{level}", 1000 * level)
                engine.overload.hold(0)
                await session.send_event("MOVE")
                await session.send("a run")
                await _enter(engine, "new")
            refused = engine.metrics().partition('laneway_events_refused_total{code="OVERLOADED"} ')[2]
            assert int(refused.split()[0]) == {0: 0, 1: 1, 2: 1, 3: 2}[level]  # a link is no event

    asyncio.run(main())


async def _enter(engine: Engine, name: str) -> None:
    async with engine.session(name) as session:
        await session.send_event("WORK")


class Chatty:
    """A model that tells all it does."""

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        yield v.mark("STEP_STARTED", {"stepName": "think"})
        for out in v.reasoning_start("r"):
            yield out
        yield v.reasoning("r", "hm")
        for out in v.reasoning_end("r"):
            yield out
        yield v.mark("ACTIVITY_SNAPSHOT", {"messageId": "a", "activityType": "x", "content": {}}, "a")
        yield Out("PROGRESS", msgpack.packb({"done": 1}))
        yield v.mark("STATE_SNAPSHOT", {"snapshot": 1})
        yield v.mark("STEP_FINISHED", {"stepName": "think"})
        yield v.text_start("m")
        yield v.text("m", "done")
        yield v.text_end("m")


_DETAIL = {"STEP_STARTED", "STEP_FINISHED", "REASONING_START", "REASONING_MESSAGE_START", "REASONING_MESSAGE_CONTENT"}
_DETAIL |= {"REASONING_MESSAGE_END", "REASONING_END", "ACTIVITY_SNAPSHOT"}


@pytest.mark.parametrize("level", [0, 1, 2])
def test_what_is_left_out_at_which_level_and_that_it_is_counted(level: int) -> None:
    """Progress from 1 on, step detail from 2 on; text, states and the run's marks are there, and no seq is missing."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), _engine() as engine:
            engine.nlp.use(Chatty())
            async with engine.session("s") as session:
                await session.send_event("WORK")
                engine.overload.hold(level)
                events = [event async for event in session.ask("tell")]
            kinds = {event.kind for event in events}
            assert {"RUN_STARTED", "STATE_SNAPSHOT", "TEXT_MESSAGE_CONTENT", "RUN_FINISHED"} <= kinds
            assert "GAP" not in kinds
            assert ("PROGRESS" in kinds) == (level == 0)
            assert kinds & _DETAIL == (set() if level == 2 else _DETAIL)
            metrics = engine.metrics()
            for kind in ("PROGRESS", *_DETAIL):
                dropped = int(kind == "PROGRESS" and level > 0) or int(kind != "PROGRESS" and level == 2)
                assert f'laneway_overload_dropped_events_total{{kind="{kind}"}} {dropped}\n' in metrics

    asyncio.run(main())


def test_a_cheaper_model_answers_at_level_2_and_the_run_says_so() -> None:
    """And the usual one again when the level is lower."""

    async def main() -> None:
        usual, cheap = Gated(), Gated()
        usual.go.set()
        cheap.go.set()
        cheap.name = "cheap"
        async with asyncio.timeout(WITHIN_S), _engine() as engine:
            engine.nlp.use(usual, degraded=cheap)
            async with engine.session("s") as session:
                told = []
                for level in (0, 2, 1):
                    engine.overload.hold(level)
                    events = [event async for event in session.ask("tell")]
                    told.append(events[0].data.get("metadata"))
            assert told == [None, {"model": "cheap", "degraded": True}, None]

    asyncio.run(main())
