"""Spans go out over OTLP, and a receiver that is dead costs spans, never time or events."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time

import pytest

from laneway.engine.telemetry.otlp import OtlpSpans, resource
from laneway.engine.testing.sink import Sink


def _spans(url: str) -> OtlpSpans:
    return OtlpSpans(url, resource("a service", "1.2"))


def test_what_waits_is_sent_at_the_close():
    """With who sends it: service name, version, instance and process."""

    async def main():
        async with Sink() as sink:
            spans = _spans(f"http://127.0.0.1:{sink.port}")
            spans.provider.get_tracer("t").start_span("one").end()
            await spans.close()
            (span,) = await sink.spans(lambda spans: len(spans) == 1)
            assert span.name == "one"
            assert span.process == ("a service", os.getpid())
            assert span.resource["service.version"] == "1.2"

    asyncio.run(main())


def test_dead_receiver_is_told_once_and_closing_is_bounded(caplog: pytest.LogCaptureFixture):
    """One line for the receiver that is away, however many batches; none from the SDK for ours."""

    async def main():
        with socket.socket() as taken:  # bound and not listening: refused at once
            taken.bind(("127.0.0.1", 0))
            spans = _spans(f"http://127.0.0.1:{taken.getsockname()[1]}")
            for _ in range(3):
                spans.provider.get_tracer("t").start_span("lost").end()
            beats = 0

            async def beat():
                nonlocal beats
                while True:
                    await asyncio.sleep(0.01)
                    beats += 1

            heart = asyncio.create_task(beat())
            began = time.monotonic()
            await spans.close(0.3)
            heart.cancel()
            await asyncio.gather(heart, return_exceptions=True)
            assert time.monotonic() - began < 30
            assert beats > 3, "the event loop stood still"

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert {record.name.split(".")[0] for record in caplog.records} == {"laneway"}
