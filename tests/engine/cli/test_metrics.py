"""`laneway metrics`."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from laneway.engine.cli.root import app
from laneway.engine.telemetry.catalogue import CATALOGUE, markdown


def test_the_metrics_of_an_engine_are_printed_as_they_are(served: str, runner: CliRunner) -> None:
    """Nothing before or after them, so that they can be piped."""
    result = runner.invoke(app, ["metrics", "--grpc", served])
    assert result.exit_code == 0, result.output
    families = {family.name for family in text_string_to_metric_families(result.output)}
    assert {"laneway_events_accepted", "laneway_sessions", "laneway_queue_wait_seconds"} <= families


def test_the_list_needs_no_engine(runner: CliRunner) -> None:
    """One row per metric: the table of docs/metrics.md."""
    result = runner.invoke(app, ["metrics", "--list"])
    assert result.output == markdown()
    assert result.output.count("\n") == len(CATALOGUE) + 2
