"""The benchmark harness: every row accounts for every event, and a run leaves its record. No times."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import measure, overload, workload
from benchmarks.__main__ import DISPATCH

ROOT = Path(__file__).parents[2]


def test_the_workload_is_the_described_one() -> None:
    """Always the same events, 278 bytes each, in the stated shares."""
    work = workload.jobs(2_000)
    assert work == workload.jobs(2_000)
    assert {len(job.body) for job in work} == {workload.BODY_BYTES}
    assert 0.55 < sum(job.kind == "W_TEXT" for job in work) / len(work) < 0.65
    assert {job.kind for job in work} == {kind for kinds in workload.POOLS.values() for kind in kinds}


@pytest.mark.parametrize("row", DISPATCH)
def test_each_row_brings_every_event_back(row: str) -> None:
    """More events than may be in flight, and all come back; also when run again."""
    count = 2 * workload.IN_FLIGHT + 7
    figure = measure.repeated("W1", row, DISPATCH[row](workload.jobs(count)), count, 2)
    assert (figure.extra["count"], len(figure.values)) == (count, 2)


def test_a_row_that_loses_an_event_has_no_figure() -> None:
    """The harness refuses to report what did not happen."""

    async def stage(watch: measure.Stopwatch) -> int:
        with watch:
            await asyncio.sleep(0)
        return 9

    with pytest.raises(RuntimeError, match="9 of 10"):
        measure.repeated("W1", "loser", stage, 10, 1)


@pytest.mark.parametrize("row", overload.ROWS)
def test_overload_accounts_for_every_event(row: str) -> None:
    """Handled, or refused: nothing is missing, and no critical event is refused."""
    load = overload.measure(row, 0.2, 2)
    assert load.offered == 1_200
    assert load.normal_done + load.refused == load.offered - load.critical
    assert load.critical == 12


def test_a_run_leaves_its_record(tmp_path: Path) -> None:
    """`python -m benchmarks` prints tables and writes one JSON line per row, with machine, commit and date."""
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--events",
        "300",
        "--repeats",
        "1",
        "--overload-s",
        "0.1",
        "--overload-repeats",
        "1",
    ]
    result = subprocess.run(
        [*command, "--results", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "W1" in result.stdout
    (path,) = tmp_path.glob("*.jsonl")
    about, *rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {"machine", "commit", "date", "python", "cores"} <= set(about["about"])
    assert [row["row"] for row in rows] == [*DISPATCH, *overload.ROWS]


def test_the_committed_baseline_has_every_row() -> None:
    """The figures that the page quotes are those of the rows that there are."""
    lines = (ROOT / "benchmarks" / "results" / "baseline.jsonl").read_text(encoding="utf-8").splitlines()
    _, *rows = [json.loads(line) for line in lines]
    assert [row["row"] for row in rows] == [*DISPATCH, *overload.ROWS]
