"""The table of metrics is in order, and actors count nothing that it does not know."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from laneway.engine.telemetry.catalogue import BUCKETS_S, BY_NAME, BY_SOURCE, CATALOGUE, RESPONSE_S, Metric

ROOT = Path(__file__).parents[3]
ALLOWED_LABELS = {
    "cell", "code", "grade", "http_status", "kind", "lane", "level", "outcome", "pool", "result", "resume", "status",
    "tool", "transport",
}  # fmt: skip


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_a_metric_is_named_as_prometheus_wants_it(metric: Metric) -> None:
    """Counters end with _total, nothing else does; a histogram has sorted bounds and a unit."""
    assert re.fullmatch(r"(laneway|process)_[a-z0-9_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.type == "counter")
    assert bool(metric.bounds) == (metric.type == "histogram")
    assert list(metric.bounds) == sorted(set(metric.bounds))
    if metric.type == "histogram":
        assert metric.unit == "s"
    assert metric.help.endswith(".")


def test_labels_are_few_and_never_a_clients() -> None:
    """Whoever adds a label here has asked where its values come from: tenant and session are none."""
    assert {label for metric in CATALOGUE for label in metric.labels} == ALLOWED_LABELS
    assert max(len(metric.labels) for metric in CATALOGUE) == 2
    assert len(BY_NAME) == len(CATALOGUE)


def test_bounds_are_exact_where_alerts_stand() -> None:
    """A value of exactly 0.5 s is not above half a second."""
    for bounds in (BUCKETS_S, RESPONSE_S):
        assert {0.5, 1.0} <= set(bounds)


def _sources() -> set[str]:
    """Every name that is given to a probe in the code."""
    found = set()
    calls = {"count", "observe", "histogram", "_count", "by_lane"}
    for package in ("actors", "engine"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                found |= {
                    argument.value
                    for argument in node.args
                    if name in calls and isinstance(argument, ast.Constant) and isinstance(argument.value, str)
                    and re.fullmatch(r"[a-z]+\.[a-z_]+", argument.value)
                }  # fmt: skip
    return found


def test_what_actors_count_is_in_the_table_and_nothing_else() -> None:
    """A number that nobody can see, and a row that nobody fills, are both mistakes."""
    assert _sources() == set(BY_SOURCE)
