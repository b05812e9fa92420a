"""One trace from a client through the server to a tool, over real processes; and receivers that fail."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from laneway.engine.client import Client
from laneway.engine.testing.otlp import SpanRecord
from laneway.engine.testing.proxy import Proxy
from laneway.engine.testing.sink import Sink
from laneway.engine.testing.tree import faults, render, rows
from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.lanes import Lane
from tests.e2e.serving import Server, clean_environment
from tests.ports import held_port

BULK = Kind("BULK", Lane.NORMAL, direction=IN)
TOGETHER = 8
ROOT = Path(__file__).parents[2]
WITHIN_S = 90.0
SETUP = '''
import asyncio
import os

def where(marker: str) -> dict:
    """Say which process this is."""
    return {"marker": marker, "pid": os.getpid()}


def setup(engine):
    engine.tools.add(where)

    @engine.pool("bulk", kinds=["BULK"], batch=True, cells=1, concurrency=64)
    async def bulk(events, contexts):
        return [None] * len(events)
'''


@pytest.fixture
def setup(tmp_path: Path) -> Path:
    (tmp_path / "traced.py").write_text(SETUP)
    return tmp_path


def _server(directory: Path, otlp: str, *options: str) -> Server:
    return Server("engine.db", "--otlp", otlp, "--setup", "traced:setup", *options, model="scripted", cwd=directory)


async def _client_process(target: str, otlp: str, session: str, text: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.e2e.tracing_client", target, otlp, session, text),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=clean_environment(),
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    said: dict[str, Any] = json.loads(output)
    return said


async def _answer(client: Client, text: str = "hello", trace: str = "") -> str:
    receipt = await client.send_event("USER_MESSAGE", text.encode(), run=f"r-{client.next_counter}", trace=trace)
    said = ""
    async for event in client:
        if event.run == receipt.run:
            said += event.text
            if event.ends_run:
                return said
    raise AssertionError("the client ended before the run")


def _traceparent(number: int, flags: int = 1) -> str:
    return f"00-{number:032x}-{number:016x}-{flags:02x}"


def _names(spans: Sequence[SpanRecord]) -> set[str]:
    return {span.name for span in spans}


ASKED = ("send", "receive")
MODELLED = (*ASKED, "handle nlp", "model scripted")
CALLED = (*MODELLED, "handle tools")
TREE = {
    ("send",),
    ASKED,
    (*ASKED, "commit"),
    (*ASKED, "shape"),
    (*ASKED, "queue high"),
    (*ASKED, "route nlp"),
    (*ASKED, "handle nlp"),
    (*ASKED, "handle nlp", "commit"),
    (*ASKED, "handle nlp", "deliver"),
    MODELLED,
    (*MODELLED, "shape"),
    (*MODELLED, "queue high"),
    (*MODELLED, "route tools"),
    CALLED,
    (*CALLED, "tool where"),
    (*CALLED, "tool where", "worker"),
}


def _paths(spans: Sequence[SpanRecord]) -> set[tuple[str, ...]]:
    """Names from the root to each span."""
    found: set[tuple[str, ...]] = set()
    above: list[str] = []
    for row in rows(spans):
        above[row.depth :] = [row.span.name]
        found.add(tuple(above))
    return found


def test_one_trace_from_client_to_tool(setup: Path) -> None:
    """Three processes, one trace id, every parent there, kinds and attributes as they should be."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Sink() as sink, _server(setup, sink.url) as server:
            said = await _client_process(server.target, sink.url, "s1", 'call where {"marker": "m"}')
            assert (await server.stop())[0] == 0
            spans = list(sink.received)
            assert faults(spans) == [], render(spans)
            assert _paths(spans) == TREE, render(spans)
            pids = {span.name: span.process[1] for span in spans}
            ran_in = int(re.findall(r'"?pid"?: (\d+)', said["text"])[0])
            assert (pids["send"], pids["handle nlp"]) == (said["pid"], server.process.pid)
            assert pids["worker"] == ran_in
            assert len({said["pid"], server.process.pid, ran_in}) == 3
            assert [span.name for span in spans].count("queue high") == 2  # the message's, the tool call's
            assert {span.attributes.get("laneway.session", "s1") for span in spans} == {"s1"}
            (model,) = [span for span in spans if span.name == "model scripted"]
            assert model.attributes["gen_ai.operation.name"] == "chat"

    asyncio.run(main())


def test_a_batch_has_links_to_all_its_events(setup: Path) -> None:
    """One span for a batch: below its first event, with a link to each other; each keeps its own queue."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Sink() as sink, _server(setup, sink.url) as server:
            async with Client(server.target, session="s1", kinds=KindTable([BULK])) as client:
                traces = iter(range(1, 80))
                while not any(span.links for span in sink.received):  # sent together, they usually come together
                    sent = [_traceparent(next(traces)) for _ in range(TOGETHER)]
                    await asyncio.gather(*(client.send_event("BULK", b"x", trace=trace) for trace in sent))
                    await sink.spans(partial(_covers, {trace[3:35] for trace in sent}))
            await server.stop()
            spans = list(sink.received)
            receives = {span.trace: span.span for span in spans if span.name == "receive"}
            assert _members(spans) == set(receives)
            for handle in _handles(spans):
                assert handle.parent == receives[handle.trace]
                assert all(receives[trace] == span for trace, span in handle.links)
                assert handle.attributes.get("messaging.batch.message_count", 1) == 1 + len(handle.links)
            assert sorted(span.trace for span in spans if span.base == "queue") == sorted(receives)

    asyncio.run(main())


def _handles(spans: Sequence[SpanRecord]) -> list[SpanRecord]:
    return [span for span in spans if span.name == "handle bulk"]


def _covers(traces: set[str], spans: Sequence[SpanRecord]) -> bool:
    return traces <= _members(spans)


def _members(spans: Sequence[SpanRecord]) -> set[str]:
    """Traces of all events that a batch was handled for."""
    return {trace for span in _handles(spans) for trace in (span.trace, *(trace for trace, _ in span.links))}


@pytest.mark.parametrize(
    ("ratio", "flags", "traced"),
    [("0", None, False), ("1", None, True), ("1", 0, False), ("0", 1, True), ("0", 0, False)],
)
def test_sampling_is_decided_once_at_the_door(setup: Path, ratio: str, flags: int | None, traced: bool) -> None:
    """A client's word counts first, then the ratio; what is not sampled exports nothing at all."""
    (setup / "t.toml").write_text(f"[telemetry]\nsample_ratio = {ratio}\n")

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Sink() as sink, _server(setup, sink.url, "--config", "t.toml") as server:
            async with Client(server.target, session="s1") as client:
                trace = "" if flags is None else _traceparent(7, flags)
                assert "pid" in await _answer(client, 'call where {"marker": "m"}', trace)
                tailed = await client.call("tail", runs=["r-*"])
                shown = {(row["direction"], row["trace_id"]) for row in tailed["events"]}
            assert (await server.stop())[0] == 0
            assert bool(sink.received) is traced
            traces = {span.trace for span in sink.received}
            assert len(traces) == traced
            assert shown == {(way, trace) for way in ("in", "out") for trace in traces or {""}}
            assert flags is None or traces <= {f"{7:032x}"}

    asyncio.run(main())


def _said(server: Server, words: str) -> int:
    return sum(words in json.loads(line)["message"] for line in server.errors.splitlines())


def test_a_receiver_that_is_away_costs_spans_not_answers(setup: Path) -> None:
    """The answer comes, the log says it once, the server drains and exits 0; later spans reach a receiver that came."""
    (setup / "t.toml").write_text("[telemetry]\nsample_ratio = 1\n")

    async def main(port: int) -> None:
        async with asyncio.timeout(WITHIN_S):
            async with _server(setup, f"http://127.0.0.1:{port}", "--config", "t.toml") as server:
                async with Client(server.target, session="s1") as client:
                    for _ in range(3):
                        assert await _answer(client)
                assert (await server.stop())[0] == 0
            assert _said(server, "spans cannot be sent") <= 1
            assert "Traceback" not in server.errors

    with held_port() as port:
        asyncio.run(main(port))


def test_a_receiver_that_dies_and_comes_back_gets_what_comes_then(setup: Path) -> None:
    """Answers go on throughout."""
    (setup / "t.toml").write_text("[telemetry]\nsample_ratio = 1\n")

    async def main(port: int) -> None:
        async with (
            asyncio.timeout(WITHIN_S),
            _server(setup, f"http://127.0.0.1:{port}", "--config", "t.toml") as server,
            Client(server.target, session="s1") as client,
        ):
            async with Sink(port) as sink:
                while not sink.received:  # the exporter finds it in its own time
                    assert await _answer(client)
            assert await _answer(client)
            async with Sink(port) as again:
                while not again.received:
                    assert await _answer(client)
                assert (await server.stop())[0] == 0

    with held_port() as port:
        asyncio.run(main(port))


def test_a_receiver_that_hangs_holds_nothing_up(setup: Path) -> None:
    """It takes the connection and never answers: runs end, and the server drains within its deadline."""
    (setup / "t.toml").write_text("[telemetry]\nsample_ratio = 1\n")

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Sink() as sink, Proxy(sink.port) as proxy:
            proxy.stall()
            async with _server(setup, f"http://{proxy.target}", "--config", "t.toml") as server:
                async with Client(server.target, session="s1") as client:
                    for _ in range(3):
                        assert await _answer(client)
                assert (await server.stop())[0] == 0
            assert sink.received == ()

    asyncio.run(main())
