"""What an engine measures goes to its own counters, or to the embedder's port."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from laneway import Config, Engine
from laneway.engine.telemetry.counters import Counters
from laneway.engine.testing.sink import Sink


def test_an_embedders_probe_is_told_beside_the_engines_own_counters() -> None:
    """So that `metrics()` is whole with one, too."""
    own = Engine()
    assert own.telemetry.probe is own.telemetry.counters
    probe = Counters()
    engine = Engine(probe=probe)
    engine.telemetry.probe.count("run.started")
    assert probe.snapshot()["run.started"] == engine.telemetry.counters.snapshot()["run.started"] == 1
    assert "laneway_runs_started_total 1" in engine.metrics()


def test_metrics_reach_the_receiver_at_the_latest_when_the_engine_closes() -> None:
    """The last numbers are of an engine that has ended everything."""

    async def main() -> None:
        async with Sink() as sink:
            async with Engine(_traced(sink.url)) as engine:
                await _ask(engine)
            points = await sink.metrics(lambda points: any(p.name == "laneway_runs_ended_total" for p in points))
            ended = {p.attributes["outcome"]: p.value for p in points if p.name == "laneway_runs_ended_total"}
            assert ended["finished"] == 1
            assert [p.value for p in points if p.name == "laneway_conservation_difference"] == [0]
            assert {p.value for p in points if p.name == "laneway_connections_active"} == {0}

    asyncio.run(main())


def test_engine_without_a_receiver_loads_no_opentelemetry() -> None:
    """Whoever does not export traces does not pay for the SDK's import."""
    code = "import sys; from laneway import Engine; Engine(); sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def _traced(otlp: str) -> Config:
    return Config.model_validate(
        {"telemetry": {"otlp": otlp, "sample_ratio": 1.0}, "nlp": {"model": "tests.engine.app.shop:make_model"}}
    )


async def _ask(engine: Engine) -> int:
    async with engine.session("s") as session:
        return len([event async for event in session.ask("hello")])


def test_spans_of_an_answer_reach_the_receiver() -> None:
    """With `telemetry.otlp` set, closing the engine sends what is left: one trace per message."""

    async def main() -> None:
        async with Sink() as sink:
            async with Engine(_traced(f"http://127.0.0.1:{sink.port}")) as engine:
                assert await _ask(engine) > 3
            spans = await sink.spans(lambda spans: any(span.name == "handle nlp" for span in spans))
            assert {"receive", "shape", "queue high", "route nlp", "handle nlp"} <= {span.name for span in spans}
            assert len({span.trace for span in spans}) == 1

    asyncio.run(main())


def test_embedders_provider_is_used_and_left_open() -> None:
    """It gets the spans instead of the receiver; it is not shut down with the engine."""

    async def main() -> None:
        kept = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(kept))
        async with Engine(_traced(""), tracer_provider=provider) as engine:
            await _ask(engine)
        assert "handle nlp" in {span.name for span in kept.get_finished_spans()}
        kept.clear()
        provider.get_tracer("mine").start_span("after").end()
        assert [span.name for span in kept.get_finished_spans()] == ["after"]

    asyncio.run(main())


def test_dead_receiver_costs_no_event(caplog: pytest.LogCaptureFixture) -> None:
    """Answers come whole, and only the engine's own words about it are in the log."""

    async def main() -> None:
        with socket.socket() as taken:  # bound and not listening: refused at once
            taken.bind(("127.0.0.1", 0))
            async with Engine(_traced(f"http://127.0.0.1:{taken.getsockname()[1]}")) as engine:
                counts = {await _ask(engine) for _ in range(3)}
                assert min(counts) > 3

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert {record.name.split(".")[0] for record in caplog.records} <= {"laneway"}
