"""Spans go out over OTLP, and a receiver that is dead costs spans, never time or events."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time

import pytest

from laneway.engine.app.clock import SystemClock
from laneway.engine.telemetry.otlp import OtlpSpans, resource
from laneway.engine.telemetry.sampling import Sampler
from laneway.engine.telemetry.span_log import SpanLog
from laneway.engine.testing.sink import Sink


def _spans(url: str) -> tuple[OtlpSpans, SpanLog]:
    sampler = Sampler(1.0, follow=True, traces_per_s=1e6, random=random.random)
    log = SpanLog(SystemClock(), sampler)
    spans = OtlpSpans(url, resource("a service", "1.2"), log.unix_ns)
    log.use(spans.take)
    return spans, log


def _one(log: SpanLog, name: str) -> None:
    log.begin(name, "00-" + "a" * 32 + "-" + "b" * 16 + "-01").end()


def test_what_waits_is_sent_at_the_close():
    """With who sends it: service name, version, instance and process."""

    async def main():
        async with Sink() as sink:
            spans, log = _spans(f"http://127.0.0.1:{sink.port}")
            _one(log, "one")
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
            spans, log = _spans(f"http://127.0.0.1:{taken.getsockname()[1]}")
            for _ in range(3):
                _one(log, "lost")
            beats = 0

            async def beat():
                nonlocal beats
                while True:
                    await asyncio.sleep(0)  # as often as it turns, which does not depend on the machine's load
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


def test_what_waits_is_bounded_and_what_was_left_out_is_counted():
    """A receiver that takes nothing costs spans, not memory."""

    async def main():
        with socket.socket() as silent:  # listening, and nobody answers
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            spans, log = _spans(f"http://127.0.0.1:{silent.getsockname()[1]}")
            for _ in range(20_000):
                _one(log, "many")
            assert spans.lost >= 20_000 - 8_192 - 3 * 512
            await spans.close(0.1)

    asyncio.run(main())


def test_a_full_batch_is_sent_at_once():
    """It does not wait for the second to be over; all of them come."""

    async def main():
        async with Sink() as sink:
            spans, log = _spans(f"http://127.0.0.1:{sink.port}")
            for _ in range(1_200):
                _one(log, "many")
            assert len(await sink.spans(lambda spans: len(spans) >= 1_024)) >= 1_024
            await spans.close()
            assert len(await sink.spans(lambda spans: len(spans) == 1_200)) == 1_200
            assert spans.lost == 0

    asyncio.run(main())
