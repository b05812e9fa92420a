"""`python -m benchmarks` as a whole. No times."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import measure
from benchmarks.__main__ import WORKLOADS

ROOT = Path(__file__).parents[2]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


def test_a_row_that_loses_an_event_has_no_figure() -> None:
    """The harness refuses to report what did not happen."""

    async def stage(watch: measure.Stopwatch) -> int:
        with watch:
            await asyncio.sleep(0)
        return 9

    with pytest.raises(RuntimeError, match="9 of 10"):
        measure.repeated("W1", "loser", stage, 10, 1)


def test_a_part_of_a_run_leaves_its_record(tmp_path: Path) -> None:
    """Tables and a JSON line per row; the page of the latest run is left to whole runs."""
    result = _run("--only", "start", "--quick", "--results", str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "import laneway" in result.stdout
    assert "not in this run" in result.stdout
    (path,) = tmp_path.iterdir()
    _, *rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {row["workload"] for row in rows} == {"start"}


def test_an_unknown_workload_is_refused(tmp_path: Path) -> None:
    """With the names that there are."""
    result = _run("--only", "W9", "--results", str(tmp_path))
    assert result.returncode == 2
    assert all(workload.name in result.stderr for workload in WORKLOADS)
