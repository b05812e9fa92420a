"""Metrics over OTLP, taken by a real receiver, or by none."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from laneway.engine.telemetry.counters import Counters
from laneway.engine.telemetry.families import Family, families
from laneway.engine.telemetry.otlp import resource
from laneway.engine.telemetry.push import MetricsPush, metrics_data
from laneway.engine.testing.sink import Sink


def _read(counters: Counters) -> list[Family]:
    return families(counters.recorded(), {"laneway_sessions": {(): 7}}, {"lane": ("high", "low")})


def _push(url: str, counters: Counters) -> MetricsPush:
    return MetricsPush(url, resource("test", "0"), lambda: _read(counters), every_s=3600, probe=counters, within_s=0.3)


def test_the_catalogue_arrives_with_units_and_values() -> None:
    """Counters as sums, gauges as gauges, histograms with their counts; the last numbers go out at close."""

    async def main() -> None:
        counters = Counters()
        counters.count("run.started", 3)
        async with Sink() as sink:
            push = _push(sink.url, counters)
            push.start()
            assert await push.push()
            counters.observe("queue.wait", 0.5, lane="low")
            await push.close()
            await push.close()
            points = await sink.metrics()
        by_key = {(point.name, point.attributes.get("lane", "")): point for point in points}
        assert by_key["laneway_runs_started_total", ""].value == 3
        assert by_key["laneway_sessions", ""].value == 7
        wait = by_key["laneway_queue_wait_seconds", "low"]
        assert (wait.unit, wait.count, wait.value) == ("s", 1, 0.5)
        assert by_key["laneway_queue_wait_seconds", "high"].count == 0

    asyncio.run(main())


def test_buckets_and_bounds_are_ours() -> None:
    """Not the SDK's defaults, in which all waits of 10 to 990 ms would fall together."""
    counters = Counters()
    counters.observe("queue.wait", 0.5, lane="low")
    data = metrics_data(_read(counters), resource("test", "0"), 1, 2)
    (scope,) = data.resource_metrics[0].scope_metrics
    (waits,) = [metric for metric in scope.metrics if metric.name == "laneway_queue_wait_seconds"]
    points = {point.attributes["lane"]: point for point in waits.data.data_points}  # type: ignore[index]
    bounds, buckets = points["low"].explicit_bounds, points["low"].bucket_counts  # type: ignore[union-attr]
    assert bounds.index(0.5) == list(buckets).index(1)
    assert len(buckets) == len(bounds) + 1


def test_a_dead_receiver_is_told_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Each failed export counts; the log has one warning, and nothing of the exporter's own."""
    counters = Counters()

    async def main() -> None:
        with socket.socket() as taken:  # bound and not listening: refused at once
            taken.bind(("127.0.0.1", 0))
            push = _push(f"http://127.0.0.1:{taken.getsockname()[1]}", counters)
            push.start()
            for _ in range(2):
                assert not await push.push()
            await push.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert counters.snapshot() == {"metrics.export_failed": 3}
    assert [record.name for record in caplog.records if record.levelno >= logging.WARNING] == [
        "laneway.engine.telemetry.push"
    ]


def test_an_export_that_hangs_does_not_hold_up_the_end() -> None:
    """Closing gives it up; nothing is sent beside it."""

    async def main() -> None:
        counters = Counters()
        with socket.socket() as deaf:  # takes connections, and never answers
            deaf.bind(("127.0.0.1", 0))
            deaf.listen()
            url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
            source = resource("test", "0")
            push = MetricsPush(url, source, lambda: _read(counters), every_s=0.001, probe=counters, within_s=60)
            push.start()
            async with asyncio.timeout(30):
                while not push._exporting:  # noqa: ASYNC110 - nobody announces it
                    await asyncio.sleep(0.001)
                await push.close()
        assert counters.snapshot() == {}

    asyncio.run(main())
