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


def test_engine_counts_for_itself_unless_it_is_given_a_probe() -> None:
    """The embedder's port replaces the counters as the place where the engine counts."""
    own = Engine()
    assert own.telemetry.probe is own.telemetry.counters
    probe = Counters()
    assert Engine(probe=probe).telemetry.probe is probe


def test_engine_without_a_receiver_loads_no_opentelemetry() -> None:
    """Whoever does not export traces does not pay for the SDK's import."""
    code = "import sys; from laneway import Engine; Engine(); sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def _traced(otlp: str) -> Config:
    return Config.model_validate({"telemetry": {"otlp": otlp, "sample_ratio": 1.0}, "nlp": {"model": "synthetic"}})


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
