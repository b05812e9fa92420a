"""Whole runs over pool hosts: what a person sees must be what one process would have shown."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgpack
import pytest

from laneway.actors.ports import Context, Out, ToolSpec
from laneway.engine.app.embedded import EmbeddedSession
from laneway.engine.delivery import Event
from laneway.routing.envelope import ENTITY, LANE, SESSION, Envelope
from tests.simulation.hosts import Cluster, SimFront, SimHost, cluster
from tests.simulation.loop import run

WINDOW_BYTES = 65_536


class Talker:
    """A model that says so many tokens, as fast as they are taken, and notes how it ended."""

    def __init__(self, tokens: int, pause_s: float = 0.0) -> None:
        self.tokens, self.pause_s = tokens, pause_s
        self.said = 0
        self.ended: list[str] = []
        self.heard: list[list[str]] = []

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        self.heard.append([message["content"] for message in run["messages"]])
        entity = f"m-{run['runId']}"
        try:
            yield Out("TEXT_MESSAGE_START", msgpack.packb({"messageId": entity, "role": "assistant"}), entity)
            for number in range(self.tokens):
                yield Out("TEXT_MESSAGE_CONTENT", b"%05d " % number, entity)
                self.said += 1
                if self.pause_s:
                    await asyncio.sleep(self.pause_s)
            yield Out("TEXT_MESSAGE_END", msgpack.packb({"messageId": entity}), entity)
            self.ended.append("done")
        except (asyncio.CancelledError, GeneratorExit):
            self.ended.append("stopped")
            raise


class Caller:
    """A model that calls a tool and says what came of it."""

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        result = await context.call_tool("double", {"x": 21}, f"call-{run['runId']}")
        entity = f"m-{run['runId']}"
        yield Out("TEXT_MESSAGE_START", msgpack.packb({"messageId": entity, "role": "assistant"}), entity)
        yield Out("TEXT_MESSAGE_CONTENT", f"it is {result.content}{result.code}".encode(), entity)
        yield Out("TEXT_MESSAGE_END", msgpack.packb({"messageId": entity}), entity)


class Double:
    """A tool that must run once."""

    spec = ToolSpec("double", "", {"type": "object"})

    def __init__(self) -> None:
        self.runs = 0
        self.pause_s = 1.0

    async def invoke(self, arguments: Mapping[str, Any], context: Context) -> str:
        self.runs += 1
        await asyncio.sleep(self.pause_s)
        return json.dumps(2 * arguments["x"])


async def _one(made: Cluster, model: Any) -> tuple[SimFront, SimHost]:
    host, front = made.host(), await made.front()
    host.add_model(model)
    made.join(front, host)
    return front, host


async def _read(session: EmbeddedSession, run_id: str, pause_s: float = 0.0) -> list[Event]:
    """Read up to the end of a run."""
    events = []
    async for event in session:
        events.append(event)
        if event.run == run_id and event.ends_run:
            return events
        if pause_s:
            await asyncio.sleep(pause_s)
    raise AssertionError("the session ended before the run did")


def _text(events: list[Event]) -> str:
    return "".join(event.text for event in events if event.kind == "TEXT_MESSAGE_CONTENT")


def test_ten_thousand_tokens_to_a_slow_reader_stay_within_the_window() -> None:
    """The model waits for the reader, whatever lies between; every byte arrives once and in order."""

    async def scenario() -> None:
        async with cluster(nlp="USER_MESSAGE") as made:
            model = Talker(10_000)
            front, host = await _one(made, model)
            async with front.session("s") as session:
                receipt = await session.send("go")
                reading = asyncio.ensure_future(_read(session, receipt.run, pause_s=0.02))
                ahead = 0
                while not reading.done():
                    await asyncio.sleep(0.05)
                    ahead = max(ahead, host.guests.statistics().on_its_way_bytes)
                    assert ahead <= WINDOW_BYTES + 4_096
                events = await reading
                assert _text(events) == "".join(f"{number:05d} " for number in range(10_000))
                assert [event.kind for event in events[-2:]] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]

    run(scenario())


def test_a_reader_that_stops_stops_the_model() -> None:
    """What nobody reads is not made: the model is paused a window and a budget behind the reader."""

    async def scenario() -> None:
        async with cluster(nlp="USER_MESSAGE") as made:
            model = Talker(10**6)
            front, host = await _one(made, model)
            async with front.session("s") as session:
                await session.send("go")
                await asyncio.sleep(20.0)
                said = model.said
                assert said * 6 < 2_000_000
                assert host.guests.statistics().waiting == 1
                await asyncio.sleep(20.0)
                assert model.said == said
                await session.interrupt()
                await asyncio.sleep(10.0)
                assert model.ended == ["stopped"]

    run(scenario())


def test_a_nested_tool_call_on_another_host_runs_once_and_is_in_the_fronts_ledger() -> None:
    """Model host -> front -> tool host -> front's store, and back; the history comes with the next run."""

    async def scenario() -> None:
        async with cluster(nlp="USER_MESSAGE", tools="TOOL_CALL") as made:
            front, _ = await _one(made, Caller())
            tool, tools = Double(), made.host("tools")
            tools.add_tools(tool)
            made.join(front, tools)
            other = await made.front("other")
            made.join(other, tools)
            async with front.session("s") as session:
                events = [event async for event in session.ask("double it")]
                assert _text(events) == "it is 42"
                kinds = [event.kind for event in events if event.kind.startswith("TOOL")]
                assert kinds == ["TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_RESULT"]
                assert events[-1].kind == "RUN_FINISHED"
                key = f"tool/call/t/s/{events[-1].run}/call-{events[-1].run}"
                assert (await front.store.get(key)).version > 0
                assert (await other.store.get(key)).version == 0
                assert tool.runs == 1

    run(scenario())


def test_a_model_that_waits_no_longer_for_a_tool_stops_it() -> None:
    """Also when model and tool are on different hosts: the call is cancelled where it runs."""

    class Impatient:
        async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
            try:
                async with asyncio.timeout(0.5):
                    await context.call_tool("double", {"x": 21})
            except TimeoutError:
                yield Out("TEXT_MESSAGE_CHUNK", msgpack.packb({"messageId": "m", "delta": "too slow"}), "m")
            await asyncio.sleep(0.2)

    async def scenario() -> None:
        async with cluster(nlp="USER_MESSAGE", tools="TOOL_CALL") as made:
            front, _ = await _one(made, Impatient())
            tool, tools = Double(), made.host("tools")
            tool.pause_s = 60.0
            tools.add_tools(tool)
            made.join(front, tools)
            async with front.session("s") as session:
                reading = asyncio.ensure_future(_read(session, (await session.send("double it")).run))
                await asyncio.sleep(0.4)
                assert (tool.runs, tools.guests.statistics().deliveries) == (1, 1)
                await asyncio.sleep(0.2)
                assert tools.guests.statistics().deliveries == 0
                assert _text(await reading) == "too slow"

    run(scenario())


def test_runs_hear_what_was_said_before() -> None:
    """The history of a session goes with each run, although the host keeps nothing."""

    async def scenario() -> None:
        async with cluster(nlp="USER_MESSAGE") as made:
            model = Talker(2)
            front, _ = await _one(made, model)
            async with front.session("s") as session:
                for text in ("one", "two"):
                    assert [event async for event in session.ask(text)][-1].kind == "RUN_FINISHED"
            assert model.heard == [["one"], ["one", "00000 00001 ", "two"]]

    run(scenario())


def test_an_interrupt_stops_the_model_on_its_host() -> None:
    """The run is closed and told as cancelled, and nothing of it follows."""

    async def scenario() -> None:
        async with cluster(nlp="USER_MESSAGE") as made:
            model = Talker(1_000, pause_s=0.1)
            front, host = await _one(made, model)
            async with front.session("s") as session:
                receipt = await session.send("go")
                reading = asyncio.ensure_future(_read(session, receipt.run))
                await asyncio.sleep(2.0)
                await session.interrupt(receipt.run)
                events = await asyncio.wait_for(reading, 1.0)
                assert [event.kind for event in events[-2:]] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]
                assert events[-1].data["outcome"] == {"type": "cancelled"}
                assert model.ended == ["stopped"]
                assert host.guests.statistics().deliveries == 0

    run(scenario())


def test_an_interrupt_of_a_run_that_nobody_reads_is_told_all_the_same() -> None:
    """What closes it has no credit; who reads on later finds the run ended."""

    async def scenario() -> None:
        async with cluster(nlp="USER_MESSAGE") as made:
            front, _ = await _one(made, Talker(10**6))
            async with front.session("s") as session:
                receipt = await session.send("go")
                await asyncio.sleep(5.0)
                await session.interrupt(receipt.run)
                await asyncio.sleep(20.0)
                events = await asyncio.wait_for(_read(session, receipt.run), 60.0)
                assert events[-1].kind in ("RUN_FINISHED", "RUN_ERROR")
                assert sum(event.ends_run for event in events) == 1

    run(scenario())


def test_a_run_that_nobody_reads_for_minutes_is_given_up_on_its_host_too() -> None:
    """The home tells SLOW_CONSUMER, the model is stopped, and the host is free for others."""

    async def scenario() -> None:
        async with cluster(nlp="USER_MESSAGE") as made:
            model = Talker(10**6)
            front, host = await _one(made, model)
            async with front.session("s") as session:
                receipt = await session.send("go")
                await asyncio.sleep(140.0)
                assert host.guests.statistics().deliveries == 0
                assert model.ended == ["stopped"]
                events = await asyncio.wait_for(_read(session, receipt.run), 60.0)
                assert (events[-1].kind, events[-1].data["code"]) == ("RUN_ERROR", "SLOW_CONSUMER")
                assert sum(event.ends_run for event in events) == 1

    run(scenario())


def test_a_cut_ends_the_run_there_and_here() -> None:
    """The person is told HOST_LOST, the model is stopped, and the next run goes over a new connection."""

    async def scenario() -> None:
        async with cluster(nlp="USER_MESSAGE") as made:
            model, host, front = Talker(1_000, pause_s=0.1), made.host(), await made.front()
            host.add_model(model)
            peer, _ = made.join(front, host)
            async with front.session("s") as session:
                receipt = await session.send("go")
                reading = asyncio.ensure_future(_read(session, receipt.run))
                await asyncio.sleep(2.0)
                peer.cut()
                events = await asyncio.wait_for(reading, 1.0)
                assert events[-1].kind == "RUN_ERROR"
                assert events[-1].data["code"] == "HOST_LOST"
                await asyncio.sleep(1.0)
                assert model.ended == ["stopped"]
                made.join(front, host)
                model.tokens = 3
                again = [event async for event in session.ask("again")]
                assert (_text(again), again[-1].kind) == ("00000 00001 00002 ", "RUN_FINISHED")

    run(scenario())


def test_two_fronts_share_a_cell_and_an_urgent_event_waits_for_no_flood() -> None:
    """One front's backlog keeps its half full; the other's critical event and its ordinary ones get in."""
    order: list[str] = []

    async def work(env: Envelope, context: Context) -> None:
        order.append(f"{context.session}:{env[ENTITY] or env[LANE]}")
        await asyncio.sleep(1.0)

    async def scenario() -> None:
        async with cluster(work="WORK URGE") as made:
            host = made.host()
            host.add("work", "WORK", work, concurrency=4)
            flooder, other = await made.front("flooder"), await made.front("other")
            made.join(flooder, host)
            made.join(other, host)
            flood = flooder.session("flood")
            for _ in range(200):
                await flood.send_event("WORK")
            await asyncio.sleep(3.5)
            began = len(order)
            calm = other.session("calm")
            await calm.send_event("URGE")
            await asyncio.sleep(0.01)
            assert order[began:] == ["calm:0"], "at once"
            for number in range(8):
                await calm.send_event("WORK", entity=f"e{number}")
            await asyncio.sleep(6.0)
            ours = [name for name in order if name.startswith("calm:e")]
            assert len(ours) == 8, "eight of four at a time, in turns with a flood, take four seconds"
            assert flooder.dispatcher.statistics().pending > 100, "the flood waits where it came from"

    run(scenario())


@pytest.mark.parametrize("seed", range(8))
def test_whatever_breaks_everything_is_answered_once(seed: int) -> None:
    """Two fronts, two hosts, cuts, cancels and a host that drains: no event is lost, doubled or left open."""
    chance = random.Random(seed)
    starts: dict[str, int] = {}

    async def work(env: Envelope, context: Context) -> None:
        starts[f"{env[SESSION]}:{env[ENTITY]}"] = starts.get(f"{env[SESSION]}:{env[ENTITY]}", 0) + 1
        for _ in range(chance.randrange(3)):
            await context.emit(Out("LOG", bytes(chance.randrange(30_000)), "m"))
            await asyncio.sleep(chance.random())

    async def scenario() -> None:
        async with cluster(work="WORK URGE") as made:
            hosts = [made.host(f"host{number}") for number in range(2)]
            fronts = [await made.front(f"front{number}") for number in range(2)]
            for host in hosts:
                host.add("work", "WORK", work, concurrency=2, cells=2, grace_s=1.0)
            links = {(front.name, host.name): made.join(front, host)[0] for front in fronts for host in hosts}
            sent = 0
            for step in range(120):
                front = chance.choice(fronts)
                kind = chance.choice(("WORK", "WORK", "WORK", "URGE"))
                await front.session(f"s{chance.randrange(4)}").send_event(kind, entity=f"e{step}")
                sent += 1
                if chance.random() < 0.1:
                    front.dispatcher.cancel("t", f"s{chance.randrange(4)}", event_id=f"e{chance.randrange(step + 1)}")
                if chance.random() < 0.08:
                    host = chance.choice(hosts)
                    links[front.name, host.name].cut()
                    await asyncio.sleep(chance.random() * 2)
                    links[front.name, host.name] = made.join(front, host)[0]
                await asyncio.sleep(chance.random() * 0.2)
            await hosts[0].guests.drain(made.clock.now() + 5.0)
            await asyncio.sleep(1_000.0)
            told = [front.dispatcher.statistics() for front in fronts]
            assert [each.pending for each in told] == [0, 0]
            assert sum(each.accepted for each in told) == sent
            assert sum(each.handled + each.cancelled + each.failed + each.dead for each in told) == sent
            assert all(host.guests.statistics().deliveries == 0 for host in hosts)
            assert all(link.alive for link in links.values()), "nobody broke the contract"
            assert len(starts) > 100

    run(scenario())
