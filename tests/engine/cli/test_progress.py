"""How far a download is."""

from __future__ import annotations

import pytest

from laneway.engine.cli.progress import shown


def test_a_log_gets_one_line_per_stage(capsys: pytest.CaptureFixture[str]) -> None:
    """However often it is told."""
    with shown() as tell:
        for done in range(5):
            tell("downloading", done, 5)
        tell("ready", 5, 5)
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["model: downloading", "model: ready"]
    assert captured.out == ""
