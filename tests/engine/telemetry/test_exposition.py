"""The text for Prometheus, read back by its own client library."""

from __future__ import annotations

import subprocess

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as parsed

from laneway.engine.telemetry.catalogue import Metric
from laneway.engine.telemetry.counters import Counters
from laneway.engine.telemetry.exposition import exposition
from laneway.engine.telemetry.families import Family, families
from tests.outside import require

CALLS = Metric("laneway_calls_total", "counter", "Calls.", ("tool",))


@given(st.dictionaries(st.text(), st.floats(allow_nan=False, min_value=0), max_size=4), st.text(max_size=20))
def test_any_label_and_value_come_back(values: dict[str, float], text: str) -> None:
    """Quotes, backslashes and line feeds are escaped; infinity is written as Prometheus reads it."""
    metric = Metric(CALLS.name, "counter", text, ("tool",))
    family = Family(metric, tuple(sorted(((tool,), value) for tool, value in values.items())))
    told = exposition([family])
    assert told.count("\n") == 2 + len(values)
    (read,) = parsed(told)
    assert {sample.labels["tool"]: sample.value for sample in read.samples} == values


def test_histogram_is_cumulative_to_infinity() -> None:
    """Each bucket holds those below it; the last one is the count."""
    counters = Counters()
    for seconds in (0.0004, 0.5, 0.5, 0.7, 99.0):
        counters.observe("queue.wait", seconds, lane="low")
    told = exposition(families(counters.recorded(), {}, {"lane": ("low",)}))
    (read,) = [family for family in parsed(told) if family.name == "laneway_queue_wait_seconds"]
    assert read.type == "histogram"
    below = {s.labels["le"]: s.value for s in read.samples if s.name.endswith("_bucket")}
    assert (below["0.0005"], below["0.2"], below["0.5"], below["1.0"], below["+Inf"]) == (1, 1, 3, 4, 5)
    values = list(below.values())
    assert values == sorted(values)
    rest = {s.name.rpartition("_")[2]: s.value for s in read.samples if not s.name.endswith("_bucket")}
    assert (rest["count"], round(rest["sum"], 4)) == (5, 100.7004)


def test_the_whole_catalogue_passes_promtool() -> None:
    """Prometheus's own linter has nothing to say about names, units, types and help."""
    promtool = require("promtool", package="prometheus")
    counters = Counters()
    counters.count("tool.calls", tool='a "quoted"\\\n one', result="OK")
    told = exposition(families(counters.recorded(), {}, {"lane": ("low",), "tool": ("add",), "code": ("A",)}))
    done = subprocess.run([promtool, "check", "metrics"], input=told, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
