"""A running engine tells every metric of the catalogue, whole and true."""

from __future__ import annotations

import asyncio
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from laneway import Config, Engine
from laneway.engine.app.readings import ERROR_CODES
from laneway.engine.telemetry.catalogue import CATALOGUE
from tests.outside import require

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def _samples(text: str) -> Samples:
    read: Samples = {}
    for family in parsed(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in read, f"twice: {key}"
            read[key] = sample.value
    return read


def _at(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


@pytest.fixture(scope="module")
def worked() -> tuple[str, str]:
    """The metrics of an engine before and after it has worked: a run, an event, a failure, a tool."""
    return asyncio.run(_worked())


async def _worked() -> tuple[str, str]:
    async with Engine(Config.model_validate({"nlp": {"model": "tests.engine.app.shop:make_model"}})) as engine:

        @engine.tools.add(inline=True)
        def add(a: int, b: int) -> int:
            return a + b

        @engine.pool("work", kinds=["WORK"])
        async def work(event, context):  # type: ignore[no-untyped-def]
            if event.body == b"fail":
                raise ValueError("no")
            if event.body == b"tool":
                await context.call_tool("add", {"a": 1, "b": 2})

        before = engine.metrics()
        async with engine.session("s", on_failure=lambda receipt, error: None) as session:
            async for _ in session.ask("hello there"):
                pass
            for body in (b"", b"fail", b"tool"):
                await session.send_event("WORK", body)
            while engine.statistics()[0].pending:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.01)
            return before, engine.metrics()


def test_every_metric_is_there_from_the_start_and_counts(worked: tuple[str, str]) -> None:
    """The same series before and after; each event is in exactly one ending, and the difference is 0."""
    before, after = (_samples(text) for text in worked)
    assert set(before) == set(after)
    names = {name for name, _ in after}
    for metric in CATALOGUE:
        assert {metric.name, f"{metric.name}_count"} & names, metric.name
    assert _at(after, "laneway_events_ended_total", lane="normal", status="failed") == 1
    accepted = sum(value for (name, _), value in after.items() if name == "laneway_events_accepted_total")
    ended = sum(value for (name, _), value in after.items() if name == "laneway_events_ended_total")
    assert accepted == ended == 5
    assert _at(after, "laneway_conservation_difference") == 0
    waited = sum(value for (name, _), value in after.items() if name == "laneway_queue_wait_seconds_count")
    took = sum(value for (name, _), value in after.items() if name == "laneway_event_seconds_count")
    assert waited == took == 5
    assert _at(after, "laneway_pool_errors_total", pool="work") == 1
    assert _at(after, "laneway_event_errors_total", code="HANDLER_FAILED") == 1
    assert _at(after, "laneway_tool_calls_total", result="OK") == 1
    assert _at(after, "laneway_tool_seconds_count", tool="add") == 1


def test_a_run_is_seen_from_its_acceptance_to_its_end(worked: tuple[str, str]) -> None:
    """Started, finished, its first text and its whole response, each once."""
    _, after = (_samples(text) for text in worked)
    assert _at(after, "laneway_runs_started_total") == 1
    assert _at(after, "laneway_runs_ended_total", outcome="finished") == 1
    assert _at(after, "laneway_run_seconds_count") == _at(after, "laneway_run_first_text_seconds_count") == 1
    assert _at(after, "laneway_run_first_text_seconds_sum") <= _at(after, "laneway_run_seconds_sum")
    assert _at(after, "laneway_connections_opened_total", transport="embedded") == 1
    assert _at(after, "laneway_attachments_total", resume="new") == 1


def test_promtool_accepts_what_an_engine_says(worked: tuple[str, str]) -> None:
    """All of it, with an engine's real labels."""
    promtool = require("promtool", package="prometheus")
    _, text = worked
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_code_of_the_tree_is_a_label_value() -> None:
    """Also the leaves."""
    assert {"INTERNAL", "RATE_LIMITED", "TOOL_TIMEOUT", "TOKEN_EXPIRED", "STORE_FAILED"} <= set(ERROR_CODES)
