"""`laneway tools`."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from laneway.engine.cli.root import app


def test_the_catalogue_is_listed(served: str, runner: CliRunner) -> None:
    """Name, arguments (optional ones in brackets), first line of the description."""
    result = runner.invoke(app, ["tools", "--grpc", served])
    assert result.exit_code == 0, result.output
    assert "city, [unit]" in result.output
    assert "Today's weather in a city." in result.output
    (row,) = json.loads(runner.invoke(app, ["tools", "--grpc", served, "--json"]).output)
    assert row["name"] == "weather"
