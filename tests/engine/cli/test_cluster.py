"""`laneway cluster` without a cluster; with one it is in tests/engine/runtime/test_ray_cluster.py."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from laneway.engine.cli.root import app
from tests.e2e.serving import COMMAND, clean_environment


def test_no_ray_there_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    """With what to do about it; nothing is started."""
    ended = subprocess.run(
        [*COMMAND, "cluster", "status"],
        cwd=tmp_path,
        env=clean_environment(RAY_ADDRESS="127.0.0.1:1"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "no Ray cluster can be joined at '127.0.0.1:1'" in ended.stderr
    assert "ray start --head" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "arguments", [["scale", "nlp", "0"], ["scale", "nlp"], ["drain"], ["status", "--cluster", "Not A Name"]]
)
def test_bad_arguments_are_refused_before_anything_is_asked(runner: CliRunner, arguments: list[str]) -> None:
    """By name."""
    result = runner.invoke(app, ["cluster", *arguments])
    assert result.exit_code in (1, 2), result.output
    assert "Traceback" not in result.output
