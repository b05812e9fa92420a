"""`laneway model fetch`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from laneway.engine.cli.root import app
from laneway.engine.models.weights import weights_path


def test_weights_that_are_there_are_checked_and_named(runner: CliRunner) -> None:
    """Nothing is downloaded twice."""
    if not weights_path().is_file():
        pytest.skip("the weights were not fetched on this machine")
    result = runner.invoke(app, ["model", "fetch"])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(weights_path())
    assert "model: checking" in result.stderr


def test_a_cache_that_cannot_be_written_is_named(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1 and the path."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LANEWAY_CACHE", str(tmp_path / "file"))
    result = runner.invoke(app, ["model", "fetch"])
    assert result.exit_code == 1
    assert str(tmp_path / "file") in result.stderr
